package consumer_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

// fill has JetStream take other messages until it takes no more. What it
// returns makes room again.
func fill(t *testing.T, r *relaytest.Relay) (empty func()) {
	t.Helper()
	other, err := r.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	if err != nil {
		t.Fatal(err)
	}
	for size := 256 << 10; size > 0; size /= 4 {
		for refused := false; !refused; {
			_, err = r.JS.Publish(t.Context(), "other", make([]byte, size))
			if _, refused = errors.AsType[*jetstream.APIError](err); err != nil && !refused && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
	}
	return func() {
		t.Helper()
		if err := other.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// C13: JetStream has no room. Producers are told, and what it has confirmed
// before waits until there is room for its next step: a retry that cannot be
// scheduled is neither lost nor early.
func TestAFullJetStreamTellsProducersAndLosesNothing(t *testing.T) {
	t.Parallel()
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: t.TempDir(), Port: -1, MaxStore: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	const wait = 3 * time.Second
	r := relaytest.Start(t, relaytest.Options{
		NATS:     server,
		Policy:   policy.Options{Schedule: []time.Duration{wait}, Jitter: -1},
		Consumer: consumer.Options{AckWait: time.Second, MaxSleep: 100 * time.Millisecond},
		Audit:    audit.Options{Lease: time.Minute}, // the request outlasts the filling
	})
	release := make(chan struct{})
	r.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusInternalServerError)
	})
	id := r.Publish(map[string]any{"url": r.Receiver.URL})
	r.Next()
	empty := fill(t, r)
	if _, err := r.JS.Publish(t.Context(), consumer.SubjectOutbound, []byte(`{"url":"https://a.example/"}`)); err == nil {
		t.Error("JetStream confirmed an event that it has no room for")
	}
	close(release)
	redelivered := func() int {
		durable, err := r.JS.Consumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue)
		if err != nil {
			t.Fatal(err)
		}
		return durable.CachedInfo().NumRedelivered
	}
	if !r.Eventually(func() bool { return redelivered() == 1 }) || stored(t, r, consumer.StreamLater) != 0 {
		t.Fatalf("delivered again: %d, scheduled: %d; want the move to fail", redelivered(), stored(t, r, consumer.StreamLater))
	}
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	empty()
	r.RequireDelivered(id)
	requireEmpty(t, r)
	as := r.Attempts(id)
	if n := len(r.Receiver.Requests()); n != 2 || len(as) != 2 || as[1].Started.Sub(as[0].Started) < wait {
		t.Errorf("%d requests and the attempts %+v; want two, at least %v apart", n, as, wait)
	}
}
