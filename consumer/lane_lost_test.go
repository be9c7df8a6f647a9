package consumer_test

import (
	"bytes"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
)

// fillLane parks n events of a sick endpoint and stops their relay; the endpoint
// is well then, and nobody knows.
func fillLane(t *testing.T, o relaytest.Options, n int) *relaytest.Relay {
	t.Helper()
	o.Policy.Circuit.Delay = time.Hour
	r := relaytest.Start(t, o)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	for i := range n {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("parked_", i), "max_attempts": 50})
	}
	if !r.Eventually(func() bool { return count(t, r, "webhooks.parked.>") > n-10 && count(t, r, "webhooks.due.>") == 0 }) {
		t.Fatalf("%d parked", count(t, r, "webhooks.parked.>"))
	}
	r.Stop()
	endPauses(t, r)
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	return r
}

// loseQuestions loses what is asked of WEBHOOKS_LATER about such subjects, after the
// first few, until some are lost.
func loseQuestions(verb, subjects string, after, most int32) (edit, *atomic.Int32) {
	var asked, lost atomic.Int32
	return func(words []string, said []byte) []byte {
		if len(words) < 2 || words[1] != "$JS.API.STREAM."+verb+"."+consumer.StreamLater || !bytes.Contains(said, []byte(subjects)) {
			return said
		}
		if asked.Add(1) <= after || lost.Load() >= most {
			return said
		}
		lost.Add(1)
		return nil
	}, &lost
}

// A question that is never answered, as when a server dies with it in hand, holds a
// lane up for no longer than an answer may take, and other questions not at all.
func TestAQuestionThatIsLostHoldsUpNoLane(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		verb, subjects string
		after, most    int32
	}{
		"which lanes there are":     {"INFO", "webhooks.parked.", 1, 1000},
		"what is under way of one":  {"INFO", "webhooks.due.", 0, 1},
		"to remove what was copied": {"PURGE", "webhooks.parked.", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n, quick = 60, 8 * time.Second
			options := circuitOptions()
			options.Consumer.Sweep = 50 * time.Millisecond
			r := fillLane(t, options, n)
			up, lost := loseQuestions(c.verb, c.subjects, c.after, c.most)
			options.NATS, options.DatabaseURL, options.NATSURL = r.NATS, r.URL, newCable(t, r.NATS, up, nil).URL()
			began := time.Now()
			relaytest.Start(t, options)
			for i := range n {
				r.RequireDelivered(fmt.Sprint("parked_", i))
			}
			if took := time.Since(began); took > quick {
				t.Errorf("the lane was empty after %v, want at most %v", took, quick)
			}
			if lost.Load() == 0 {
				t.Error("nothing was lost")
			}
		})
	}
}

// Who drained a lane and stops gives it to the others, before its lease is over.
func TestALaneIsGivenBackAtTheEnd(t *testing.T) {
	t.Parallel()
	const n, soon = 60, 2500 * time.Millisecond // of the lease at least three seconds are left at any time
	options := circuitOptions()
	options.Consumer.Sweep = 200 * time.Millisecond
	options.Consumer.Lanes.Rate = 10 // so that it takes a while
	r := fillLane(t, options, n)
	options.NATS, options.DatabaseURL, options.Audit.Worker = r.NATS, r.URL, "one"
	one := relaytest.Start(t, options)
	before := len(r.Receiver.Requests())
	if !r.Eventually(func() bool { return len(r.Receiver.Requests()) > before+5 }) {
		t.Fatal("the lane does not drain")
	}
	another(t, r, options)
	one.Stop()
	stopped, lane := time.Now(), "webhooks.parked."+endpoint.Key(r.Receiver.URL)
	left := count(t, r, lane)
	if left == 0 {
		t.Fatal("the lane is empty already")
	}
	if !r.Eventually(func() bool { return count(t, r, lane) < left }) {
		t.Fatal("nobody drains the lane")
	}
	if took := time.Since(stopped); took > soon {
		t.Errorf("the lane went on after %v, want at most %v", took, soon)
	}
}
