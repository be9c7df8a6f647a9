package consumer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// However many copies of an event are alive, on whatever shelf, in whichever of
// two processes, and wherever the work on it breaks off before its request or
// after its record: it comes to one end, is answered 2xx once at most, and has
// a letter if it is dead.
func TestExtraCopiesChangeNothing(t *testing.T) {
	t.Parallel()
	server, db := relaytest.StartNATS(t), testdb.New(t)
	start := func(worker string) *relaytest.Relay {
		return relaytest.Start(t, relaytest.Options{
			NATS: server, DatabaseURL: db, Audit: audit.Options{Worker: worker},
			Policy: policy.Options{
				Schedule: []time.Duration{50 * time.Millisecond, 700 * time.Millisecond}, MaxBackoff: 100 * time.Millisecond,
				MaxRetryAfter: 100 * time.Millisecond, MaxThrottle: time.Millisecond, Jitter: -1,
				Circuit: policy.CircuitOptions{Failures: 4, Executions: 8, Delay: 200 * time.Millisecond},
			},
			Consumer: consumer.Options{AckWait: 2 * time.Second, MaxSleep: 500 * time.Millisecond, Sweep: 200 * time.Millisecond, At: breakOff},
		})
	}
	r, _ := start("a"), start("b")
	receiver := relaytest.NewReceiver(t)
	var mu sync.Mutex
	good := map[string]int{}
	receiver.Always(func(w http.ResponseWriter, req *http.Request) {
		code := []int{200, 200, 500, 500, 503, 404, 408}[rand.IntN(7)]
		if code == 200 {
			mu.Lock()
			good[req.Header.Get("webhook-id")]++
			mu.Unlock()
		}
		w.Header().Set("Retry-After", "1") // it is cut; without it each 503 asks for more rest than the one before
		w.WriteHeader(code)
	})
	ctx, cancel := context.WithCancel(t.Context())
	var copying sync.WaitGroup
	copying.Go(func() { copyAtRandom(ctx, t, r) })
	const n = 100
	for i := range n {
		r.Publish(map[string]any{"url": fmt.Sprint(receiver.URL, "/", i%6), "id": fmt.Sprint("copied_", i), "max_attempts": 4})
		if i%50 == 49 {
			ask(t, r, consumer.SubjectReplay, "all")
		}
		if i%40 == 39 { // whatever is parked there then, by now or in a copy
			ask(t, r, consumer.SubjectBury, receiver.URL+"/1")
			drain(t, r, receiver.URL+"/2")
		}
	}
	requireReached(t, r, n, func() int { return rows(t, r, "copied_", "delivered", "failed", "dead") })
	cancel()
	copying.Wait()
	requireEmpty(t, r)
	for i := range n {
		id := fmt.Sprint("copied_", i)
		w := r.RequireStatus(id, "delivered", "failed", "dead")
		if (w.Status == "delivered") != (good[id] == 1) || good[id] > 1 {
			t.Errorf("%s was answered 2xx %d times: %+v %+v", id, good[id], w, r.Attempts(id))
		}
		if w.Status != "delivered" {
			r.Letter(w)
		}
	}
}

// requireReached waits until a count reaches n, for as long as it grows.
func requireReached(t *testing.T, r *relaytest.Relay, n int, count func() int) {
	t.Helper()
	for before := count(); before < n; {
		now := before
		if !r.Eventually(func() bool { now = count(); return now > before }) {
			t.Fatalf("%d of %d, and nothing moves", now, n)
		}
		before = now
	}
}

// requireDelivered waits until n events whose ids begin so are delivered.
func requireDelivered(t *testing.T, r *relaytest.Relay, n int, prefix string) {
	t.Helper()
	requireReached(t, r, n, func() int { return rows(t, r, prefix, "delivered") })
}

// rows counts the events whose ids begin so and that have one of the statuses.
func rows(t *testing.T, r *relaytest.Relay, prefix string, statuses ...string) (n int) {
	t.Helper()
	err := r.DB.QueryRow(t.Context(), "SELECT count(*) FROM relay.webhooks WHERE starts_with(webhook_id, $1) AND status = ANY($2)",
		prefix, statuses).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// breakOff ends the work on a message now and then, where that costs no second
// request.
func breakOff(p consumer.Point) {
	switch p {
	case consumer.AfterClaim, consumer.AfterRecord, consumer.BeforeAck, consumer.AfterAck:
		if rand.IntN(50) == 0 {
			panic(p)
		}
	case consumer.AfterSend, consumer.BeforeRecord, consumer.AfterMove:
	}
}

// copyAtRandom makes due copies of whatever waits on the shelves.
func copyAtRandom(ctx context.Context, t *testing.T, r *relaytest.Relay) {
	t.Helper()
	made := 0
	defer func() { t.Logf("%d copies", made) }()
	stream, err := r.JS.Stream(ctx, consumer.StreamLater)
	if err != nil {
		t.Error(err)
		return
	}
	for ctx.Err() == nil {
		info, err := stream.Info(ctx)
		if err != nil || info.State.LastSeq == 0 {
			continue
		}
		first := max(info.State.FirstSeq, 1)
		raw, err := stream.GetMsg(ctx, first+rand.Uint64N(info.State.LastSeq-first+1))
		if err != nil {
			<-time.After(time.Millisecond)
			continue
		}
		key := strings.Split(raw.Subject, ".")[2]
		again := nats.NewMsg("webhooks.due." + key)
		again.Data = raw.Data
		for name, values := range raw.Header {
			if !strings.HasPrefix(name, "Nats-") {
				again.Header[name] = values
			}
		}
		if _, err := r.JS.PublishMsg(ctx, again); err == nil {
			made++
		}
		<-time.After(3 * time.Millisecond)
	}
}
