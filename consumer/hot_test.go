package consumer_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// A pull that ends at once, because nobody answers it, is not repeated at once.
func TestPullingFromNothingIsNotHot(t *testing.T) {
	t.Parallel()
	server := relaytest.StartNATS(t)
	var pulls atomic.Int64
	counted := newCable(t, server, func(words []string, said []byte) []byte {
		if len(words) > 1 && strings.Contains(words[1], "CONSUMER.MSG.NEXT.WEBHOOKS.relay") {
			pulls.Add(1)
		}
		return said
	}, nil)
	r := relaytest.Start(t, relaytest.Options{NATS: server, NATSURL: counted.URL()})
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
	if err := r.JS.DeleteConsumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue); err != nil {
		t.Fatal(err)
	}
	before := pulls.Load()
	if before == 0 {
		t.Fatal("the cable saw no pull")
	}
	<-time.After(3 * time.Second)
	if n := pulls.Load() - before; n > 20 {
		t.Errorf("%d pulls in 3 s", n)
	}
	if _, err := consumer.Setup(t.Context(), r.JS, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
}
