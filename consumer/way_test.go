package consumer_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

func raw(url string, body []byte, headers ...string) *nats.Msg {
	m := nats.NewMsg(consumer.SubjectOutbound)
	m.Data = body
	m.Header.Set("Relay-Url", url)
	for i := 0; i < len(headers); i += 2 {
		m.Header.Add(headers[i], headers[i+1])
	}
	return m
}

func TestAWebhookIsDelivered(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	id := r.Publish(map[string]any{
		"url": r.Receiver.URL + "/hook?token=x", "payload": map[string]any{"n": 1}, "headers": map[string]any{"X-Shop": "17"},
		"event_type": "order.paid", "metadata": map[string]any{"a": 1},
	})
	req := r.Next()
	if req.ID() != id || req.Path != "/hook?token=x" || string(req.Body) != `{"n":1}` || req.Header.Get("X-Shop") != "17" {
		t.Errorf("the receiver got %+v", req)
	}
	w := r.RequireDelivered(id)
	if w.Attempts != 1 || w.Place != string(relay.Gone) {
		t.Errorf("recorded %+v", w)
	}
	as := r.Attempts(id)
	if len(as) != 1 || !as[0].Success || as[0].Status != 200 || as[0].Number != 1 || as[0].Kind != "response" {
		t.Errorf("attempts %+v", as)
	}
	requireEmpty(t, r)
}

// requireEmpty waits until nothing is left on the two queues, for as long as
// they become shorter.
func requireEmpty(t *testing.T, r *relaytest.Relay) {
	t.Helper()
	var queued, later int
	left := func() int {
		queued, later = stored(t, r, consumer.StreamQueue), stored(t, r, consumer.StreamLater)
		return queued + later
	}
	for before := left(); before > 0; {
		now := before
		if !r.Eventually(func() bool { now = left(); return now < before }) {
			t.Errorf("left unacknowledged: %d on %s, %d on %s", queued, consumer.StreamQueue, later, consumer.StreamLater)
			return
		}
		before = now
	}
}

