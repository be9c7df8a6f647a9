package consumer_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

// hanging is longer than any test lets a request hang.
const hanging = 10 * time.Minute

// The tests of this file keep relay as busy as it can be, so none runs beside
// another test.

// Many more events than relay has slots are queued for an endpoint that does
// not answer. Those for a healthy one, published behind them, are delivered
// while every request to the sick one still hangs.
func TestAHangingEndpointDoesNotHoldUpAHealthyOne(t *testing.T) {
	const slots, queued, healthy = 64, 1_000, 50
	r := relaytest.Start(t, relaytest.Options{
		Consumer: consumer.Options{Slots: slots, AckWait: hanging},
		Policy:   policy.Options{Concurrency: slots / 2, Timeout: hanging / 2},
		Delivery: delivery.Options{Timeout: hanging / 2},
	})
	sick := relaytest.NewReceiver(t)
	released := make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	defer release()
	sick.Always(hold(released))
	for i := range queued {
		r.Publish(map[string]any{"url": sick.URL, "id": fmt.Sprint("sick_", i)})
	}
	for i := range healthy {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("healthy_", i)})
	}
	requireDelivered(t, r, healthy, "healthy_")
	if n := len(sick.Requests()); n == 0 || n > slots/2 {
		t.Errorf("%d requests hang at the sick endpoint, want some, and half of the %d slots at most", n, slots)
	}
	release()
	requireReached(t, r, queued, func() int { return len(sick.Requests()) })
	requireEmpty(t, r)
	if n := len(sick.Requests()); n != queued {
		t.Errorf("%d requests for %d events", n, queued)
	}
}

// R16: thousands of endpoints hang at once. They use up what relay allows to slow
// requests, and no more, of goroutines neither.
func TestThousandsOfHangingEndpointsDoNotHoldUpAHealthyOne(t *testing.T) {
	const slots, endpoints, each, healthy = 64, 10_000, 1, 50
	r := relaytest.Start(t, relaytest.Options{
		Consumer: consumer.Options{Slots: slots, SlowCalls: slots, AckWait: hanging},
		Policy:   policy.Options{SlowCalls: slots, Timeout: hanging / 2},
		Delivery: delivery.Options{Timeout: hanging / 2},
	})
	for range 10 { // known to be quick, also where the first call was not
		r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
	}
	goroutines := runtime.NumGoroutine()
	sick := relaytest.NewReceiver(t)
	released := make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	defer release()
	sick.Always(hold(released))
	for i := range endpoints * each {
		r.Publish(map[string]any{"url": fmt.Sprint(sick.URL, "/", i%endpoints), "id": fmt.Sprint("sick_", i)})
	}
	for i := range healthy {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("healthy_", i)})
	}
	requireDelivered(t, r, healthy, "healthy_")
	if n := len(sick.Requests()); n < slots || n > 2*slots {
		t.Errorf("%d requests hang, want between %d and twice as many", n, slots)
	}
	if n := runtime.NumGoroutine() - goroutines; n > 20*slots { // of relay, of both ends of each connection, of the receiver
		t.Errorf("%d more goroutines while %d requests hang", n, len(sick.Requests()))
	}
	release()
	requireReached(t, r, endpoints*each, func() int { return len(sick.Requests()) })
	requireEmpty(t, r)
	if n := len(sick.Requests()); n != endpoints*each {
		t.Errorf("%d requests for %d events", n, endpoints*each)
	}
}

