package audit_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// roleOf makes a role that reads for a tenant; "" for nobody.
func roleOf(t *testing.T, owner *pgxpool.Pool, tenant string) string {
	t.Helper()
	role := "relay_test_" + strings.ToLower(rand.Text())
	exec(t, owner, "CREATE ROLE "+role+" IN ROLE relay_tenant")
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY ", "DROP ROLE "} {
			if _, err := owner.Exec(context.Background(), sql+role); err != nil {
				t.Error(err)
			}
		}
	})
	if tenant != "" {
		exec(t, owner, "INSERT INTO relay.tenant_roles VALUES ($1, $2)", role, tenant)
	}
	return role
}

// tenantTables are all tables and views that hold rows of tenants, and how many
// rows of each a tenant of deliverFor has.
var tenantTables = map[string]int{
	"webhooks": 2, "attempts": 2, "endpoints": 1, "idempotency": 1, "endpoint_settings": 1,
	"webhook_status": 2, "endpoint_health": 1, "dead_letters": 1, "attempt_history": 2,
}

// deliverFor records a delivery and a failure of a tenant.
func deliverFor(t *testing.T, owner *pgxpool.Pool, l *audit.Log, tenant string) {
	t.Helper()
	key := "endpoint_of_" + tenant
	for _, v := range []relay.Verdict{{Action: relay.Delivered, Place: relay.Gone}, {Action: relay.Dead, Place: relay.DeadLetters}} {
		w := event()
		w.Tenant, w.EndpointKey = tenant, key
		if v.Action == relay.Delivered {
			w.IdempotencyKey = "same"
		}
		a := answered(200)
		if _, err := l.Record(t.Context(), w, grant(t, l, w), []relay.Attempt{a}, v); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, owner, "INSERT INTO relay.endpoint_settings (endpoint_key, tenant, name) VALUES ($1, $2, 'orders')", key, tenant)
}

// TestEveryViewFiltersByTenant: a plain WHERE finds a tenant's rows in every view,
// and in every table but attempts, whose view is attempt_history.
func TestEveryViewFiltersByTenant(t *testing.T) {
	url := testdb.New(t)
	owner := connect(t, url)
	l := run(t, owner, audit.Options{})
	for _, tenant := range []string{"a", "b", ""} {
		deliverFor(t, owner, l, tenant)
	}
	reader := connect(t, url+"&role=relay_reader")
	for table, n := range tenantTables {
		if table == "attempts" {
			continue
		}
		for tenant, want := range map[string]int{"a": n, "b": n, "": n, "c": 0} {
			if got := query[int](t, reader, "SELECT count(tenant IS NULL) FROM relay."+table+" WHERE coalesce(tenant, '') = $1", tenant); got != want {
				t.Errorf("%s has %d rows of %q, want %d", table, got, tenant, want)
			}
		}
	}
	check(t, query[string](t, reader, `SELECT string_agg(format('%s %s %s %s', webhook_id, number, status, response), E'\n')
		FROM relay.attempt_history WHERE tenant = 'a' AND event_key = (SELECT event_key FROM relay.dead_letters WHERE tenant = 'a')`),
		query[string](t, reader, "SELECT webhook_id FROM relay.dead_letters WHERE tenant = 'a'")+" 1 200 ok")
	for view := range strings.FieldsSeq(query[string](t, owner, `SELECT string_agg(relname, ' ') FROM pg_class
		WHERE relnamespace = 'relay'::regnamespace AND relkind = 'v'`)) {
		if _, known := tenantTables[view]; !known {
			t.Errorf("relay.%s is a view that no test knows to be a tenant's", view)
		}
	}
}

// TestRowSecurity: a tenant's role sees the rows of its tenant and no others, in
// every table and view, also in partitions that are made later, and changes
// nothing. The running relay and the reader see all.
func TestRowSecurity(t *testing.T) {
	url := testdb.New(t)
	owner := connect(t, url)
	app := connect(t, url+"&role=relay_app")
	l := run(t, app, audit.Options{})
	deliverFor(t, owner, l, "a")
	exec(t, owner, "SELECT relay.enable_row_security()")
	exec(t, owner, "SELECT relay.enable_row_security()") // again, as after an upgrade
	for _, tenant := range []string{"b", ""} {
		deliverFor(t, owner, l, tenant)
	}
	a := connect(t, url+"&role="+roleOf(t, owner, "a"))
	c := connect(t, url+"&role="+roleOf(t, owner, "c"))
	nobody := connect(t, url+"&role="+roleOf(t, owner, ""))
	group := connect(t, url+"&role=relay_tenant")
	reader := connect(t, url+"&role=relay_reader")
	for table, n := range tenantTables {
		count := "SELECT count(endpoint_key) FROM relay." + table
		if table == "idempotency" {
			count = "SELECT count(key) FROM relay." + table
		}
		for _, who := range []struct {
			name string
			pool *pgxpool.Pool
			want int
		}{{"a", a, n}, {"c", c, 0}, {"nobody", nobody, 0}, {"relay_tenant", group, 0}, {"relay_reader", reader, 3 * n}, {"relay_app", app, 3 * n}} {
			if got := query[int](t, who.pool, count); got != who.want {
				t.Errorf("%s sees %d rows of %s, want %d", who.name, got, table, who.want)
			}
		}
		if table != "attempts" {
			check(t, query[string](t, a, "SELECT DISTINCT tenant FROM relay."+table), "a")
		}
	}
	requireBound(t, owner, a, url)
}