func TestAnyBytesArriveAsTheyWere(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	body := []byte("\x00\xff {{Count}} \n\r\n ü")
	r.PublishMsg(raw(r.Receiver.URL, body, "Relay-Id", "bytes", "Relay-Content-Type", "application/octet-stream",
		"Relay-Header-X-Many", "a", "Relay-Header-X-Many", "b", "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
	req := r.Next()
	if !bytes.Equal(req.Body, body) {
		t.Errorf("body %q", req.Body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/octet-stream", "X-Many": "a,b", "Webhook-Id": "bytes",
		"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	} {
		if got := strings.Join(req.Header[name], ","); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	r.RequireDelivered("bytes")
}

func TestAFailureIsRetriedUntilItSucceeds(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	r.Receiver.Answer(500, 503, 429)
	id := r.Publish(map[string]any{"url": r.Receiver.URL})
	w := r.RequireDelivered(id)
	as := r.Attempts(id)
	if w.Attempts != 4 || len(as) != 4 {
		t.Fatalf("%d attempts counted, %d recorded, want 4: %+v", w.Attempts, len(as), as)
	}
	for i, want := range []int{500, 503, 429, 200} {
		if as[i].Status != want || as[i].Number != i+1 || as[i].Success != (want == 200) {
			t.Errorf("attempt %d: %+v, want status %d", i+1, as[i], want)
		}
	}
	for _, req := range r.Receiver.Requests() {
		if req.ID() != id {
			t.Errorf("a retry has another id: %s", req.ID())
		}
	}
	requireEmpty(t, r)
}

func TestExhaustedAndPermanentFailuresAreBuried(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	for name, c := range map[string]struct {
		code, attempts int
		status, reason string
		lastStatus     string
	}{
		"always 500": {500, 3, "failed", "all 3 attempts", "500"},
		"gone":       {410, 1, "dead", "410", "410"},
		"not found":  {404, 1, "dead", "404", "404"},
	} {
		t.Run(name, func(t *testing.T) {
			receiver := relaytest.NewReceiver(t)
			receiver.Always(relaytest.Status(c.code))
			body := fmt.Sprintf(`{"url":%q,"max_attempts":3,"payload":[1,  2],"id":"code_%d"}`, receiver.URL, c.code)
			m := nats.NewMsg(consumer.SubjectOutbound + ".shop")
			m.Data = []byte(body)
			m.Header = nats.Header{"X-Many": {"a", "b"}, "x-lower": {"c"}, "Nats-Msg-Id": {fmt.Sprint("m", c.code)}}
			r.PublishMsg(m)
			w := r.RequireDead(fmt.Sprint("code_", c.code))
			if w.Status != c.status || w.Attempts != c.attempts || !strings.Contains(w.Reason, c.reason) {
				t.Errorf("recorded %+v", w)
			}
			letter := r.Letter(w)
			if string(letter.Data) != body || len(letter.Header["X-Many"]) != 2 || letter.Header["x-lower"][0] != "c" {
				t.Errorf("the letter is not as published: %v %s", letter.Header, letter.Data)
			}
			h := letter.Header
			if h.Get("Relay-Meta-Reason") != w.Reason || h.Get("Relay-Meta-Attempts") != fmt.Sprint(c.attempts) ||
				h.Get("Relay-Meta-Last-Status") != c.lastStatus || h.Get("Relay-Meta-Status") != c.status ||
				h.Get("Relay-Meta-Subject") != consumer.SubjectOutbound+".shop" || h.Get("Nats-Msg-Id") != "" {
				t.Errorf("the letter says %v", h)
			}
		})
	}
	requireEmpty(t, r)
}

func TestAnInvalidMessageIsBuriedOnceWithAllItsFaults(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	m := nats.NewMsg(consumer.SubjectOutbound)
	m.Data = []byte(`{"url":"ftp://example.com","max_attempts":0,"id":"bad","idempotency_key":"k"}`)
	r.PublishMsg(m)
	w := r.RequireDead("bad")
	if w.Status != "dead" || w.EndpointKey != relay.InvalidEndpoint || w.Attempts != 0 {
		t.Errorf("recorded %+v", w)
	}
	for _, want := range []string{"invalid: ", "url: ", "max_attempts: "} {
		if !strings.Contains(w.Reason, want) {
			t.Errorf("the reason %q does not name %q", w.Reason, want)
		}
	}
	r.PublishMsg(&nats.Msg{Subject: consumer.SubjectOutbound, Data: []byte("\x00not JSON\xff")})
	r.PublishMsg(raw("http://169.254.169.254/latest", nil, "Relay-Id", "metadata_service"))
	if w := r.RequireDead("metadata_service"); !strings.Contains(w.Reason, "169.254.169.254") {
		t.Errorf("recorded %+v", w)
	}
	if as := r.Attempts("metadata_service"); len(as) != 1 || as[0].Kind != "blocked" {
		t.Errorf("attempts %+v", as)
	}
	requireEmpty(t, r)
	if n := len(r.Receiver.Requests()); n != 0 {
		t.Errorf("%d requests for invalid messages", n)
	}
}

func TestAForgedGenerationIsIgnored(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	r.PublishMsg(raw(r.Receiver.URL, nil, "Relay-Id", "forged", "Relay-Meta-Generation", "5", "Relay-Meta-Key", "1-1", "Relay-Meta-Id", "other"))
	w := r.RequireDelivered("forged")
	if w.Generation != 0 || w.Key.Seq == 1 && w.Key.Time.Unix() == 0 {
		t.Errorf("relay believed a producer: %+v", w)
	}
}

func TestScheduledAtAndExpiresAt(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	at := time.Now().Add(2 * time.Second).Truncate(time.Second)
	id := r.Publish(map[string]any{"url": r.Receiver.URL, "scheduled_at": at.Format(time.RFC3339)})
	late := r.Publish(map[string]any{"url": r.Receiver.URL, "expires_at": "2020-01-01T00:00:00Z"})
	if w := r.RequireDead(late); !strings.Contains(w.Reason, "expired") || w.Attempts != 0 {
		t.Errorf("recorded %+v", w)
	}
	if req := r.Next(); req.ID() != id || req.At.Before(at) {
		t.Errorf("%s arrived at %v, before %v", req.ID(), req.At, at)
	}
	if w := r.RequireDelivered(id); w.Attempts != 1 {
		t.Errorf("waiting used up attempts: %+v", w)
	}
}

// A long wait is a schedule in JetStream, and outlives the process.
func TestAScheduleOutlivesARestart(t *testing.T) {
	t.Parallel()
	options := relaytest.Options{Consumer: consumer.Options{MaxSleep: time.Second}}
	r := relaytest.Start(t, options)
	at := time.Now().Add(3 * time.Second).Truncate(time.Second)
	id := r.Publish(map[string]any{"url": r.Receiver.URL, "scheduled_at": at.Format(time.RFC3339)})
	if !r.Eventually(func() bool {
		ws := r.Webhooks(id)
		return len(ws) == 1 && ws[0].Place == string(relay.Scheduled) && count(t, r, "webhooks.later.>") == 1
	}) {
		t.Fatalf("not scheduled: %+v", r.Webhooks(id))
	}
	r.Stop()
	options.NATS, options.DatabaseURL = r.NATS, r.URL
	relaytest.Start(t, options)
	if req := r.Next(); req.ID() != id || req.At.Before(at) {
		t.Errorf("%s arrived at %v, before %v", req.ID(), req.At, at)
	}
	r.RequireDelivered(id)
	requireEmpty(t, r)
}

// count is how many messages wait on the subjects of WEBHOOKS_LATER.
func count(t *testing.T, r *relaytest.Relay, filter string) int {
	t.Helper()
	stream, err := r.JS.Stream(t.Context(), consumer.StreamLater)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), withFilter(filter))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range info.State.Subjects {
		n += int(c)
	}
	return n
}

func TestAnIdempotencyKeyIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	first := r.Publish(map[string]any{"url": r.Receiver.URL, "idempotency_key": "order 17"})
	r.RequireDelivered(first)
	second := r.Publish(map[string]any{"url": r.Receiver.URL, "idempotency_key": "order 17"})
	other := r.Publish(map[string]any{"url": r.Receiver.URL, "idempotency_key": "order 17", "tenant": "acme"})
	r.RequireDelivered(other)
	if w := r.RequireStatus(second, "dead"); !strings.Contains(w.Reason, "duplicate of") || !strings.Contains(w.Reason, first) {
		t.Errorf("recorded %+v", w)
	}
	if n := len(r.Receiver.Requests()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	requireEmpty(t, r)
}

// An open circuit parks what comes; a probe finds the endpoint well again, and
// the lane drains. Parking uses up no attempt.
func TestAnOpenCircuitParksAndItsLaneDrains(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, circuitOptions())
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	const n = 40
	ids := make([]string, n)
	for i := range ids {
		ids[i] = r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("parked_", i), "max_attempts": 50})
	}
	if !r.Eventually(func() bool { return count(t, r, "webhooks.parked.>") > n/2 }) {
		t.Fatalf("%d parked", count(t, r, "webhooks.parked.>"))
	}
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	attempts := 0
	for _, id := range ids {
		attempts += r.RequireDelivered(id).Attempts
	}
	if requests := len(r.Receiver.Requests()); requests != attempts {
		t.Errorf("%d requests and %d attempts", requests, attempts)
	}
	requireEmpty(t, r)
}

