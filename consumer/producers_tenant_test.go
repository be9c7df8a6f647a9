package consumer_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/signature"
)

// tenantCases are messages on the subjects of tenants.
func tenantCases() []producer {
	envelope := func(more string) string { return `{"url":"$URL"` + more + `}` }
	x := func(n int) string { return strings.Repeat("x", n) }
	return []producer{
		{name: "the subject's tenant", subject: "tenant.a", body: envelope(""), want: sent("").recorded("tenant", "a")},
		{name: "below the subject's tenant", subject: "tenant.a.orders.eu", body: envelope(""), want: sent("").recorded("tenant", "a")},
		{name: "the same tenant in the message", subject: "tenant.a", body: envelope(`,"tenant":"a"`), want: sent("").recorded("tenant", "a")},
		{name: "the same tenant in a header", subject: "tenant.a", header: rawTo("Relay-Tenant", "a"), want: sent("").recorded("tenant", "a")},
		{name: "another tenant in the message", subject: "tenant.a", body: envelope(`,"tenant":"b"`), want: dead("tenant: the subject says a, the message says b").recorded("tenant", "a")},
		{name: "another tenant in a header", subject: "tenant.a.b", header: rawTo("Relay-Tenant", "b"), want: dead("tenant: the subject says a, the message says b").recorded("tenant", "a")},
		{name: "the tenant in other capitals", subject: "tenant.a", body: envelope(`,"tenant":"A"`), want: dead("tenant: the subject says a, the message says A").recorded("tenant", "a")},
		{name: "another tenant beside another fault", subject: "tenant.a", body: envelope(`,"tenant":"b","color":"red"`), want: dead("color: relay knows no such field").recorded("tenant", "a")},
		{name: "no JSON on a tenant's subject", subject: "tenant.a", body: "hello", want: dead("neither an envelope").recorded("tenant", "a")},
		{name: "relay's own header with another subject", subject: "tenant.a", header: []string{"Relay-Meta-Subject", "webhooks.outbound.tenant.b"}, body: envelope(""), want: sent("").recorded("tenant", "a")},
		{name: "relay's own header with a tenant's subject", header: []string{"Relay-Meta-Subject", "webhooks.outbound.tenant.b"}, body: envelope(""), want: sent("").recorded("tenant", "")},
		{name: "a subject without its tenant", subject: "tenant", body: envelope(`,"tenant":"a"`), want: dead("subject: webhooks.outbound.tenant names no tenant").recorded("tenant", "")},
		{name: "a subject like a tenant's", subject: "tenants.a", body: envelope(""), want: sent("").recorded("tenant", "")},
		{name: "a tenant further down", subject: "eu.tenant.a", body: envelope(`,"tenant":"b"`), want: sent("").recorded("tenant", "b")},
		{name: "a tenant in other scripts", subject: "tenant.株式会社", body: envelope(""), want: sent("").recorded("tenant", "株式会社")},
		{name: "a tenant with SQL", subject: "tenant.';DELETE--", body: envelope(""), want: sent("").recorded("tenant", "';DELETE--")},
		{name: "a tenant of 256 bytes", subject: "tenant." + x(256), body: envelope(""), want: sent("").recorded("tenant", x(256))},
		{name: "a tenant of 257 bytes", subject: "tenant." + x(257), body: envelope(""), want: dead("subject: its tenant has 257 bytes, more than 256").recorded("tenant", "")},
		{name: "a tenant that is no UTF-8", subject: "tenant.\xff", body: envelope(""), want: dead("subject: its tenant has control characters or invalid UTF-8").recorded("tenant", "")},
		{name: "a tenant with a control character", subject: "tenant.\x01", body: envelope(""), want: dead("subject: its tenant has control characters or invalid UTF-8").recorded("tenant", "")},
		{name: "a registered endpoint of nobody", subject: "tenant.a", body: `{"endpoint":"orders"}`, want: dead("no endpoint").recorded("tenant", "a")},
	}
}

// What waits keeps the tenant of the subject that it was published to, wherever
// it waits, and so does a letter that is replayed.
func TestCopiesKeepTheTenantOfTheirSubject(t *testing.T) {
	t.Parallel()
	options := relaytest.Options{
		Consumer: consumer.Options{MaxSleep: 50 * time.Millisecond}, // what waits longer is a schedule, a copy
		Policy:   policy.Options{Schedule: []time.Duration{100 * time.Millisecond}, Jitter: -1, MaxAttempts: 2},
	}
	r := relaytest.Start(t, options)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	publishTo(r, "webhooks.outbound.tenant.a.orders", `{"url":"`+r.Receiver.URL+`","id":"kept"}`)
	w := r.RequireDead("kept")
	if tenantOf(t, r, "kept") != "a" {
		t.Fatalf("the tenant of %+v is %q", w, tenantOf(t, r, "kept"))
	}
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	if _, err := r.Conn.Request(consumer.SubjectReplay, []byte("all"), relaytest.Patience); err != nil {
		t.Fatal(err)
	}
	w = r.RequireDelivered("kept")
	if tenantOf(t, r, "kept") != "a" {
		t.Errorf("replayed as %+v of %q", w, tenantOf(t, r, "kept"))
	}
	requireEmpty(t, r)
}