// What waits behind an open circuit goes to its lane without a claim, and the
// record knows it.
func TestAQueueIsSetAsideWithoutClaims(t *testing.T) {
	options := circuitOptions()
	options.Policy.Circuit.Delay = time.Hour
	var claims atomic.Int64
	options.Consumer.At = func(p consumer.Point) {
		if p == consumer.AfterClaim {
			claims.Add(1)
		}
	}
	r := relaytest.Start(t, options)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	for i := range 3 {
		r.RequireDead(r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("opens_", i), "max_attempts": 1}))
	}
	before := claims.Load()
	const n = 700 // more than there are hands
	for i := range n {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("aside_", i)})
	}
	if !r.Eventually(func() bool { return count(t, r, "webhooks.parked.>") == n }) {
		t.Errorf("%d of %d parked", count(t, r, "webhooks.parked.>"), n)
	}
	var rows int
	err := r.DB.QueryRow(t.Context(), `SELECT count(*) FROM relay.webhooks
		WHERE status = 'pending' AND place = 'lane' AND reason LIKE 'circuit open%' AND attempts = 0`).Scan(&rows)
	if err != nil || rows != n {
		t.Errorf("%d of %d stand in the record as parked, %v", rows, n, err)
	}
	if n := claims.Load() - before; n != 0 {
		t.Errorf("%d of them were claimed", n)
	}
	if !r.Eventually(func() bool { return stored(t, r, consumer.StreamQueue) == 0 }) {
		t.Errorf("%d are still in the queue", stored(t, r, consumer.StreamQueue))
	}
}

// What is moved to lanes at the same time is stored in batches where each message
// is synced. A server that takes none stores each event alone.
func TestParkedEventsAreStoredTogether(t *testing.T) {
	for name, batches := range map[string]bool{"batches": true, "no batches": false} {
		t.Run(name, func(t *testing.T) {
			options := circuitOptions()
			options.Policy.Circuit.Delay = time.Hour
			r := relaytest.Start(t, options)
			limit(t, r, consumer.StreamLater, func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = batches })
			r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
			for i := range 3 {
				r.RequireDead(r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("opens_", i), "max_attempts": 1}))
			}
			const n = 1000 // some of them after it has been a while that an event was not refused
			var published []jetstream.PubAckFuture
			for i := range n {
				body := fmt.Sprintf(`{"url": %q, "id": "aside_%d"}`, r.Receiver.URL, i)
				ack, err := r.JS.PublishAsync(consumer.SubjectOutbound, []byte(body))
				if err != nil {
					t.Fatal(err)
				}
				published = append(published, ack)
			}
			for _, ack := range published {
				<-ack.Ok()
			}
			if !r.Eventually(func() bool {
				return count(t, r, "webhooks.parked.>") == n && stored(t, r, consumer.StreamQueue) == 0
			}) {
				t.Fatalf("%d of %d parked, %d in the queue", count(t, r, "webhooks.parked.>"), n, stored(t, r, consumer.StreamQueue))
			}
			if together := storedTogether(t, r); (together > 0) != batches {
				t.Errorf("%d of %d were stored in a batch", together, n)
			}
		})
	}
}

// storedTogether counts the parked events that came in one batch with others.
func storedTogether(t *testing.T, r *relaytest.Relay) (n int) {
	t.Helper()
	stream, err := r.JS.Stream(t.Context(), consumer.StreamLater)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		if err == nil && strings.HasPrefix(m.Subject, "webhooks.parked.") && m.Header.Get("Nats-Batch-Sequence") != "" {
			n++
		}
	}
	return n
}

// What sleeps wakes in time although something goes to sleep every few milliseconds,
// which has nats-server put off its look at what is due: see step.go.
func TestWhatSleepsWakesWhileOthersGoToSleep(t *testing.T) {
	const n, every, backoff, late = 600, 5 * time.Millisecond, 600 * time.Millisecond, 1500 * time.Millisecond
	r := relaytest.Start(t, relaytest.Options{
		Policy: policy.Options{Schedule: []time.Duration{backoff}, Circuit: policy.CircuitOptions{Failures: 1_000_000, Executions: 1_000_000}},
	})
	var mu sync.Mutex
	first, slowest := map[string]time.Time{}, time.Duration(0)
	r.Receiver.Always(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		id := req.Header.Get("Webhook-Id")
		if began, again := first[id]; again {
			slowest = max(slowest, time.Since(began)-backoff)
			return
		}
		first[id] = time.Now()
		w.WriteHeader(http.StatusInternalServerError)
	})
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range n {
		<-tick.C
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("again_", i)})
	}
	requireDelivered(t, r, n, "again_")
	mu.Lock()
	defer mu.Unlock()
	if slowest > late {
		t.Errorf("a second attempt came %v late, want %v at most", slowest, late)
	}
}