func circuitOptions() relaytest.Options {
	return relaytest.Options{
		Policy: policy.Options{
			Schedule: []time.Duration{100 * time.Millisecond}, MaxAttempts: 50, MaxBackoff: 200 * time.Millisecond,
			Circuit: policy.CircuitOptions{Failures: 3, Executions: 3, Delay: 300 * time.Millisecond},
		},
		Consumer: consumer.Options{Sweep: 200 * time.Millisecond},
	}
}

// The stream is the register of lanes: a process that knows nothing of them
// finds them.
func TestAFullLaneDrainsAfterARestart(t *testing.T) {
	t.Parallel()
	options := circuitOptions()
	options.Policy.Circuit.Delay = time.Hour
	r := relaytest.Start(t, options)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	const n = 30
	for i := range n {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("lane_", i), "max_attempts": 50})
	}
	if !r.Eventually(func() bool { return count(t, r, "webhooks.parked.>") > n/2 && count(t, r, "webhooks.due.>") == 0 }) {
		t.Fatalf("%d parked", count(t, r, "webhooks.parked.>"))
	}
	r.Stop()
	endPauses(t, r)
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	options.NATS, options.DatabaseURL = r.NATS, r.URL
	relaytest.Start(t, options)
	for i := range n {
		r.RequireDelivered(fmt.Sprint("lane_", i))
	}
	requireEmpty(t, r)
}

