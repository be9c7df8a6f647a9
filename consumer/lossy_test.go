package consumer_test

import (
	"bytes"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/relaytest"
)

// lose loses every third of the answers to a batched read of a lane that follow
// another one in their batch, five in all, as a connection does that breaks in
// the middle.
func lose(lost *atomic.Int32) edit {
	var seen atomic.Int32
	return func(_ []string, said []byte) []byte {
		if !bytes.Contains(said, []byte("Nats-Subject: webhooks.parked.")) || bytes.Contains(said, []byte("Nats-Last-Sequence: 0\r\n")) {
			return said
		}
		if seen.Add(1)%3 != 1 || lost.Load() == 5 {
			return said
		}
		lost.Add(1)
		return nil
	}
}

// An answer that is lost in the middle of reading a lane costs no event: only
// what was copied is removed.
func TestALossyReadOfALaneLosesNoEvent(t *testing.T) {
	t.Parallel()
	options := circuitOptions()
	options.Policy.Circuit.Delay = time.Hour
	r := relaytest.Start(t, options)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	const n = 60
	for i := range n {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("lossy_", i), "max_attempts": 50})
	}
	if !r.Eventually(func() bool { return count(t, r, "webhooks.parked.>") > n-10 && count(t, r, "webhooks.due.>") == 0 }) {
		t.Fatalf("%d parked", count(t, r, "webhooks.parked.>"))
	}
	r.Stop()
	endPauses(t, r)
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	var lost atomic.Int32
	options.NATS, options.DatabaseURL, options.NATSURL = r.NATS, r.URL, newCable(t, r.NATS, nil, lose(&lost)).URL()
	relaytest.Start(t, options)
	for i := range n {
		r.RequireDelivered(fmt.Sprint("lossy_", i))
	}
	requireEmpty(t, r)
	if lost.Load() == 0 {
		t.Error("nothing was lost on the way")
	}
}