func TestATenantMayBeRequired(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{Consumer: consumer.Options{TenantRequired: true}})
	body := `{"url":"` + r.Receiver.URL + `"`
	publishTo(r, consumer.SubjectOutbound, body+`,"id":"nobodys"}`)
	publishTo(r, consumer.SubjectOutbound, body+`,"id":"named","tenant":"a"}`)
	publishTo(r, consumer.SubjectTenant+"a", body+`,"id":"bound"}`)
	var reason string
	r.RequireDead("nobodys")
	if err := r.DB.QueryRow(t.Context(), "SELECT reason FROM relay.webhooks WHERE webhook_id = 'nobodys'").Scan(&reason); err != nil ||
		!strings.HasPrefix(reason, "invalid: tenant: missing: publish to webhooks.outbound.tenant.<tenant>") {
		t.Errorf("the reason is %q, %v", reason, err)
	}
	r.RequireDelivered("named")
	r.RequireDelivered("bound")
	requireEmpty(t, r)
}

// E14: what one tenant publishes never suppresses what another one does, though
// id, idempotency key and endpoint are the same.
func TestProducersE14TenantsDoNotSuppressEachOther(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{Endpoints: []relay.Endpoint{
		{Name: "orders", Tenant: "a", URL: "http://127.0.0.1:9/never"}, // b's is another
	}})
	body := `{"url":"` + r.Receiver.URL + `","id":"same","idempotency_key":"same"}`
	for _, tenant := range []string{"a", "b", "a", "b"} {
		publishTo(r, consumer.SubjectTenant+tenant, body)
	}
	publishTo(r, consumer.SubjectOutbound, body)
	requireEmpty(t, r)
	found, err := r.DB.Query(t.Context(), `SELECT coalesce(tenant, '-') || ' ' || status || ' ' || coalesce(split_part(reason, ' (', 1), '')
		FROM relay.webhooks ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for found.Next() {
		var row string
		if err := found.Scan(&row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, strings.TrimSpace(row))
	}
	want := "- delivered, a dead duplicate of same, a delivered, b dead duplicate of same, b delivered"
	if got := strings.Join(rows, ", "); got != want || len(r.Receiver.Requests()) != 3 {
		t.Errorf("%d requests for %s; want 3 for %s", len(r.Receiver.Requests()), got, want)
	}
}

// Who publishes to the URL of another tenant's endpoint gets none of its settings:
// above all, its secret does not sign for him.
func TestATenantCannotSignAsAnother(t *testing.T) {
	t.Parallel()
	const secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	receiver := relaytest.NewReceiver(t)
	receiver.Trust(relaytest.Secret, secret)
	r := relaytest.Start(t, relaytest.Options{Endpoints: []relay.Endpoint{
		{Name: "orders", Tenant: "b", URL: receiver.URL, Secrets: []relay.Secret{secret}, Header: http.Header{"Authorization": {"Bearer b"}}},
	}})
	for subject, own := range map[string]bool{
		consumer.SubjectTenant + "a": false, consumer.SubjectOutbound: false, consumer.SubjectTenant + "b": true,
	} {
		publishTo(r, subject, `{"url":"`+receiver.URL+`","id":"same"}`)
		got := receiver.Next()
		if err := signature.Verify(got.Header, got.Body, secret); (err == nil) != own {
			t.Errorf("%s: signed as b: %v", subject, err)
		}
		if (got.Header.Get("Authorization") != "") != own {
			t.Errorf("%s: sent with b's headers: %v", subject, got.Header)
		}
	}
	publishTo(r, consumer.SubjectTenant+"a", `{"endpoint":"orders","id":"named"}`)
	r.RequireDead("named")
	requireEmpty(t, r)
}

// A stream takes fifty batches at a time. Who leaves so many open makes those of
// others fail, and they are told; what is published alone is not affected.
func TestProducersE12ManyOpenBatchesRefuseBatchesAlone(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	event := func(subject, id string) *nats.Msg {
		return &nats.Msg{Subject: subject, Data: []byte(`{"url":"` + r.Receiver.URL + `","id":"` + id + `"}`), Header: nats.Header{}}
	}
	for range 50 {
		open, err := jetstreamext.NewBatchPublisher(r.JS)
		if err != nil {
			t.Fatal(err)
		}
		if err := open.AddMsg(event(consumer.SubjectTenant+"a", "never")); err != nil {
			t.Fatal(err)
		}
	}
	batch := []*nats.Msg{event(consumer.SubjectTenant+"b", "first"), event(consumer.SubjectTenant+"b", "last")}
	if ack, err := jetstreamext.PublishMsgBatch(t.Context(), r.JS, batch); err == nil {
		t.Errorf("stored beside fifty others: %+v", ack)
	}
	r.PublishMsg(event(consumer.SubjectTenant+"b", "alone"))
	r.RequireDelivered("alone")
	requireEmpty(t, r)
	if rows := len(r.Webhooks("never")) + len(r.Webhooks("first")); rows > 0 {
		t.Errorf("%d events of no whole batch are recorded", rows)
	}
}

func publishTo(r *relaytest.Relay, subject, body string) {
	r.PublishMsg(&nats.Msg{Subject: subject, Data: []byte(body)})
}

func tenantOf(t *testing.T, r *relaytest.Relay, id string) (tenant string) {
	t.Helper()
	if err := r.DB.QueryRow(t.Context(), "SELECT coalesce(tenant, '') FROM relay.webhooks WHERE webhook_id = $1", id).Scan(&tenant); err != nil {
		t.Fatal(err)
	}
	return tenant
}
