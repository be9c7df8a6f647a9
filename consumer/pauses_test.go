package consumer_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

// patient is a circuit whose delay is longer than any test.
var patient = policy.CircuitOptions{Failures: 2, Executions: 2, Delay: time.Hour, DelayJitter: -1}

// another starts a second relay beside r, on the same servers.
func another(t *testing.T, r *relaytest.Relay, o relaytest.Options) *relaytest.Relay {
	t.Helper()
	o.NATS, o.DatabaseURL, o.Audit.Worker = r.NATS, r.URL, "another"
	return relaytest.Start(t, o)
}

// strike has an endpoint fail until its circuit is open.
func strike(t *testing.T, r *relaytest.Relay, url string) {
	t.Helper()
	for range 5 {
		r.Publish(map[string]any{"url": url})
	}
	if !r.Eventually(func() bool { return r.Policies.Rest(endpoint.Key(url)) > 0 }) {
		t.Fatal("no circuit opened")
	}
}

// endPauses empties the bucket: no endpoint is paused any more.
func endPauses(t *testing.T, r *relaytest.Relay) {
	t.Helper()
	bucket, err := r.JS.Stream(t.Context(), consumer.StreamPauses)
	if err == nil {
		err = bucket.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// line is a sick endpoint that notes when each request came and how many were
// there at once.
type line struct {
	mu          sync.Mutex
	came        []time.Time
	now, at1ce  int
	well, holds atomic.Bool
}

func (l *line) answer(w http.ResponseWriter, _ *http.Request) {
	l.mu.Lock()
	l.came = append(l.came, time.Now())
	l.now++
	l.at1ce = max(l.at1ce, l.now)
	l.mu.Unlock()
	if l.holds.Load() {
		<-time.After(200 * time.Millisecond) // a probe takes time, and another one would be seen beside it
	}
	l.mu.Lock()
	l.now--
	l.mu.Unlock()
	if !l.well.Load() {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// forget starts the count of requests at once again, and returns how many came
// so far.
func (l *line) forget() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at1ce = l.now
	return len(l.came)
}

func (l *line) since(n int) (came []time.Time, atOnce int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(came, l.came[n:]...), l.at1ce
}

// Of two relays one finds that an endpoint is dead, and within a second both
// refuse it. From then on a single probe at a time comes from both together, and
// when one succeeds, both deliver what was parked, everything once.
func TestProcessesShareAPause(t *testing.T) {
	t.Parallel()
	const delay, rounds, events = 700 * time.Millisecond, 4, 60
	var probes atomic.Int32
	o := relaytest.Options{Policy: policy.Options{
		MaxAttempts: 20,
		Circuit:     policy.CircuitOptions{Failures: 2, Executions: 2, Delay: delay, DelayJitter: -1},
		OnCircuit: func(c policy.Circuit) {
			if c.State == policy.HalfOpen {
				probes.Add(1)
			}
		},
	}}
	r := relaytest.Start(t, o)
	other := another(t, r, o)
	var sick line
	r.Receiver.Always(sick.answer)
	key := endpoint.Key(r.Receiver.URL)
	both := func() bool { return r.Policies.Rest(key) > 0 && other.Policies.Rest(key) > 0 }

	var ids []string
	for i := range events {
		ids = append(ids, r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("event_", i)}))
	}
	r.Eventually(func() bool { return r.Policies.Rest(key) > 0 || other.Policies.Rest(key) > 0 })
	opened := time.Now()
	// Relay's own bound is a second; that of a machine that is five times slower is
	// less than what reading the whole bucket again would take.
	if !r.Eventually(both) || time.Since(opened) > 5*time.Second {
		t.Fatalf("after %s one is paused for %s, the other for %s", time.Since(opened), r.Policies.Rest(key), other.Policies.Rest(key))
	}
	// Calls that were under way when the circuit opened are over by the first probe.
	if !r.Eventually(func() bool { return probes.Load() > 0 && both() }) {
		t.Fatal("there is no probe")
	}
	sick.holds.Store(true)
	start := sick.forget()
	if !r.Eventually(func() bool { came, _ := sick.since(start); return len(came) > rounds }) {
		t.Fatal("there are no probes")
	}
	came, atOnce := sick.since(start)
	if atOnce != 1 {
		t.Errorf("%d probes at once", atOnce)
	}
	for i := range came[1:] {
		if gap := came[i+1].Sub(came[i]); gap < delay {
			t.Errorf("probe %d came %s after the one before", i+1, gap)
		}
	}
	sick.holds.Store(false)
	sick.well.Store(true)
	for _, id := range ids {
		r.RequireDelivered(id)
	}
	requireEmpty(t, r)
	if here, others := r.Consumer.Pauses.Counts(); here+others != 0 {
		t.Errorf("%d and %d endpoints are still paused", here, others)
	}
}

// A process that died with the lease of a probe holds up the others for no longer
// than its lease.
func TestALeaseEndsWithItsHolder(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	r := relaytest.Start(t, relaytest.Options{Policy: policy.Options{
		Circuit: policy.CircuitOptions{Failures: 2, Executions: 2, Delay: 500 * time.Millisecond, DelayJitter: -1},
	}})
	id := r.Publish(map[string]any{"url": r.Receiver.URL, "payload": "first of all"})
	r.RequireDelivered(id)
	until := time.Now().Add(lease)
	_, err := r.JS.Publish(t.Context(), "$KV.relay_pauses."+endpoint.Key(r.Receiver.URL),
		fmt.Appendf(nil, `{"kind":"probing","until":%q,"worker":"dead","by":"dead"}`, until.Format(time.RFC3339Nano)))
	if err != nil {
		t.Fatal(err)
	}
	if !r.Eventually(func() bool { return r.Policies.Rest(endpoint.Key(r.Receiver.URL)) > 0 }) {
		t.Fatal("the lease of another process is not seen")
	}
	next := r.Publish(map[string]any{"url": r.Receiver.URL})
	r.RequireDelivered(next)
	if early := time.Until(until); early > 0 {
		t.Errorf("called %s before the lease ended", early)
	} else if early < -3*time.Second {
		t.Errorf("called %s after the lease ended", -early)
	}
}

// A relay that starts knows what others have paused before its first request.
func TestAPauseOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	o := relaytest.Options{Policy: policy.Options{Circuit: patient}}
	r := relaytest.Start(t, o)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	strike(t, r, r.Receiver.URL)
	r.Stop()
	before, lane := len(r.Receiver.Requests()), "webhooks.parked."+endpoint.Key(r.Receiver.URL)
	for range 20 { // they wait for a relay
		r.Publish(map[string]any{"url": r.Receiver.URL})
	}
	next := another(t, r, o)
	if rest := next.Policies.Rest(endpoint.Key(r.Receiver.URL)); rest < 50*time.Minute {
		t.Errorf("the next relay rests for %s, want an hour", rest)
	}
	if !r.Eventually(func() bool { return onSubject(t, r, consumer.StreamLater, lane) >= 20 }) {
		t.Errorf("%d events are parked", onSubject(t, r, consumer.StreamLater, lane))
	}
	if n := len(r.Receiver.Requests()) - before; n != 0 {
		t.Errorf("%d requests in spite of the pause", n)
	}
}

