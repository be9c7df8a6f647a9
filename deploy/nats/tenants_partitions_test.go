package nats_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// blockBelow returns the first block of README.md that begins below a text.
func blockBelow(t *testing.T, text string) string {
	t.Helper()
	_, below, found := strings.Cut(readFile(t, "README.md"), text)
	_, block, opened := strings.Cut(below, "```\n")
	block, _, closed := strings.Cut(block, "```")
	if !found || !opened || !closed {
		t.Fatalf("README.md has no block below %q", text)
	}
	return block
}

// replaced replaces one text by another, as often as it has to be there.
func replaced(t *testing.T, text, old, by string, times int) string {
	t.Helper()
	if n := strings.Count(text, old); n != times {
		t.Fatalf("partitions.conf has %d times, not %d:\n%s", n, times, old)
	}
	return strings.ReplaceAll(text, old, by)
}

const exported = `      { service: "webhooks.outbound.>", accounts: [PRODUCERS] }` + "\n"

// E14: JetStream suppresses a message whose Nats-Msg-Id its stream knows, whoever
// published that. What a tenant with a partition of its own publishes under the id of
// another's is not suppressed.
func TestATenantWithAPartitionOfItsOwn(t *testing.T) {
	t.Setenv("NATS_ACME_PASSWORD", password("acme"))
	p := editedPartitions(t, 2, 1, func(text string) string {
		text = replaced(t, text, "  # --- producers\n", blockBelow(t, "**A tenant with a partition of its own**")+"  # --- producers\n", 1)
		text = replaced(t, text, `      { service: { account: RELAY_1, subject: "webhooks.outbound.>" }, to: "webhooks.outbound.1.>" }`+"\n", "", 1)
		head, tail, _ := strings.Cut(text, "  # --- partition 1\n")
		return head + "  # --- partition 1\n" + replaced(t, tail, exported, strings.Replace(exported, "PRODUCERS", "ACME", 1), 1)
	})
	p.startRelays(t)
	acme := connect(t, p.server, "acme")
	for _, publish := range []struct {
		by        *client
		subject   string
		duplicate bool
	}{
		{p.producer, "webhooks.outbound.tenant.b", false},
		{p.producer, "webhooks.outbound.tenant.c", true}, // in one stream with b: lost, and told so
		{acme, "webhooks.outbound.tenant.acme", false},
		{acme, "webhooks.outbound.tenant.acme.orders", true},
		{p.producer, "webhooks.outbound.tenant.d", true},
	} {
		body := fmt.Appendf(nil, `{"url": %q, "idempotency_key": "same"}`, p.receiver.URL)
		ack, err := publish.by.js.Publish(t.Context(), publish.subject, body, jetstream.WithMsgID("same"))
		if err != nil || ack.Duplicate != publish.duplicate {
			t.Errorf("%s: %+v, %v; want duplicate %t", publish.subject, ack, err, publish.duplicate)
		}
	}
	for k, tenant := range []string{"b", "acme"} {
		eventually(t, "what "+tenant+" published is delivered", func(context.Context) bool {
			return p.worlds[k].count("SELECT count(*) FROM relay.webhooks WHERE status = 'delivered' AND tenant = '"+tenant+"'") == 1
		})
	}
	if n := p.requests()["same"]; n != 2 || p.sum("SELECT count(*) FROM relay.webhooks") != 2 {
		t.Errorf("%d requests, %d rows, want 2", n, p.sum("SELECT count(*) FROM relay.webhooks"))
	}
	refusesPublish(t, acme, []string{"webhooks.outbound", "webhooks.outbound.tenant.b", "webhooks.outbound.1.tenant.acme", "webhooks.due.key"})
	refusesSubscribe(t, acme, except(others, "_INBOX_acme"))
}

// Each tenant's events lie in one partition, and the tenants are dealt over all.
func TestTenantsAreDealtOut(t *testing.T) {
	t.Setenv("NATS_TENANTS_PASSWORD", password("tenants"))
	p := editedPartitions(t, 2, 2, func(text string) string {
		_, producers, _ := strings.Cut(text, "  # --- producers\n")
		account, _, _ := strings.Cut(producers, "\n  }\n")
		from, to := strings.Index(account, "    # A hash of"), strings.Index(account, "    imports: [")
		if from < 0 || to < from {
			t.Fatal("PRODUCERS has no mappings before its imports")
		}
		tenants := account[:from] + blockBelow(t, "**To deal tenants out**") + account[to:] + "\n  }\n"
		tenants = strings.NewReplacer("PRODUCERS {", "TENANTS {", "user: producer", "user: tenants", "NATS_PRODUCER", "NATS_TENANTS", "_INBOX_producer", "_INBOX_tenants").Replace(tenants)
		text = replaced(t, text, exported, strings.Replace(exported, "PRODUCERS", "PRODUCERS, TENANTS", 1), 2)
		text = replaced(t, text, `"webhooks.outbound", accounts: [PRODUCERS]`, `"webhooks.outbound", accounts: [PRODUCERS, TENANTS]`, 1)
		return replaced(t, text, "  # --- producers\n", tenants+"  # --- producers\n", 1)
	})
	p.startRelays(t)
	p.status.Store(http.StatusOK)
	tenants := connect(t, p.server, "tenants")
	const each = 20
	for i := range 2 * each {
		subject := fmt.Sprintf("webhooks.outbound.tenant.t%d", i%each)
		if i >= each {
			subject += ".orders.eu"
		}
		if _, err := tenants.js.Publish(t.Context(), subject, fmt.Appendf(nil, `{"url": %q, "id": "event-%d"}`, p.receiver.URL, i)); err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
	}
	p.delivered(t, 2*each)
	for k, w := range p.worlds {
		if n := w.count("SELECT count(DISTINCT tenant) FROM relay.webhooks"); n == 0 || n == each {
			t.Errorf("partition %d has %d of %d tenants", k, n, each)
		}
		if n := w.count("SELECT count(*) FROM (SELECT FROM relay.webhooks GROUP BY tenant HAVING count(*) <> 2) x"); n > 0 {
			t.Errorf("partition %d has one event alone of %d tenants", k, n)
		}
	}
	if n := p.sum("SELECT count(DISTINCT tenant) FROM relay.webhooks"); n != each {
		t.Errorf("%d tenants have %d homes", each, n)
	}
}
