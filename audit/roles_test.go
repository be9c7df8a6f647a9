package audit_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// TestAsApp does everything that a log does, with the rights of relay_app.
func TestAsApp(t *testing.T) {
	url := testdb.New(t)
	owner, pool := connect(t, url), connect(t, url+"&role=relay_app")
	l := run(t, pool, audit.Options{})
	check(t, query[string](t, pool, "SELECT current_user::text"), "relay_app")

	old := keyed("old") // its day has no partition
	old.Key = relay.NewKey(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), old.Key.Seq)
	finish(t, l, old, relay.Verdict{Action: relay.Failed, Place: relay.DeadLetters})
	check(t, claim(t, l, old).Verdict.Action, relay.Failed)
	w := keyed("k")
	grant(t, l, w)
	check(t, claim(t, l, keyed("k")).Verdict.Action, relay.Duplicate)
	expire(t, owner)
	finish(t, l, w, relay.Verdict{Action: relay.Delivered})
	check(t, claim(t, l, w).Verdict.Action, relay.Delivered)
	l.Circuit(w.EndpointKey, w.URL, "", "open", time.Time{})
	await(t, func() bool { return query[string](t, pool, "SELECT circuit_state FROM relay.endpoints") == "open" })
	if _, err := l.Overdue(t.Context(), time.Minute, relay.Webhook{}, 10); err != nil {
		t.Error(err)
	}
	if stories, err := l.Explain(t.Context(), w.ID, nil); err != nil || len(stories) != 1 {
		t.Errorf("explain: %d stories, %v", len(stories), err)
	}
	if err := l.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	for _, f := range audit.Check(t.Context(), pool) {
		if f.Grade == audit.Bad && f.Name != "postgres fsync" && f.Name != "postgres full_page_writes" { // off for tests
			t.Errorf("%s: %s", f.Name, f.Detail)
		}
	}
	requireExactCounts(t, pool)
	for _, view := range []string{"webhook_status", "endpoint_health", "dead_letters", "attempt_history"} {
		query[int](t, pool, "SELECT count(*) FROM relay."+view)
	}
}

// TestReadyNeedsTheRightToWrite: a relay that can read everything and record
// nothing is not ready, and says what mends it.
func TestReadyNeedsTheRightToWrite(t *testing.T) {
	url := testdb.New(t)
	owner, role := connect(t, url), "relay_test_"+strings.ToLower(rand.Text())
	exec(t, owner, "CREATE ROLE "+role)
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY ", "DROP ROLE "} {
			if _, err := owner.Exec(context.Background(), sql+role); err != nil {
				t.Error(err)
			}
		}
	})
	for _, step := range []struct {
		grant string
		says  string // of the error; "": none
	}{
		{"", "permission denied for schema relay; GRANT relay_app TO the user"},
		{"GRANT relay_reader TO " + role, role + " may not write (it lacks INSERT on relay.attempts, INSERT on relay.webhooks," +
			" UPDATE on relay.webhooks); GRANT relay_app TO the user"},
		{"GRANT INSERT ON relay.attempts, relay.webhooks TO " + role, "(it lacks UPDATE on relay.webhooks)"},
		{"GRANT relay_app TO " + role, ""},
	} {
		if step.grant != "" {
			exec(t, owner, step.grant)
		}
		l := audit.New(connect(t, url+"&role="+role), audit.Options{}) // each log keeps its answer for a second
		err := l.Ready(t.Context())
		if step.says == "" && err != nil || step.says != "" && (err == nil || !strings.Contains(err.Error(), step.says)) {
			t.Errorf("%s: %v, want %q", step.grant, err, step.says)
		}
	}
}

func TestRights(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url)
	finish(t, run(t, pool, audit.Options{}), event(), relay.Verdict{Action: relay.Delivered})
	day := time.Now().UTC().Format("20060102")
	refused := map[string][]string{
		"relay_app": {
			"UPDATE relay.attempts SET success = true",
			"DELETE FROM relay.attempts",
			"TRUNCATE relay.attempts",
			"SELECT * FROM relay.attempts FOR UPDATE",
			"INSERT INTO relay.attempts SELECT * FROM relay.attempts ON CONFLICT (accepted_at, seq, attempt_id) DO UPDATE SET success = true",
			"UPDATE relay.attempts_" + day + " SET success = true",
			"DELETE FROM relay.webhooks",
			"DELETE FROM relay.webhooks_" + day,
			"TRUNCATE relay.webhooks_" + day,
			"DELETE FROM relay.endpoints",
			"UPDATE relay.migrations SET version_id = 1",
			"UPDATE relay.idempotency SET seq = 1",
			"DROP TABLE relay.attempts",
			"DROP TABLE relay.attempts_" + day,
			"ALTER TABLE relay.attempts DETACH PARTITION relay.attempts_" + day,
			"CREATE TABLE relay.mine ()",
			"SELECT relay.drop_partitions('120 days')",
			"ALTER FUNCTION relay.ensure_partitions RENAME TO mine",
			"DELETE FROM relay.endpoint_settings",
			"TRUNCATE relay.endpoint_settings",
			"ALTER TABLE relay.endpoint_settings DISABLE TRIGGER ALL",
			"SELECT setval('relay.endpoint_revisions', 1)",
		},
		"relay_reader": {
			"UPDATE relay.webhooks SET status = 'dead'",
			"INSERT INTO relay.attempts SELECT * FROM relay.attempts",
			"DELETE FROM relay.idempotency",
			"INSERT INTO relay.endpoints (endpoint_key, url, host) VALUES ('', '', '')",
			"UPDATE relay.webhook_status SET status = 'dead'",
			"UPDATE relay.dead_letters SET status = 'dead'",
			"SELECT relay.ensure_partitions(current_date, current_date)",
			"SELECT relay.drop_partitions('120 days')",
			"SELECT settings FROM relay.endpoint_settings", // not even sealed
			"SELECT * FROM relay.endpoint_settings",
			"UPDATE relay.endpoint_settings SET paused_at = now()",
			"INSERT INTO relay.endpoint_settings (endpoint_key) VALUES ('')",
			"DELETE FROM relay.endpoint_settings",
			"SELECT nextval('relay.endpoint_revisions')",
		},
	}
	for role, statements := range refused {
		as := connect(t, url+"&role="+role)
		for _, sql := range statements {
			_, err := as.Exec(t.Context(), sql)
			// 55000: a view that takes no changes from anybody
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "42501" && e.Code != "55000" {
				t.Errorf("%s may %s: %v", role, sql, err)
			}
		}
		for _, table := range []string{"webhooks", "attempts", "endpoints", "webhook_status", "endpoint_health", "dead_letters", "attempt_history"} {
			query[int](t, as, "SELECT count(*) FROM relay."+table)
		}
		query[int](t, as, `SELECT count(endpoint_key || tenant || name || url || pause_reason || disabled_reason || updated_by) + count(paused_at) +
			count(disabled_at) + count(released_at) + count(deleted_at) + count(revision) + count(created_at) + count(updated_at) FROM relay.endpoint_settings`)
	}
	check(t, query[int](t, pool, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'relay\\_%' AND (rolcanlogin OR rolsuper OR rolcreatedb)"), 0)
}
