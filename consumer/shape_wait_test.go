package consumer_test

import (
	"bytes"
	"sync"
	"testing"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
)

// asIs is a template that changes nothing.
type asIs struct{}

func (asIs) Shape(w relay.Webhook) (relay.Webhook, error) { return w, nil }

// Somebody gives many endpoints templates that take long to compile, and has events
// for all of them: they are put off and use up no attempt, and relay's only hand is
// there for others.
func TestATemplateThatIsCompiledForLongHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	const n = 10
	first := relaytest.Start(t, relaytest.Options{Store: endpoint.StoreOptions{
		Compile: func([]byte) (relay.Shaper, error) { return asIs{}, nil },
	}})
	for i := range n {
		name := string(rune('a' + i))
		first.Register(map[string]any{"name": name, "url": first.Receiver.URL + "/" + name, "template": map[string]any{"body": name}})
	}
	first.Stop()
	goOn := make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	r := relaytest.Start(t, relaytest.Options{
		NATS: first.NATS, DatabaseURL: first.URL,
		Consumer: consumer.Options{Slots: 1},
		Store: endpoint.StoreOptions{Compile: func(text []byte) (relay.Shaper, error) {
			if bytes.Contains(text, []byte(`"a"`)) {
				<-goOn
			}
			return asIs{}, nil
		}},
	})
	var ids []string
	for i := range n {
		ids = append(ids, r.Publish(map[string]any{"endpoint": string(rune('a' + i)), "max_attempts": 1}))
	}
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL + "/healthy"}))
	if !r.Eventually(func() bool {
		ws := r.Webhooks(ids[0])
		return len(ws) == 1 && ws[0].Reason == relay.ErrNotReady.Error()
	}) {
		t.Errorf("recorded %+v", r.Webhooks(ids[0]))
	}
	if got := len(first.Receiver.Requests()); got != 0 {
		t.Errorf("%d requests before their template was there", got)
	}
	release()
	for _, id := range ids {
		if w := r.RequireDelivered(id); w.Attempts != 1 {
			t.Errorf("recorded %+v", w)
		}
	}
	requireEmpty(t, r)
}
