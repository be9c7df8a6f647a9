package nats_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
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
	// After a failure, those that follow would wait in vain.
	done := t.Run("backlog", w.backlog) &&
		t.Run("retry", w.retry) &&
		t.Run("schedule", w.schedule) &&
		t.Run("overdue schedule", w.overdue) &&
		t.Run("lane", w.lane) &&
		t.Run("dead letter and replay", w.replay) &&
		t.Run("lanes for the operator", w.lanes) &&
		t.Run("endpoints for the operator", w.endpoints)
	stop()
	for name, c := range map[string]*client{"relay": w.relay, "producer": w.producer, "operator": w.operator} {
		if refused := c.refusals(t); len(refused) > 0 {
			t.Errorf("%s was refused:\n%s", name, strings.Join(refused, "\n"))
		}
	}
	if !done {
		return
	}
	for _, grant := range grants(t, relayUser) {
		if !slices.ContainsFunc(used(w.relay), func(subject string) bool { return matches(subject, grant) }) {
			t.Errorf("relay may publish to %s, and never did", grant)
		}
	}
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
// as it is not due yet, its copy sleeps.
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
	eventually(t, "a copy asleep in its place", func(ctx context.Context) bool {
		_, seq := scheduled(ctx)
		return seq == 0 && w.consumer.Stats().Queues[consumer.StreamLater].AckPending == 1
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

// lanes: the operator sees what is parked, gives some of it up, and has the rest
// sent.
func (w *world) lanes(t *testing.T) {
	w.sick.Store(true)
	for i := range 12 {
		w.publish(fmt.Sprintf("parked-%d", i), "/sick", nil)
	}
	var key string
	eventually(t, "a lane in the list", func(context.Context) bool {
		var lanes consumer.Lanes
		if err := json.Unmarshal(w.ask(t, consumer.SubjectLanes, "").Data, &lanes); err != nil {
			t.Fatal(err)
		}
		if lanes.Events == 0 {
			return false
		}
		key = lanes.Lanes[0].Endpoint
		return strings.HasPrefix(lanes.Lanes[0].URL, w.receiver.URL)
	})
	eventually(t, "something buried", func(context.Context) bool {
		var job consumer.Job
		if err := json.Unmarshal(w.ask(t, consumer.SubjectBury, key+" given up").Data, &job); err != nil {
			t.Fatal(err)
		}
		return job.Buried > 0
	})
	for _, subject := range []string{consumer.SubjectExpire, "relay.lanes.job"} {
		if m := w.ask(t, subject, "what.is.that"); m.Header.Get("Nats-Service-Error-Code") == "" {
			t.Errorf("%s: %v %s", subject, m.Header, m.Data)
		}
	}
	w.sick.Store(false)
	w.ask(t, consumer.SubjectDrain, key)
	eventually(t, "an end for each", func(context.Context) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for i := range 12 {
			id := fmt.Sprintf("parked-%d", i)
			ended := slices.Concat(w.heard["dead"], w.heard["failed"], w.heard["delivered"])
			if !slices.Contains(ended, id) {
				return false
			}
		}
		return true
	})
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

// endpoints: the operator registers one, pauses it, finds it and hears of it.
func (w *world) endpoints(t *testing.T) {
	events, err := w.operator.SubscribeSync("relay.events.endpoint.>")
	if err != nil {
		t.Fatal(err)
	}
	if m := w.ask(t, "$SRV.PING.relay-endpoints", ""); !strings.Contains(string(m.Data), `"name":"relay-endpoints"`) {
		t.Errorf("ping: %s", m.Data)
	}
	for _, step := range []struct{ verb, request, answer string }{
		{"put", `{"name": "orders", "url": "` + w.receiver.URL + `/orders"}`, `"source":"database"`},
		{"get", "orders", `"name":"orders"`},
		{"pause", "orders", `"held":"paused: `},
		{"list", "", `"count":1`},
		{"resume", "orders", `"done":"resumed"`},
		{"try", `{"endpoint": "orders", "payload": {"n": 1}}`, `"body":"{\"n\": 1}"`},
		{"delete", "orders", `"done":"deleted"`},
	} {
		if m := w.ask(t, endpoint.SubjectEndpoints+step.verb, step.request); !strings.Contains(string(m.Data), step.answer) {
			t.Errorf("%s %s: %s", step.verb, step.request, m.Data)
		}
	}
	for _, what := range []string{"registered", "paused", "resumed", "deleted"} {
		if m, err := events.NextMsg(patience); err != nil || !strings.HasPrefix(m.Subject, endpoint.SubjectEvents+what+".") {
			t.Errorf("heard %v, %v, want %s", m, err, what)
		}
	}
}
