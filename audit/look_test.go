package audit_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

func TestExplain(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{Worker: "w1"})
	w := event()
	w.Tenant, w.EventType, w.EndpointName, w.MaxAttempts = "acme", "order.paid", "shop", 5
	w.Header = http.Header{"X-Shop": {"1"}}
	first, last := answered(500), answered(410)
	last.Started = first.Started.Add(time.Second)
	record(t, l, w, grant(t, l, w), relay.Verdict{Action: relay.Retry}, first)
	record(t, l, w, grant(t, l, w), relay.Verdict{Action: relay.Dead, Reason: "410 Gone", Place: relay.DeadLetters}, last)
	second := event() // the producer used the id again
	second.ID = w.ID
	grant(t, l, second)
	l.Circuit(w.EndpointKey, w.URL, "shop", "open", time.Now().Add(time.Minute))
	await(t, func() bool { return query[string](t, pool, "SELECT circuit_state FROM relay.endpoints") == "open" })

	got, err := l.Explain(t.Context(), w.ID, nil)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d stories, %v", len(got), err)
	}
	check(t, got[0].Status, "processing")
	check(t, got[0].ClaimedBy, "w1")
	check(t, got[0].ClaimedUntil.After(time.Now()), true)

	want := audit.Story{Webhook: w, Status: "dead", Place: relay.DeadLetters, Reason: "410 Gone", Attempts: 2, Circuit: "open"}
	want.Body = nil
	want.URL = "https://a.example/hook" // queries hold secrets
	for i, a := range []relay.Attempt{first, last} {
		a.Number, a.Started = i+1, a.Started.UTC()
		want.History = append(want.History, audit.Entry{Attempt: a, Worker: "w1"})
	}
	opts := cmp.Options{
		cmpopts.EquateApproxTime(time.Millisecond), cmpopts.EquateEmpty(),
		cmpopts.IgnoreFields(relay.Attempt{}, "ID"), cmpopts.IgnoreFields(audit.Story{}, "FailedAt", "CircuitUntil"),
	}
	if diff := cmp.Diff(want, got[1], opts); diff != "" {
		t.Errorf("story (-want +got):\n%s", diff)
	}
	if got[1].FailedAt.IsZero() || got[1].CircuitUntil.IsZero() {
		t.Errorf("times are missing: %+v", got[1])
	}
	if none, err := l.Explain(t.Context(), "unknown", nil); err != nil || len(none) != 0 {
		t.Errorf("unknown id: %v, %v", none, err)
	}
}

