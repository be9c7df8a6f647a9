package consumer_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

// TestProducersWhoRepeatThemselves publishes pairs of events and says whether
// the second one is sent.
func TestProducersWhoRepeatThemselves(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	for _, c := range []struct {
		name          string
		first, second string // fields of an envelope
		sent          bool   // the second one
	}{
		{"the same idempotency key", `"idempotency_key":"k"`, `"idempotency_key":"k"`, false},
		{"the same key, spelled with escapes", `"idempotency_key":"k1"`, `"idempotency_key":"\u006b1"`, false},
		{"the same key of one tenant", `"idempotency_key":"k","tenant":"a"`, `"idempotency_key":"k","tenant":"a"`, false},
		{"E14 the same key of another tenant", `"idempotency_key":"k2","tenant":"a"`, `"idempotency_key":"k2","tenant":"b"`, true},
		{"the key of a tenant and the key of none", `"idempotency_key":"k3"`, `"idempotency_key":"k3","tenant":"a"`, true},
		{"a key in other capitals", `"idempotency_key":"k4"`, `"idempotency_key":"K4"`, true},
		{"a key with a space behind", `"idempotency_key":"k5"`, `"idempotency_key":"k5 "`, true},
		{"a key in another normal form", `"idempotency_key":"\u00e9"`, `"idempotency_key":"e\u0301"`, true},
		{"a key whose digits look alike", `"idempotency_key":"1"`, `"idempotency_key":"１"`, true},
		{"tenant and key that are one text together", `"idempotency_key":"c","tenant":"a b"`, `"idempotency_key":"b c","tenant":"a"`, true},
		{"a key with SQL", `"idempotency_key":"' OR '1'='1"`, `"idempotency_key":"x"`, true},
		{"the key of an event that could not be read", `"idempotency_key":"k6","color":"red"`, `"idempotency_key":"k6"`, true},
		{"the key of an event that expired", `"idempotency_key":"k7","expires_at":"1999-01-01T00:00:00Z"`, `"idempotency_key":"k7"`, true},
		{"the same webhook id", `"id":"same"`, `"id":"same"`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, second := row(t, r, c.first), row(t, r, c.second)
			if (second.status == "delivered") != c.sent || second.requests != map[bool]int{true: 1}[c.sent] {
				t.Errorf("the first: %+v, the second: %+v", first, second)
			}
			if !c.sent && !strings.HasPrefix(second.reason, "duplicate of ") {
				t.Errorf("the reason is %q", second.reason)
			}
		})
	}
	requireEmpty(t, r)
}

// rowOf is what became of one message.
type rowOf struct {
	status, reason string
	requests       int
}

// row publishes an envelope with these fields and waits until its event has
// come to its end.
func row(t *testing.T, r *relaytest.Relay, fields string) (o rowOf) {
	t.Helper()
	before := len(r.Receiver.Requests())
	seq := r.PublishMsg(&nats.Msg{Subject: consumer.SubjectOutbound, Data: []byte(`{"url":"` + r.Receiver.URL + `",` + fields + `}`)})
	if !r.Eventually(func() bool {
		err := r.DB.QueryRow(t.Context(), `SELECT status, coalesce(reason, '') FROM relay.webhooks WHERE seq = $1
			AND status IN ('delivered', 'dead', 'failed')`, seq).Scan(&o.status, &o.reason)
		return err == nil
	}) {
		t.Fatalf("%s came to no end", fields)
	}
	o.requests = len(r.Receiver.Requests()) - before
	return o
}