// onSubject counts the messages of a stream on one subject, which may not be there.
func onSubject(t *testing.T, r *relaytest.Relay, name, subject string) int {
	t.Helper()
	stream, err := r.JS.Stream(t.Context(), name)
	if err != nil {
		return 0
	}
	info, err := stream.Info(t.Context(), withFilter(subject))
	if err != nil {
		return 0
	}
	return int(info.State.Subjects[subject])
}

// An endpoint that asks one relay for rest gets it from both, and needs no probe
// afterwards.
func TestProcessesShareARest(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	other := another(t, r, relaytest.Options{})
	r.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "4")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	asked := time.Now()
	id := r.Publish(map[string]any{"url": r.Receiver.URL})
	r.Next()
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	key := endpoint.Key(r.Receiver.URL)
	if !r.Eventually(func() bool { return r.Policies.Rest(key) > 0 && other.Policies.Rest(key) > 0 }) {
		t.Fatalf("one rests for %s, the other for %s", r.Policies.Rest(key), other.Policies.Rest(key))
	}
	r.RequireDelivered(id)
	if took := time.Since(asked); took < 4*time.Second {
		t.Errorf("called again after %s, asked for 4 s", took)
	}
}

// Without its bucket each relay goes by what it knows itself, and says so. When
// the bucket is there again, so are the pauses.
func TestRelayWorksWithoutItsBucket(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{Policy: policy.Options{
		Circuit: policy.CircuitOptions{Failures: 2, Executions: 2, Delay: 500 * time.Millisecond, DelayJitter: -1},
	}})
	if err := r.JS.DeleteStream(t.Context(), consumer.StreamPauses); err != nil {
		t.Fatal(err)
	}
	if !r.Eventually(func() bool { return r.Consumer.Pauses.Away() != nil }) {
		t.Fatal("relay does not say that its bucket is gone")
	}
	if said := r.Consumer.Pauses.Away().Error(); !strings.Contains(said, consumer.BucketPauses) {
		t.Errorf("it says %q", said)
	}
	var sick line
	sickly := relaytest.NewReceiver(t)
	sickly.Always(sick.answer)
	var ids []string
	for range 10 {
		ids = append(ids, r.Publish(map[string]any{"url": sickly.URL, "max_attempts": 20}))
	}
	if !r.Eventually(func() bool { return r.Policies.Rest(endpoint.Key(sickly.URL)) > 0 }) {
		t.Fatal("the circuit did not open")
	}
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
	sick.well.Store(true)
	for _, id := range ids {
		r.RequireDelivered(id)
	}
	if _, err := consumer.Setup(t.Context(), r.JS, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	if !r.Eventually(func() bool { return r.Consumer.Pauses.Away() == nil }) {
		t.Errorf("the bucket is there again: %v", r.Consumer.Pauses.Away())
	}
}