func TestOverdue(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	var want []relay.Webhook
	for _, place := range []relay.Place{relay.Scheduled, relay.Asleep, relay.Scheduled, relay.Parked, relay.Scheduled} {
		w := event()
		finish(t, l, w, relay.Verdict{Action: relay.Retry, After: time.Hour, Place: place})
		if place == relay.Scheduled {
			want = append(want, relay.Webhook{Key: w.Key, ID: w.ID, EndpointKey: w.EndpointKey})
		}
	}
	overdue := func(since time.Duration, after relay.Webhook, limit int) []relay.Webhook {
		ws, err := l.Overdue(t.Context(), since, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		for i := range ws {
			if late := time.Since(ws[i].ScheduledAt); late < time.Minute || late > time.Hour {
				t.Errorf("%s was due %v ago", ws[i].ID, late)
			}
		}
		return ws
	}
	without := cmpopts.IgnoreFields(relay.Webhook{}, "ScheduledAt")
	same := func(got, want []relay.Webhook) {
		t.Helper()
		if diff := cmp.Diff(want, got, without); diff != "" {
			t.Errorf("overdue (-want +got):\n%s", diff)
		}
	}
	var first relay.Webhook
	check(t, len(overdue(time.Minute, first, 10)), 0)
	for _, due := range []string{"seq * interval '1 ms'", "interval '0'"} { // the second: all at once
		exec(t, pool, "UPDATE relay.webhooks SET next_due = now() - interval '2 min' + "+due)
		same(overdue(time.Minute, first, 10), want)
		same(overdue(time.Minute, first, 2), want[:2])
		same(overdue(time.Minute, overdue(time.Minute, first, 2)[1], 2), want[2:])
		check(t, len(overdue(time.Minute, overdue(time.Minute, first, 10)[2], 10)), 0)
		check(t, len(overdue(time.Hour, first, 10)), 0)
	}
	grant(t, l, finishless(want[0])) // it is seen to: no longer overdue
	same(overdue(time.Minute, first, 10), want[1:])
}

// finishless is a webhook of which only the key is known.
func finishless(w relay.Webhook) relay.Webhook {
	return relay.Webhook{Key: w.Key, EndpointKey: w.EndpointKey}
}

func TestCircuitsAreMirrored(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	finish(t, l, event(), relay.Verdict{Action: relay.Delivered})
	until := time.Now().Add(time.Minute)
	for i := range 1000 {
		l.Circuit("endpoint-a", "https://a.example/hook", "", fmt.Sprintf("state-%d", i), until)
	}
	l.Circuit("endpoint-b", "https://b.example/?secret", "b\x00", "half-open", time.Time{})
	await(t, func() bool { return query[int](t, pool, "SELECT count(*) FROM relay.endpoints") == 2 })
	check(t, query[string](t, pool, `SELECT string_agg(format('%s %s %s %s %s', endpoint_key, url, circuit_state,
		circuit_until > now(), success_count), ';' ORDER BY endpoint_key) FROM relay.endpoints`),
		"endpoint-a https://a.example/hook state-999 t 1;endpoint-b https://b.example/ half-open  0")
}

func TestCheck(t *testing.T) {
	t.Parallel()
	server := testdb.Server(t)
	pool := connect(t, server.URL())
	run(t, pool, audit.Options{})
	grades := func() map[string]audit.Grade {
		found := map[string]audit.Grade{}
		for _, f := range audit.Check(t.Context(), pool) {
			found[f.Name] = f.Grade
			if f.Detail == "" || (f.Advice == "") != (f.Grade == audit.Good) {
				t.Errorf("%s is %s: %q, advice %q", f.Name, f.Grade, f.Detail, f.Advice)
			}
		}
		return found
	}
	want := map[string]audit.Grade{
		"postgres version": audit.Good, "postgres primary": audit.Good, "postgres fsync": audit.Good,
		"postgres full_page_writes": audit.Good, "postgres synchronous_commit": audit.Good, "postgres clock": audit.Good,
		"schema version": audit.Good, "partitions ahead": audit.Good,
	}
	await(t, func() bool { return cmp.Equal(grades(), want) })

	exec(t, pool, "ALTER SYSTEM SET fsync = off")
	exec(t, pool, "SELECT pg_reload_conf()")
	exec(t, pool, "DROP TABLE relay.migrations")
	want["postgres fsync"], want["schema version"] = audit.Bad, audit.Bad
	await(t, func() bool { return cmp.Equal(grades(), want) })

	server.Kill()
	check(t, grades(), map[string]audit.Grade{"postgres": audit.Bad})
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPool(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url+"&synchronous_commit=off&statement_timeout=1s&pool_max_conns=3")
	check(t, query[string](t, pool, "SHOW synchronous_commit"), "on")
	check(t, query[string](t, pool, "SHOW statement_timeout"), "1s")
	check(t, query[string](t, pool, "SHOW application_name"), "relay")
	check(t, pool.Config().MaxConns, int32(3))
	check(t, connect(t, url).Config().MaxConns, int32(8))
	if _, err := audit.Pool(t.Context(), "postgres://u:secret@h:port/db"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a broken URL: %v", err)
	}
}

// Each tenant has webhook ids of its own. However many events one has of an id, those
// of another are found.
func TestExplainKnowsTenants(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	const id = "order-1"
	of := func(tenant string) relay.Key {
		w := event()
		w.ID, w.Tenant = id, tenant
		grant(t, l, w)
		return w.Key
	}
	first := of("a")
	for range 110 { // more than are told
		of("b")
	}
	none := of("")
	owners, err := l.Owners(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range owners {
		got = append(got, fmt.Sprintf("%q: %d, newest %t", o.Tenant, o.Events, o.Tenant != "a" || o.Newest.Equal(first.Time)))
	}
	check(t, strings.Join(got, "; "), `"": 1, newest true; "a": 1, newest true; "b": 110, newest true`)
	for tenant, want := range map[string]relay.Key{"a": first, "": none} {
		stories, err := l.Explain(t.Context(), id, &tenant)
		if err != nil || len(stories) != 1 || stories[0].Key != want || stories[0].Tenant != tenant {
			t.Errorf("of %q: %+v, %v", tenant, stories, err)
		}
	}
	if owners, err := l.Owners(t.Context(), "unknown"); err != nil || len(owners) != 0 {
		t.Errorf("unknown: %v, %v", owners, err)
	}
	other := "c"
	if stories, err := l.Explain(t.Context(), id, &other); err != nil || len(stories) != 0 {
		t.Errorf("of nobody: %v, %v", stories, err)
	}
}
