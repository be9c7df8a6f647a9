package consumer_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/relaytest"
)

// Many more events than relay has slots are queued for an endpoint that does
// not answer. Those for a healthy one, published behind them, are delivered
// while every request to the sick one still hangs.
func TestAHangingEndpointDoesNotHoldUpAHealthyOne(t *testing.T) {
	const slots, queued, healthy = 64, 1_000, 50
	r := relaytest.Start(t, relaytest.Options{
		Consumer: consumer.Options{Slots: slots},
		Delivery: delivery.Options{Timeout: 2 * relaytest.Patience},
	})
	sick := relaytest.NewReceiver(t)
	release := make(chan struct{})
	sick.Always(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusOK)
	})
	for i := range queued {
		r.Publish(map[string]any{"url": sick.URL, "id": fmt.Sprint("sick_", i)})
	}
	for i := range healthy {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("healthy_", i)})
	}
	for i := range healthy {
		r.RequireDelivered(fmt.Sprint("healthy_", i))
	}
	if n := len(sick.Requests()); n == 0 || n >= slots {
		t.Errorf("%d requests hang at the sick endpoint, want some of the %d slots", n, slots)
	}
	close(release)
	if !r.Eventually(func() bool { return len(sick.Requests()) == queued }) {
		t.Errorf("%d of %d events reached the endpoint when it was well again", len(sick.Requests()), queued)
	}
	requireEmpty(t, r)
}