// Nothing waits for ever: what expires behind an open circuit is buried, without
// its endpoint.
func TestAParkedEventExpires(t *testing.T) {
	t.Parallel()
	options := circuitOptions()
	options.Policy.Circuit.Delay = time.Hour
	r := relaytest.Start(t, options)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	for i := range 3 {
		r.RequireDead(r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("opens_", i), "max_attempts": 1}))
	}
	const n = 5
	for i := range n {
		r.Publish(map[string]any{
			"url": r.Receiver.URL, "id": fmt.Sprint("expires_", i),
			"expires_at": time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339),
		})
	}
	for i := range n {
		w := r.RequireDead(fmt.Sprint("expires_", i))
		if w.Attempts != 0 || !strings.Contains(w.Reason, "expired") {
			t.Errorf("recorded %+v", w)
		}
	}
	requireEmpty(t, r)
}

// Two events with one producer's id stay two events, wherever they wait.
func TestTwoEventsWithOneIDStayTwo(t *testing.T) {
	t.Parallel()
	options := circuitOptions()
	options.Policy.Circuit.Delay = time.Hour
	r := relaytest.Start(t, options)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	for i := range 3 {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("opens_", i), "max_attempts": 1})
		r.RequireDead(fmt.Sprint("opens_", i))
	}
	for n := range 2 {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": "twin", "payload": n, "max_attempts": 1})
	}
	if !r.Eventually(func() bool { return count(t, r, "webhooks.parked.>") == 2 }) {
		t.Fatalf("%d of the twins are parked", count(t, r, "webhooks.parked.>"))
	}
	for range 2 { // one probe each
		letters := stored(t, r, consumer.StreamDead)
		drain(t, r, r.Receiver.URL)
		if !r.Eventually(func() bool { return stored(t, r, consumer.StreamDead) > letters }) {
			t.Fatalf("%d letters, and no other comes", letters)
		}
	}
	r.RequireDead("twin")
	if ws := r.Webhooks("twin"); len(ws) != 2 {
		t.Fatalf("%d rows for two events", len(ws))
	} else if a, b := r.Letter(ws[0]), r.Letter(ws[1]); a.Sequence == b.Sequence {
		t.Error("one letter for two events")
	}
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	drain(t, r, r.Receiver.URL)
	replay(t, r, "all")
	r.RequireDelivered("twin")
	bodies := map[string]int{}
	for _, req := range r.Receiver.Requests() {
		if req.ID() == "twin" {
			bodies[string(req.Body)]++
		}
	}
	if len(bodies) != 2 {
		t.Errorf("the receiver got the bodies %v", bodies)
	}
	requireEmpty(t, r)
}

// A message at the size limit can be parked, buried and replayed, with all the
// headers that relay adds.
func TestAMessageAtTheSizeLimit(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, circuitOptions())
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	for i := range 3 {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("opens_", i), "max_attempts": 1})
		r.RequireDead(fmt.Sprint("opens_", i))
	}
	m := raw(r.Receiver.URL, nil, "Relay-Id", "large", "Relay-Max-Attempts", "1")
	m.Data = bytes.Repeat([]byte{0xff}, relay.MaxBody-headerSize(m))
	r.PublishMsg(m)
	w := r.RequireDead("large")
	if letter := r.Letter(w); !bytes.Equal(letter.Data, m.Data) {
		t.Errorf("%d of %d bytes in the letter", len(letter.Data), len(m.Data))
	}
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	replay(t, r, "all")
	r.RequireDelivered("large")
	m.Data = append(m.Data, 0)
	if _, err := r.JS.PublishMsg(t.Context(), m); err == nil {
		t.Error("a larger message was accepted")
	}
}

// headerSize is what the headers of a message take on the wire.
func headerSize(m *nats.Msg) int {
	n := len("NATS/1.0\r\n\r\n")
	for name, values := range m.Header {
		for _, v := range values {
			n += len(name) + len(": ") + len(v) + len("\r\n")
		}
	}
	return n
}
