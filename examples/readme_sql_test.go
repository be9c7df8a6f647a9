package examples_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

// TestREADMEQuestions asks the audit log every question of the README, as a
// reader who may do nothing else, after a day on which a bit of everything has
// happened: each has an answer.
func TestREADMEQuestions(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options{Policy: policy.Options{
		Circuit: policy.CircuitOptions{Failures: 3, Executions: 3, Delay: time.Hour},
	}})
	aDayOfRelay(t, r)
	reader, err := r.DB.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Release)
	if _, err := reader.Exec(t.Context(), "SET ROLE relay_reader"); err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks(t, "sql") {
		rows, err := reader.Query(t.Context(), b.text)
		if err != nil {
			t.Errorf("%v: %v", b, err)
			continue
		}
		var names []string
		for _, f := range rows.FieldDescriptions() {
			names = append(names, f.Name)
		}
		answers := 0
		for rows.Next() {
			answers++
			values, err := rows.Values()
			if err != nil {
				t.Errorf("%v: %v", b, err)
			}
			t.Logf("%v: %v = %v", b, names, values)
		}
		if rows.Err() != nil || len(names) == 0 || answers == 0 {
			t.Errorf("%v: %d columns, %d rows: %v", b, len(names), answers, rows.Err())
		}
	}
}

// aDayOfRelay makes events of every kind that the questions are about.
func aDayOfRelay(t *testing.T, r *relaytest.Relay) {
	t.Helper()
	customer := map[string]any{"customer": "c-42"}

	r.Receiver.Answer(http.StatusServiceUnavailable, http.StatusOK)
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL, "id": "order-17-paid", "metadata": customer}))

	strict := relaytest.NewReceiver(t)
	strict.Always(relaytest.Status(http.StatusNotFound))
	r.RequireDead(r.Publish(map[string]any{"url": strict.URL, "id": "order-18-paid", "metadata": customer, "tenant": "acme"}))

	for _, id := range []string{"order-19-paid", "order-19-paid-again"} {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": id, "idempotency_key": "order-19"})
		r.RequireStatus(id, "delivered", "dead")
	}

	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	r.Publish(map[string]any{"url": r.Receiver.URL, "id": "reminder-20", "scheduled_at": later})
	awaitPlace(t, r, "reminder-20", "schedule")

	sick := relaytest.NewReceiver(t)
	sick.Always(relaytest.Status(http.StatusInternalServerError))
	for i := range 5 {
		r.Publish(map[string]any{"url": sick.URL, "id": fmt.Sprint("order-3", i, "-paid")})
	}
	for i := range 5 {
		awaitPlace(t, r, fmt.Sprint("order-3", i, "-paid"), "lane")
	}

	// As if a process had died in the middle of a request.
	if _, err := r.DB.Exec(t.Context(), `INSERT INTO relay.attempts
		(accepted_at, seq, attempt_id, generation, number, kind, success, started_at, endpoint_key)
		SELECT accepted_at, seq, gen_random_uuid(), 0, 1, 'unrecorded', false, now(), endpoint_key
		FROM relay.webhooks WHERE webhook_id = 'order-17-paid'`); err != nil {
		t.Fatal(err)
	}
}

func awaitPlace(t *testing.T, r *relaytest.Relay, id, place string) {
	t.Helper()
	if !r.Eventually(func() bool { w := r.Webhooks(id); return len(w) == 1 && w[0].Place == place }) {
		t.Fatalf("%s is not in place %q: %+v", id, place, r.Webhooks(id))
	}
}

// replayByHand is the README's way to publish one dead letter again with
// nothing but the nats command line.
func replayByHand(t *testing.T) block {
	t.Helper()
	for _, b := range blocks(t, "sh") {
		if strings.Contains(b.text, "letter data") {
			return b
		}
	}
	t.Fatal("the README does not say how to replay a letter by hand")
	return block{}
}

// TestReplayByHandKeepsEveryByte replays a letter that a careless command line
// would spoil.
func TestReplayByHandKeepsEveryByte(t *testing.T) {
	r := relaytest.Start(t)
	r.Receiver.Answer(http.StatusBadRequest)
	m := nats.NewMsg("webhooks.outbound.shop")
	m.Data = []byte("\x00\x01\xff{{Count}} {{ID}}\n\n\r\n'\"$HOME`\\ ü\n")
	m.Header = nats.Header{
		"Relay-Url":           {r.Receiver.URL + "/hook?a=1:2"},
		"Relay-Content-Type":  {"application/octet-stream"},
		"Relay-Header-X-Many": {"first: {{ID}}", "second"},
		"Relay-Metadata":      {`{"customer": "c-42"}`},
		"X-Of-The-Producer":   {"one", "two"},
		"Nats-Msg-Id":         {"message-1"},
	}
	r.PublishMsg(m)
	first := r.Next()
	r.RequireDead(first.ID())

	b := replayByHand(t)
	t.Log(newShell(t, "NATS_URL="+r.NATS.ClientURL()).run(b, b.text))
	second := r.Next()
	if string(second.Body) != string(m.Data) {
		t.Errorf("the body is %q, want %q", second.Body, m.Data)
	}
	if second.ID() != first.ID() || first.ID() != "message-1" {
		t.Errorf("the webhook-id was %q and is %q", first.ID(), second.ID())
	}
	for _, name := range []string{"X-Many", "Content-Type"} {
		if was, is := first.Header[name], second.Header[name]; fmt.Sprintf("%q", was) != fmt.Sprintf("%q", is) {
			t.Errorf("%s was %q and is %q", name, was, is)
		}
	}
	if first.Path != second.Path {
		t.Errorf("the path was %s and is %s", first.Path, second.Path)
	}
	if !r.Eventually(func() bool {
		w := r.Webhooks("message-1")
		return len(w) == 2 && w[0].Status == "dead" && w[1].Status == "delivered" && w[1].Generation == 0
	}) {
		t.Errorf("recorded %+v", r.Webhooks("message-1"))
	}
}
