package consumer_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// drain has an endpoint's lane released.
func drain(t *testing.T, r *relaytest.Relay, url string) {
	t.Helper()
	if _, err := r.Conn.Request(consumer.SubjectDrain, []byte(url), 5*time.Second); err != nil {
		t.Fatal(err)
	}
}

// The requests that an endpoint gets are never more than what it has answered
// allows: the slow start, as it looks from outside.
func TestADrainStartsSlowly(t *testing.T) {
	t.Parallel()
	const n = 300
	slow := consumer.LaneOptions{First: 2, Growth: 1.5, Most: 20}
	r := startWithLane(t, n, consumer.Options{Lanes: slow})
	var mu sync.Mutex
	began, answered, fault := 0, 0, ""
	r.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		if began++; float64(began) > float64(slow.First)+slow.Growth*float64(answered) || began-answered > slow.Most {
			fault = fmt.Sprintf("request %d after %d answers", began, answered)
		}
		mu.Unlock()
		<-time.After(10 * time.Millisecond) // there is time for too many to come
		mu.Lock()
		answered++
		mu.Unlock()
		w.WriteHeader(http.StatusOK)
	})
	drain(t, r, r.Receiver.URL)
	requireReached(t, r, n, func() int {
		mu.Lock()
		defer mu.Unlock()
		if fault != "" {
			t.Fatal(fault)
		}
		return answered
	})
	requireEmpty(t, r)
}

// Events that sleep until a far retry hold up their lane until a probe's time is over,
// or an operator says so. Then the others drain as slowly as before, although those
// wait beside them.
func TestADrainGoesOnBesideThoseThatSleep(t *testing.T) {
	t.Parallel()
	const n, most = 100, 5
	options := circuitOptions()
	options.Policy.Schedule = []time.Duration{10 * time.Minute}
	options.Policy.MaxBackoff = 10 * time.Minute
	options.Consumer.Lanes = consumer.LaneOptions{First: 1, Most: most}
	r := startLane(t, n, options)
	var mu sync.Mutex
	began, failed, inFlight, seen := 0, 0, 0, 0
	r.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		began++
		fails := began%10 == 0 && began <= 10*most // they fill the window
		inFlight++
		seen = max(seen, inFlight)
		mu.Unlock()
		<-time.After(100 * time.Millisecond) // several looks at the lane
		mu.Lock()
		defer mu.Unlock()
		inFlight--
		if fails {
			failed++
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	drain(t, r, r.Receiver.URL)
	requireReached(t, r, most, func() int {
		mu.Lock()
		defer mu.Unlock()
		return failed
	})
	if !r.Eventually(func() bool { return count(t, r, "webhooks.due.>") == most }) {
		t.Fatalf("%d under way, want the %d that sleep", count(t, r, "webhooks.due.>"), most)
	}
	drain(t, r, r.Receiver.URL)
	requireDelivered(t, r, n-most, "parked_")
	requireParked(t, r, 0)
	if mu.Lock(); seen > most {
		t.Errorf("%d requests at a time, want at most %d", seen, most)
	}
	mu.Unlock()
}

// No more events a second than the operator allows, however quick the endpoint.
func TestADrainHoldsItsRate(t *testing.T) {
	t.Parallel()
	const n, perSecond = 40, 50
	r := startWithLane(t, n, consumer.Options{Lanes: consumer.LaneOptions{First: 100, Rate: perSecond}})
	began := time.Now()
	drain(t, r, r.Receiver.URL)
	for i := range n {
		r.RequireDelivered(fmt.Sprint("parked_", i))
	}
	if took, least := time.Since(began), time.Second*(n-perSecond/10)/perSecond; took < least {
		t.Errorf("%d events took %v, at %d a second they take %v", n, took, perSecond, least)
	}
}

// While a lane is not empty, what comes new goes beside it if the endpoint may
// be called, and behind it if not.
func TestANewEventGoesBesideALaneOrBehindIt(t *testing.T) {
	t.Parallel()
	const n = 5
	r := startWithLane(t, n, consumer.Options{Lanes: consumer.LaneOptions{Rate: 0.001}}) // one event, and no other
	r.Publish(map[string]any{"url": r.Receiver.URL, "id": "behind"})
	requireParked(t, r, n+1)
	stream, err := r.JS.Stream(t.Context(), consumer.StreamLater)
	if err != nil {
		t.Fatal(err)
	}
	last := func() *jetstream.RawStreamMsg {
		t.Helper()
		raw, err := stream.GetLastMsgForSubject(t.Context(), "webhooks.parked."+r.Webhooks("behind")[0].EndpointKey)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	behind := last()
	if got := behind.Header.Get("Relay-Meta-Id"); got != "behind" {
		t.Fatalf("the lane's last event is %q, want the newest", got)
	}
	drain(t, r, r.Receiver.URL)
	requireParked(t, r, n)
	if !r.Eventually(func() bool { // the first one is delivered, and the circuit is closed
		return len(r.Receiver.Requests()) == 4 && lanes(t, r, r.Receiver.URL).Lanes[0].Rest == 0
	}) {
		t.Fatalf("%d requests, %+v", len(r.Receiver.Requests()), lanes(t, r, ""))
	}
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL, "id": "beside"}))
	requireParked(t, r, n)
	if now := last(); now.Sequence != behind.Sequence {
		t.Errorf("the lane's last event is %s now", now.Header.Get("Relay-Meta-Id"))
	}
}