// A bucket that was made anew gets back the pauses that have not ended.
func TestPausesComeBackToANewBucket(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{Policy: policy.Options{Circuit: patient}})
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	strike(t, r, r.Receiver.URL)
	key := "$KV.relay_pauses." + endpoint.Key(r.Receiver.URL)
	there := func() bool { return onSubject(t, r, consumer.StreamPauses, key) == 1 }
	if !r.Eventually(there) {
		t.Fatal("the pause is not in the bucket")
	}
	if err := r.JS.DeleteStream(t.Context(), consumer.StreamPauses); err != nil {
		t.Fatal(err)
	}
	if !r.Eventually(func() bool { return r.Consumer.Pauses.Away() != nil }) {
		t.Fatal("relay does not say that its bucket is gone")
	}
	if _, err := consumer.Setup(t.Context(), r.JS, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	if !r.Eventually(there) {
		t.Error("the pause is not in the new bucket")
	}
}

// Of two processes that ask for the same lease at the same moment one gets it,
// whatever they know of each other. When it is given back the other one may have
// it.
func TestOneProcessHasALease(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	other := another(t, r, relaytest.Options{})
	for i := range 20 {
		lease := relay.Pause{Key: fmt.Sprint("endpoint", i), Kind: relay.PauseProbe, Until: time.Now().Add(time.Minute)}
		var granted atomic.Int32
		var unanswered atomic.Bool
		var holder atomic.Pointer[consumer.Pauses]
		var asking sync.WaitGroup
		for _, p := range []*consumer.Pauses{r.Consumer.Pauses, other.Consumer.Pauses, r.Consumer.Pauses, other.Consumer.Pauses} {
			asking.Go(func() {
				asked := time.Now()
				switch {
				case !p.Lease(t.Context(), lease):
				case time.Since(asked) >= time.Second, p.Away() != nil: // so says who gets no answer
					unanswered.Store(true)
				case holder.Swap(p) != p:
					granted.Add(1)
				}
			})
		}
		asking.Wait()
		n := granted.Load()
		if n > 1 || n == 0 && !unanswered.Load() {
			t.Fatalf("%d processes have the lease of %s", n, lease.Key)
		}
		if i > 0 || n == 0 {
			continue
		}
		next := r.Consumer.Pauses
		if holder.Load() == next {
			next = other.Consumer.Pauses
		}
		if next.Lease(t.Context(), lease) {
			t.Error("a lease that is held is granted to another process")
		}
		holder.Load().Resumed(lease.Key)
		if !r.Eventually(func() bool { return next.Lease(t.Context(), lease) }) {
			t.Error("a lease that was given back is granted to nobody")
		}
	}
}

// An operator who wakes an endpoint by way of one relay wakes it in all.
func TestAPauseIsEndedEverywhere(t *testing.T) {
	t.Parallel()
	o := circuitOptions()
	o.Policy.Circuit = patient
	r := relaytest.Start(t, o)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	strike(t, r, r.Receiver.URL)
	other := another(t, r, o)
	key := endpoint.Key(r.Receiver.URL)
	if !r.Eventually(func() bool { return other.Policies.Rest(key) > 0 }) {
		t.Fatal("the pause is not known")
	}
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	other.Policies.Wake(key)
	if !r.Eventually(func() bool { return r.Policies.Rest(key) == 0 && other.Policies.Rest(key) == 0 }) {
		t.Errorf("one rests for %s, the other for %s", r.Policies.Rest(key), other.Policies.Rest(key))
	}
	requireEmpty(t, r)
}
