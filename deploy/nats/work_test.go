package nats_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// ackWait is short, so that held messages are kept alive while the test runs.
const ackWait = 2 * time.Second

// TestEveryoneDoesTheirWork takes webhooks every way that there is, each hand
// with its own credentials, and then asks what was refused: nothing. Nor may
// relay be granted what it has not used.
func TestEveryoneDoesTheirWork(t *testing.T) {
	s := startServer(t)
	used := traced(t, s)
	setUp(t, s, consumer.StreamOptions{AckWait: ackWait})
	w := &world{
		t: t, look: connect(t, s, onlooker), relay: connect(t, s, relayUser),
		producer: connect(t, s, producer), operator: connect(t, s, operator),
		receiver: relaytest.NewReceiver(t), heard: map[string][]string{},
	}
	w.receiver.Always(w.answer)
	w.listen()
	w.publish("slow-1", "/slow", nil) // there is a backlog when relay starts
	for i := range 7 {
		w.publish(fmt.Sprintf("slow-%d", i+2), "/slow", nil)
	}
	stop := w.run()
	for _, step := range []struct {
		name string
		test func(*testing.T)
	}{
		{"backlog", w.backlog}, {"retry", w.retry}, {"schedule", w.schedule}, {"overdue schedule", w.overdue},
		{"lane", w.lane}, {"dead letter and replay", w.replay},
	} {
		if !t.Run(step.name, step.test) {
			break // those that follow would wait in vain
		}
	}
	stop()
	for name, c := range map[string]*client{"relay": w.relay, "producer": w.producer, "operator": w.operator} {
		if refused := c.refusals(t); len(refused) > 0 {
			t.Errorf("%s was refused:\n%s", name, strings.Join(refused, "\n"))
		}
	}
	if t.Failed() {
		return
	}
	for _, grant := range grants(t, relayUser) {
		if !slices.ContainsFunc(used(w.relay), func(subject string) bool { return matches(subject, grant) }) {
			t.Errorf("relay may publish to %s, and never did", grant)
		}
	}
}

// world is everyone who has to do with webhooks, and what they know.
type world struct {
	t                               *testing.T
	look, relay, producer, operator *client
	receiver                        *relaytest.Receiver
	consumer                        *consumer.Consumer
	late                            atomic.Pointer[relay.Webhook]
	slow, sick, gone                atomic.Bool

	mu    sync.Mutex
	heard map[string][]string // webhook ids by event
}

// answer is the receiver's.
func (w *world) answer(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/sick" && w.sick.Load():
		rw.WriteHeader(http.StatusInternalServerError)
	case r.URL.Path == "/gone" && w.gone.Load():
		rw.WriteHeader(http.StatusNotFound)
	case r.URL.Path == "/slow":
		for tick := time.Tick(20 * time.Millisecond); w.slow.Load(); <-tick {
		}
	}
}

func (w *world) publish(id, path string, more map[string]any) {
	w.t.Helper()
	envelope := map[string]any{"id": id, "url": w.receiver.URL + path, "payload": map[string]any{"n": 1}}
	for k, v := range more {
		envelope[k] = v
	}
	body, err := json.Marshal(envelope)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.producer.js.Publish(w.t.Context(), "webhooks.outbound", body); err != nil {
		w.t.Fatal(err)
	}
}

