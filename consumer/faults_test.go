package consumer_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// hold answers 200 to each request when release is closed.
func hold(release <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusOK)
	}
}

// A process that is cut off from NATS for longer than AckWait in the middle of
// a request causes no second request, although JetStream gives its message to
// another process.
func TestACutFromNATSCausesNoSecondRequest(t *testing.T) {
	t.Parallel()
	server := relaytest.StartNATS(t)
	line := newCable(t, server, nil, nil)
	const ackWait = time.Second
	options := relaytest.Options{
		NATS: server, DatabaseURL: testdb.New(t), NATSURL: line.URL(),
		Consumer: consumer.Options{AckWait: ackWait},
		Audit:    audit.Options{Lease: 10 * time.Second, Worker: "cut off"},
	}
	cutOff := relaytest.Start(t, options)
	release := make(chan struct{})
	cutOff.Receiver.Always(hold(release))
	id := cutOff.Publish(map[string]any{"url": cutOff.Receiver.URL})
	cutOff.Next()
	line.Cut()

	options.NATSURL, options.Audit.Worker = "", "connected"
	other := relaytest.Start(t, options)
	deliveries := func() uint64 {
		durable, err := other.JS.Consumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue)
		if err != nil {
			t.Fatal(err)
		}
		return durable.CachedInfo().Delivered.Consumer
	}
	if !other.Eventually(func() bool { return deliveries() >= 2 }) {
		t.Fatal("JetStream did not give the message to the other process")
	}
	line.Mend()
	close(release)
	w := other.RequireDelivered(id)
	if n := len(cutOff.Receiver.Requests()); n != 1 || w.Attempts != 1 {
		t.Errorf("%d requests, recorded %+v", n, w)
	}
	requireEmpty(t, other)
}

// Two processes share the work, and stopping one, in the middle of its
// requests, makes no duplicate and loses nothing.
func TestTwoProcessesShareTheWorkAndEitherCanStop(t *testing.T) {
	t.Parallel()
	server, db := relaytest.StartNATS(t), testdb.New(t)
	start := func(worker string) *relaytest.Relay {
		return relaytest.Start(t, relaytest.Options{
			NATS: server, DatabaseURL: db, Audit: audit.Options{Worker: worker}, Consumer: consumer.Options{Slots: 8},
		})
	}
	a, b := start("a"), start("b")
	receiver := relaytest.NewReceiver(t)
	const n = 400
	for i := range n {
		if i == n/2 {
			a.Stop()
		}
		a.Publish(map[string]any{"url": receiver.URL, "id": fmt.Sprint("shared_", i)})
	}
	for i := range n {
		if w := b.RequireDelivered(fmt.Sprint("shared_", i)); w.Attempts != 1 {
			t.Errorf("recorded %+v", w)
		}
	}
	if got := len(receiver.Requests()); got != n {
		t.Errorf("%d requests for %d webhooks", got, n)
	}
	rows, err := b.DB.Query(t.Context(), `SELECT worker, count(*) FROM relay.attempts GROUP BY worker`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	workers := 0
	for ; rows.Next(); workers++ {
	}
	if workers != 2 {
		t.Errorf("%d workers made the attempts, want 2", workers)
	}
	requireEmpty(t, b)
}

// Stopping with requests under way finishes, records and acknowledges them.
func TestStopFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	release := make(chan struct{})
	r.Receiver.Always(hold(release))
	const n = 5
	for i := range n {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("hand_", i)})
	}
	for range n {
		r.Next()
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.Stop()
	}()
	close(release)
	<-stopped
	for i := range n {
		if w := r.Webhooks(fmt.Sprint("hand_", i)); len(w) != 1 || w[0].Status != "delivered" {
			t.Errorf("recorded %+v", w)
		}
	}
	requireEmpty(t, r)
}

// A restart of Postgres in the middle of the work makes no duplicate and loses
// no row: what was sent waits to be recorded, and nothing new is sent.
func TestPostgresMayGoAway(t *testing.T) {
	t.Parallel()
	db := testdb.Server(t)
	r := relaytest.Start(t, relaytest.Options{DatabaseURL: db.URL(), Consumer: consumer.Options{Slots: 16}})
	release := make(chan struct{})
	r.Receiver.Always(hold(release))
	const n = 100
	for i := range n {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("pg_", i)})
	}
	r.Next()
	db.Kill()
	close(release)
	if err := db.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if w := r.RequireDelivered(fmt.Sprint("pg_", i)); w.Attempts != 1 {
			t.Errorf("recorded %+v", w)
		}
	}
	if got := len(r.Receiver.Requests()); got != n {
		t.Errorf("%d requests for %d webhooks", got, n)
	}
	requireEmpty(t, r)
}

// A panic over one message takes down neither the process nor a slot, and the
// message is settled when it comes again.
func TestAPanicOverOneMessageIsSurvived(t *testing.T) {
	t.Parallel()
	panics := 0
	r := relaytest.Start(t, relaytest.Options{
		Consumer: consumer.Options{
			Slots: 1, AckWait: time.Second,
			Observe: func(relay.Webhook, []relay.Attempt, relay.Verdict) {
				if panics++; panics == 1 {
					panic("boom")
				}
			},
		},
	})
	first := r.Publish(map[string]any{"url": r.Receiver.URL})
	r.RequireDelivered(first)
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
	requireEmpty(t, r)
	if n := len(r.Receiver.Requests()); n != 2 {
		t.Errorf("%d requests for two webhooks", n)
	}
}

// A process that is paused between its claim and its request, for longer than
// the claim, sends nothing under it: another may have the event now.
func TestAClaimThatIsOverSendsNothing(t *testing.T) {
	t.Parallel()
	requireNothingSent(t, time.Second, 1200*time.Millisecond)
}

// Nor does it begin what the end of the claim would cut off: the endpoint may
// have answered by then, and would be called again. (Fault campaign, at 400
// events a second.)
func TestAClaimThatIsNearlyOverSendsNothing(t *testing.T) {
	t.Parallel()
	requireNothingSent(t, 3*time.Second, 1500*time.Millisecond)
}

// requireNothingSent has a process pause for so long with a claim of this lease:
// the event is put off, and delivered under the next claim.
func requireNothingSent(t *testing.T, lease, pause time.Duration) {
	t.Helper()
	paused, deferred := false, 0
	r := relaytest.Start(t, relaytest.Options{
		Audit: audit.Options{Lease: lease},
		Consumer: consumer.Options{
			Slots: 1,
			At: func(p consumer.Point) {
				if p == consumer.AfterClaim && !paused {
					paused = true
					<-time.After(pause)
				}
			},
			Observe: func(_ relay.Webhook, as []relay.Attempt, v relay.Verdict) {
				if v.Action == relay.Defer && len(as) == 0 {
					deferred++
				}
			},
		},
	})
	w := r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
	if n := len(r.Receiver.Requests()); n != 1 || w.Attempts != 1 {
		t.Errorf("%d requests, recorded %+v", n, w)
	}
	requireEmpty(t, r)
	r.Stop()
	if deferred == 0 { // more often than once, if this machine is as slow as that
		t.Error("it was not put off")
	}
}
