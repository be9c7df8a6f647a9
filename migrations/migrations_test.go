package migrations_test

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/migrations"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

var all = []string{
	"00001_tables.sql", "00002_partitions.sql", "00003_views.sql", "00004_roles.sql", "00005_stream.sql", "00006_endpoint_settings.sql", "00007_failing_since.sql", "00008_tenants.sql",
	"00009_attempt_history.sql", "00010_credentials_moved.sql",
}

// exec runs statements one by one, each in a transaction of its own.
func exec(t *testing.T, databaseURL string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func status(t *testing.T, databaseURL string) migrations.State {
	t.Helper()
	s, err := migrations.Status(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func requireState(t *testing.T, databaseURL string, want migrations.State) {
	t.Helper()
	if diff := cmp.Diff(want, status(t, databaseURL)); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

// server starts a Postgres that no migration has touched: roles belong to a
// whole server.
func server(t *testing.T) *embedded.Postgres {
	t.Helper()
	p, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestUp(t *testing.T) {
	p := server(t)
	requireState(t, p.URL(), migrations.State{Latest: 10, Pending: all})
	for _, want := range [][]string{all, nil} { // the second time there is nothing to do
		applied, err := migrations.Up(t.Context(), p.URL())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, applied); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
		requireState(t, p.URL(), migrations.State{Current: 10, Latest: 10})
	}
	requireState(t, with(t, p.URL(), "role", "relay_reader"), migrations.State{Current: 10, Latest: 10})
	exec(t, p.URL(), "INSERT INTO relay.migrations (version_id, is_applied) VALUES (99, true)")
	requireState(t, p.URL(), migrations.State{Current: 99, Latest: 10})
}

func TestUpFromManyProcesses(t *testing.T) {
	p := server(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var applied []string
	for range 4 {
		wg.Go(func() {
			names, err := migrations.Up(t.Context(), p.URL())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			applied = append(applied, names...)
		})
	}
	wg.Wait()
	if diff := cmp.Diff(all, applied); diff != "" {
		t.Errorf("applied by all together (-want +got):\n%s", diff)
	}
}

// TestUpAsAPlainOwner migrates as a user who may do nothing but own the
// database, as on a managed Postgres.
func TestUpAsAPlainOwner(t *testing.T) {
	p := server(t)
	exec(t, p.URL(), "CREATE ROLE tenant LOGIN", "CREATE DATABASE mine OWNER tenant")
	mine := as(t, p.URL(), "tenant", "mine")
	if _, err := migrations.Up(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	requireState(t, mine, migrations.State{Current: 10, Latest: 10})
	exec(t, mine,
		"DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM pg_roles WHERE rolname LIKE 'relay\\_%'); END $$",
		"DO $$ BEGIN ASSERT relay.ensure_partitions(current_date, current_date + 1) = 4; END $$",
		"SELECT relay.drop_partitions('120 days')")

	// Where the roles are there already, they get their rights, and the tables
	// stay with the user, who is no member of relay_owner.
	exec(t, p.URL(), "CREATE DATABASE other")
	if _, err := migrations.Up(t.Context(), as(t, p.URL(), "", "other")); err != nil {
		t.Fatal(err)
	}
	exec(t, p.URL(), "CREATE DATABASE third OWNER tenant")
	third := as(t, p.URL(), "tenant", "third")
	if _, err := migrations.Up(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	exec(t, third, `DO $$ BEGIN
		ASSERT has_table_privilege('relay_app', 'relay.attempts', 'INSERT');
		ASSERT NOT has_table_privilege('relay_app', 'relay.attempts', 'UPDATE');
		ASSERT (SELECT tableowner = 'tenant' FROM pg_tables WHERE schemaname = 'relay' AND tablename = 'webhooks');
	END $$`)
}

// TestUpKeepsRowSecurity: where row-level security is on, what a migration brings has
// it too, at once. A view without it would show a tenant's role that may read it the
// rows of all.
func TestUpKeepsRowSecurity(t *testing.T) {
	u := testdb.New(t)
	exec(t, u, "SELECT relay.enable_row_security()",
		"DROP VIEW relay.attempt_history",
		"ALTER TABLE relay.endpoint_settings DROP credentials_moved_at, DROP credentials_moved_from, DROP credentials_moved_by", "DELETE FROM relay.migrations WHERE version_id >= 9") // as it was before
	if _, err := migrations.Up(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	exec(t, u, `DO $$ BEGIN
		ASSERT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'relay'::regnamespace AND relkind = 'v'
			AND NOT coalesce(reloptions, '{}') @> '{security_invoker=true}');
		ASSERT has_table_privilege('relay_tenant', 'relay.attempt_history', 'SELECT');
	END $$`)
}

// TestOwner looks at who owns what after a superuser migrated: nothing may run
// with a superuser's rights.
func TestOwner(t *testing.T) {
	exec(t, testdb.New(t), `DO $$ BEGIN
		ASSERT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'relay'::regnamespace AND relowner <> 'relay_owner'::regrole);
		ASSERT NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'relay'::regnamespace AND proowner <> 'relay_owner'::regrole);
		ASSERT NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'relay'::regnamespace AND prosecdef AND proconfig IS NULL);
		ASSERT NOT EXISTS (SELECT FROM pg_partitioned_table WHERE partdefid <> 0);
	END $$`)
}

func TestEnsurePartitions(t *testing.T) {
	exec(t, testdb.New(t), `DO $$ BEGIN
		ASSERT relay.ensure_partitions('2026-02-27', '2026-03-02') = 8;
		ASSERT relay.ensure_partitions('2026-02-26', '2026-03-02') = 2;
		ASSERT relay.ensure_partitions('2026-03-02', '2026-02-27') = 0;
		BEGIN
			PERFORM relay.ensure_partitions('2026-01-01', '2029-01-01');
			ASSERT false, 'made a thousand days';
		EXCEPTION WHEN invalid_parameter_value THEN NULL;
		END;
	END $$`,
		"SET timezone = 'America/New_York'", // the days are UTC wherever the session is
		"SELECT relay.ensure_partitions('2026-07-01', '2026-07-01')",
		`DO $$ BEGIN
			ASSERT pg_get_expr(relpartbound, oid) = 'FOR VALUES FROM (''2026-06-30 20:00:00-04'') TO (''2026-07-01 20:00:00-04'')'
				FROM pg_class WHERE oid = 'relay.webhooks_20260701'::regclass;
		END $$`)
}

// TestDropPartitionsDropsADayACall: while a day is dropped, writers wait; while
// the days after it are looked at, they must not.
func TestDropPartitionsDropsADayACall(t *testing.T) {
	u := testdb.New(t)
	exec(t, u, "SELECT relay.ensure_partitions('2001-01-01', '2001-01-03')",
		`INSERT INTO relay.webhooks (accepted_at, seq, webhook_id, endpoint_key, url, method, body, status)
			VALUES ('2001-01-01 12:00Z', 1, 'open', 'e', 'http://a.example', 'POST', '', 'pending')`)
	for _, want := range []string{"webhooks_20010102", "webhooks_20010103", "", ""} {
		exec(t, u, `DO $$ BEGIN
			ASSERT coalesce((SELECT string_agg(d, ' ') FROM relay.drop_partitions('120 days') d), '') = '`+want+`';
		END $$`)
	}
	exec(t, u, `DO $$ BEGIN
		ASSERT to_regclass('relay.webhooks_20010101') IS NOT NULL AND to_regclass('relay.attempts_20010101') IS NOT NULL;
		ASSERT to_regclass('relay.attempts_20010102') IS NULL AND to_regclass('relay.attempts_20010103') IS NULL;
	END $$`)
}

func TestBadURL(t *testing.T) {
	for _, u := range []string{"postgres://u:secret@h:port/db", "postgres://u:secret@127.0.0.1:1/db"} {
		_, err := migrations.Up(t.Context(), u)
		_, err2 := migrations.Status(t.Context(), u)
		for _, err := range []error{err, err2} {
			if err == nil || strings.Contains(err.Error(), "secret") || !strings.HasPrefix(err.Error(), "migrations: ") {
				t.Errorf("%s: %v", u, err)
			}
		}
	}
}

// with sets a parameter of a URL.
func with(t *testing.T, databaseURL, name, value string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// as sets the user, if any, and the database of a URL.
func as(t *testing.T, databaseURL, user, database string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		u.User = url.User(user)
	}
	u.Path = "/" + database
	return u.String()
}