// Two messages with one Nats-Msg-Id are one event, as the publisher is told.
func TestProducersE14TheSameMsgIDTwice(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	for i := range 2 {
		ack, err := r.JS.Publish(t.Context(), consumer.SubjectOutbound, []byte(`{"url":"`+r.Receiver.URL+`"}`), jetstream.WithMsgID("order-17"))
		if err != nil || ack.Duplicate != (i == 1) {
			t.Errorf("%+v, %v", ack, err)
		}
	}
	r.RequireDelivered("order-17")
	// JetStream knows no tenants: another's is taken for a repetition, and its publisher is told. SECURITY.md says what to do.
	ack, err := r.JS.Publish(t.Context(), consumer.SubjectTenant+"b", []byte(`{"url":"`+r.Receiver.URL+`"}`), jetstream.WithMsgID("order-17"))
	if err != nil || !ack.Duplicate {
		t.Errorf("of another tenant: %+v, %v", ack, err)
	}
	requireEmpty(t, r)
	if n := len(r.Receiver.Requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// A batch arrives as a whole or not at all, and one that is never committed
// stands in nobody's way.
func TestProducersE12ABatch(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	envelope := func(id string) *nats.Msg {
		m := nats.NewMsg(consumer.SubjectOutbound)
		m.Data = []byte(`{"url":"` + r.Receiver.URL + `","id":"` + id + `"}`)
		return m
	}
	left, err := jetstreamext.NewBatchPublisher(r.JS)
	if err != nil {
		t.Fatal(err)
	}
	if err := left.AddMsg(envelope("never")); err != nil {
		t.Fatal(err)
	}
	batch, err := jetstreamext.NewBatchPublisher(r.JS)
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.AddMsg(envelope("first")); err != nil {
		t.Fatal(err)
	}
	if _, err := batch.CommitMsg(t.Context(), envelope("last")); err != nil {
		t.Fatal(err)
	}
	r.RequireDelivered("first")
	r.RequireDelivered("last")
	requireEmpty(t, r)
	if rows := r.Webhooks("never"); len(rows) != 0 {
		t.Errorf("recorded %+v", rows)
	}
}

// Whatever a producer writes into its headers, the copy that waits for its time
// replaces and removes no other event's, and keeps what is relay's own.
func TestProducersE12E13TouchNobodyElsesEvents(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{
		Policy:   policy.Options{Schedule: []time.Duration{2 * time.Second}, Jitter: -1},
		Consumer: consumer.Options{MaxSleep: 500 * time.Millisecond},
	})
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	others := []string{r.Publish(map[string]any{"url": r.Receiver.URL + "/a"}), r.Publish(map[string]any{"url": r.Receiver.URL + "/b"})}
	for _, id := range others {
		r.RequireStatus(id, "pending")
	}
	victim := r.Webhooks(others[0])[0]
	r.PublishMsg(raw(r.Receiver.URL+"/c", []byte("x"), "Relay-Id", "hostile", "nats-rollup", "all", "NATS-ROLLUP", "all", "Nats-Marker-Reason", "Purge",
		"Nats-Schedule-Rollup", "all", "nats-schedule-target", "webhooks.outbound", "Relay-Meta-Key", victim.Key.String(), "relay-meta-generation", "5",
		"Relay-Meta-Subject", "webhooks.dead."+victim.EndpointKey+"."+victim.Key.String(), "Relay-Meta-Bury", "because"))
	r.RequireStatus("hostile", "pending")
	if !r.Eventually(func() bool { return len(r.Receiver.Requests()) >= 3 && stored(t, r, consumer.StreamLater) == 3 }) {
		t.Errorf("%d events wait, want 3", stored(t, r, consumer.StreamLater))
	}
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	for _, id := range append(others, "hostile") {
		if w := r.RequireDelivered(id); w.Attempts != 2 || w.Generation != 0 {
			t.Errorf("%s: %+v", id, w)
		}
	}
	requireEmpty(t, r)
}

// A message that nobody can read costs no more than one that somebody can, and
// those behind it do not wait for it.
func TestProducersCannotSpendRelaysTime(t *testing.T) {
	r := relaytest.Start(t)
	var fields strings.Builder
	for i := range 100_000 {
		key, _ := json.Marshal("max-attempt" + strings.Repeat("s", i%3))
		fields.WriteString("," + string(key) + ":1")
	}
	hostile := `{"url":"` + r.Receiver.URL + `"` + fields.String()[:1_000_000] + `:1}`
	began := time.Now()
	for range 20 {
		r.PublishMsg(&nats.Msg{Subject: consumer.SubjectOutbound, Data: []byte(hostile)})
	}
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
	requireEmpty(t, r) // within its patience: one of these took a minute and a half
	t.Logf("20 messages with 100,000 faults each took %v", time.Since(began))
}