// listen lets the operator hear what relay tells.
func (w *world) listen() {
	_, err := w.operator.Subscribe("relay.events.>", func(m *nats.Msg) {
		var e struct {
			ID string `json:"webhook_id"`
		}
		if json.Unmarshal(m.Data, &e) == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			event := strings.Split(m.Subject, ".")[2]
			w.heard[event] = append(w.heard[event], e.ID)
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	flush(w.t, w.operator)
}

func (w *world) hear(t *testing.T, event, id string) {
	t.Helper()
	eventually(t, "operator hears "+event+" of "+id, func(context.Context) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Contains(w.heard[event], id)
	})
}

// lateLog is an audit log that knows of a schedule which did not fire.
type lateLog struct {
	*audit.Log
	late *atomic.Pointer[relay.Webhook]
}

func (l lateLog) Overdue(context.Context, time.Duration, int) ([]relay.Webhook, error) {
	if w := l.late.Swap(nil); w != nil {
		return []relay.Webhook{*w}, nil
	}
	return nil, nil
}

// run starts a relay as cmd/relay does, on the connection of the user relay.
func (w *world) run() (stop func()) {
	t := w.t
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	pool, err := audit.Pool(t.Context(), testdb.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	record := audit.New(pool, audit.Options{Logger: log})
	registry, err := endpoint.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	sender, err := delivery.New(delivery.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AnyPort: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.CloseIdle)
	policies := policy.New(policy.Options{
		Schedule: []time.Duration{10 * time.Millisecond}, Jitter: -1,
		Circuit:   policy.CircuitOptions{Failures: 2, Executions: 2, Delay: 300 * time.Millisecond, DelayJitter: -1},
		OnCircuit: func(c policy.Circuit) { w.consumer.CircuitChanged(c.Key, string(c.State), c.Until) },
	})
	w.consumer, err = consumer.New(consumer.Options{
		Conn: w.relay.Conn, Log: lateLog{record, &w.late}, Policy: policies, Sender: sender, Endpoints: registry,
		Slots: 4, AckWait: ackWait, MaxSleep: 500 * time.Millisecond, Sweep: 200 * time.Millisecond, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.slow.Store(true)
	return w.start(record, policies)
}

func (w *world) start(record *audit.Log, policies *policy.Set) (stop func()) {
	t := w.t
	ctx, cancel := context.WithCancel(context.Background())
	after, cancelAfter := context.WithCancel(context.Background())
	var consuming, recording sync.WaitGroup
	recording.Go(func() { _ = record.Run(after) })
	recording.Go(func() { _ = policies.Run(after) })
	consuming.Go(func() {
		if err := w.consumer.Run(ctx); err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		consuming.Wait()
		cancelAfter()
		recording.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// backlog: more is waiting than relay has room for; it says how old that is,
// and keeps what it holds alive for longer than AckWait.
func (w *world) backlog(t *testing.T) {
	defer w.slow.Store(false)
	eventually(t, "the age of the backlog", func(context.Context) bool {
		return w.consumer.Stats().Queues[consumer.StreamQueue].OldestDue > ackWait
	})
	w.slow.Store(false)
	for i := range 8 {
		w.hear(t, "delivered", fmt.Sprintf("slow-%d", i+1))
	}
	if n := len(w.receiver.Requests()); n != 8 {
		t.Errorf("%d requests for 8 webhooks", n)
	}
}

func (w *world) retry(t *testing.T) {
	w.receiver.Answer(http.StatusInternalServerError)
	w.publish("flaky", "/flaky", nil)
	w.hear(t, "retry", "flaky")
	w.hear(t, "delivered", "flaky")
}

func (w *world) schedule(t *testing.T) {
	w.publish("later", "/later", map[string]any{"scheduled_at": time.Now().Add(1500 * time.Millisecond).Format(time.RFC3339Nano)})
	w.hear(t, "defer", "later")
	w.hear(t, "delivered", "later")
}

// overdue: relay is told that a schedule did not fire and publishes it again;
// as it is not due yet, it becomes a schedule once more.
func (w *world) overdue(t *testing.T) {
	w.publish("stuck", "/stuck", map[string]any{"scheduled_at": time.Now().Add(time.Hour).Format(time.RFC3339)})
	scheduled := func(ctx context.Context) (string, uint64) {
		stream, err := w.look.js.Stream(ctx, consumer.StreamLater)
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.GetMsg(ctx, 1, jetstream.WithGetMsgSubject("webhooks.later.>"))
		if err != nil {
			return "", 0
		}
		return m.Subject, m.Sequence
	}
	var subject string
	var first uint64
	eventually(t, "a schedule", func(ctx context.Context) bool {
		subject, first = scheduled(ctx)
		return first > 0
	})
	parts := strings.Split(subject, ".")
	key, err := relay.ParseKey(parts[3])
	if err != nil {
		t.Fatal(err)
	}
	w.late.Store(&relay.Webhook{EndpointKey: parts[2], Key: key})
	eventually(t, "a new schedule", func(ctx context.Context) bool {
		_, seq := scheduled(ctx)
		return seq > first
	})
}

// lane: the circuit opens, what follows is parked, and comes back when the
// endpoint is well.
func (w *world) lane(t *testing.T) {
	w.sick.Store(true)
	for i := range 12 {
		w.publish(fmt.Sprintf("sick-%d", i), "/sick", nil)
	}
	eventually(t, "a lane", func(context.Context) bool { return w.consumer.Stats().Lanes > 0 })
	w.sick.Store(false)
	for i := range 12 {
		w.hear(t, "delivered", fmt.Sprintf("sick-%d", i))
	}
	w.hear(t, "circuit", "")
}

// replay: the operator finds the service, brings a dead letter back, and is
// told what was wrong with a request.
func (w *world) replay(t *testing.T) {
	w.gone.Store(true)
	w.publish("wrong", "/gone", nil)
	w.hear(t, "dead", "wrong")
	w.gone.Store(false)
	if m := w.ask(t, "$SRV.PING.relay", ""); !strings.Contains(string(m.Data), `"name":"relay"`) {
		t.Errorf("ping: %s", m.Data)
	}
	if m := w.ask(t, consumer.SubjectReplay, "from here to there"); m.Header.Get("Nats-Service-Error-Code") != "400" {
		t.Errorf("a wrong request: %v %s", m.Header, m.Data)
	}
	eventually(t, "a letter replayed", func(context.Context) bool {
		var job consumer.Job
		m := w.ask(t, consumer.SubjectReplay, "all")
		if err := json.Unmarshal(m.Data, &job); err != nil {
			t.Fatalf("%v: %s", err, m.Data)
		}
		w.ask(t, consumer.SubjectJob, job.ID)
		return job.Replayed == 1
	})
	w.hear(t, "delivered", "wrong")
}

func (w *world) ask(t *testing.T, subject, text string) *nats.Msg {
	t.Helper()
	m, err := w.operator.Request(subject, []byte(text), patience)
	if err != nil {
		t.Fatalf("ask %s %q: %v", subject, text, err)
	}
	return m
}

// grants are the subjects to which a user may publish, but for the second form
// of acknowledgements, which servers with a JetStream domain use.
func grants(t *testing.T, user string) []string {
	t.Helper()
	o, err := server.ProcessConfigFile("nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range o.Users {
		if u.Username == user {
			return except(u.Permissions.Publish.Allow, "$JS.ACK.*.*.")
		}
	}
	t.Fatalf("no user %s", user)
	return nil
}

func matches(subject, pattern string) bool {
	if before, ok := strings.CutSuffix(pattern, ">"); ok {
		return strings.HasPrefix(subject, before)
	}
	return subject == pattern
}
