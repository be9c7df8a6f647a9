package consumer_test

import (
	"bytes"
	"fmt"
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
	const n = 60
	options := circuitOptions()
	options.Policy.Circuit.Delay = time.Hour
	r := fillLane(t, options, n)
	var lost atomic.Int32
	options.NATS, options.DatabaseURL, options.NATSURL = r.NATS, r.URL, newCable(t, r.NATS, nil, lose(&lost)).URL()
	relaytest.Start(t, options)
	for i := range n {
		r.RequireDelivered(fmt.Sprint("parked_", i))
	}
	requireEmpty(t, r)
	if lost.Load() == 0 {
		t.Error("nothing was lost on the way")
	}
}