// requireBound tries what a tenant's role could do to be another.
func requireBound(t *testing.T, owner, a *pgxpool.Pool, url string) {
	t.Helper()
	day := time.Now().UTC().Format("20060102")
	for _, sql := range []string{
		"UPDATE relay.tenant_roles SET tenant = 'b'",
		"INSERT INTO relay.tenant_roles VALUES ('x', 'b')",
		"DELETE FROM relay.webhooks",
		"UPDATE relay.webhook_status SET status = 'dead'",
		"INSERT INTO relay.idempotency VALUES ('b', 'x', now(), 1, 'x')",
		"SELECT settings FROM relay.endpoint_settings",
		"SELECT * FROM relay.webhooks_" + day,
		"SELECT * FROM relay.stream",
		"SELECT relay.ensure_partitions(current_date, current_date)",
		"SELECT relay.secure_table('relay.webhooks')",
		"SELECT relay.enable_row_security()",
		"ALTER TABLE relay.webhooks DISABLE ROW LEVEL SECURITY",
		"DROP POLICY tenant ON relay.webhooks",
		"CREATE TABLE relay.mine ()",
	} {
		_, err := a.Exec(t.Context(), sql)
		// 55000: a view that takes no changes from anybody
		if err == nil || !strings.Contains(err.Error(), "42501") && !strings.Contains(err.Error(), "55000") {
			t.Errorf("a tenant may %s: %v", sql, err)
		}
	}
	exec(t, a, "SET relay.tenant = 'b'")
	check(t, query[int](t, a, "SELECT count(*) FROM relay.webhooks WHERE tenant = 'b'"), 0)
	check(t, query[int](t, a, "SELECT count(*) FROM relay.tenant_roles"), 1)

	// Who grants more than relay_tenant has still has the tenant held, also where a
	// partition is asked that was made before, or afterwards.
	exec(t, owner, "SELECT relay.ensure_partitions('2031-01-01', '2031-01-01')")
	role := query[string](t, a, "SELECT current_user::text")
	exec(t, owner, fmt.Sprintf("GRANT SELECT ON ALL TABLES IN SCHEMA relay TO %s; GRANT relay_reader TO %[1]s", role))
	for _, table := range []string{"webhooks", "webhooks_" + day, "attempts_" + day} {
		check(t, query[int](t, connect(t, url+"&role="+role), "SELECT count(*) FROM relay."+table), 2)
	}
	check(t, query[int](t, owner, `SELECT count(*) FROM pg_class c WHERE relnamespace = 'relay'::regnamespace AND relkind IN ('r', 'p')
		AND relname ~ '^(webhooks|attempts)' AND (NOT relrowsecurity OR (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid) <> 2)`), 0)
}

// TestRowSecurityCostsRelayNothing: the plans of the running relay are the same
// with it.
func TestRowSecurityCostsRelayNothing(t *testing.T) {
	url := testdb.New(t)
	owner := connect(t, url)
	app := connect(t, url+"&role=relay_app")
	deliverFor(t, owner, run(t, app, audit.Options{}), "a")
	day := time.Now().UTC().Format("20060102")
	statements := []string{
		"UPDATE relay.webhooks_" + day + " SET status = 'dead' WHERE accepted_at = now() AND seq = 1 RETURNING status",
		"SELECT * FROM relay.webhooks_" + day + " WHERE accepted_at = now() AND seq = 1 FOR UPDATE",
		`INSERT INTO relay.attempts (accepted_at, seq, attempt_id, generation, number, kind, success, started_at, endpoint_key)
			SELECT now(), i, gen_random_uuid(), 0, 1, 'error', false, now(), 'k' FROM generate_series(1, 2) i
			ON CONFLICT DO NOTHING RETURNING attempt_id`,
		"INSERT INTO relay.endpoints (endpoint_key, url, host) VALUES ('k', '', '') ON CONFLICT (endpoint_key) DO UPDATE SET url = 'x' RETURNING host",
		"DELETE FROM relay.idempotency WHERE tenant = 'a' AND key = 'k'",
	}
	plans := func() string {
		var all strings.Builder
		for _, sql := range statements {
			all.WriteString(query[string](t, app, "EXPLAIN (COSTS OFF, FORMAT JSON) "+sql) + "\n")
		}
		return all.String()
	}
	before := plans()
	exec(t, owner, "SELECT relay.enable_row_security()")
	check(t, plans(), before)
}
