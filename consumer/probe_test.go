package consumer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/relaytest"
)

// A few events that fail whatever the state of their endpoint do not keep it closed
// to all others: what has failed is not the probe again and again.
func TestEventsThatAlwaysFailDoNotTakeEveryProbe(t *testing.T) {
	t.Parallel()
	const bad, good = 3, 40
	options := circuitOptions()
	options.Policy.Circuit.Delay = 1500 * time.Millisecond // so that all of them are parked before it is over
	r := relaytest.Start(t, options)
	r.Receiver.Always(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasPrefix(q.Header.Get("webhook-id"), "bad_") {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	for i := range bad {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("bad_", i), "max_attempts": 50})
	}
	if !r.Eventually(func() bool { return count(t, r, "webhooks.parked.>") == bad }) {
		t.Fatalf("%d parked", count(t, r, "webhooks.parked.>"))
	}
	for i := range good { // behind them, in the lane
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("good_", i)})
	}
	for i := range good {
		r.RequireDelivered(fmt.Sprint("good_", i))
	}
}
