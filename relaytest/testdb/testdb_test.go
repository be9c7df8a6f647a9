package testdb_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay/relaytest/testdb"
)

func count(t *testing.T, url, sql string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func TestDatabasesAreMigratedAndApart(t *testing.T) {
	a, b := testdb.New(t), testdb.New(t)
	if a == b {
		t.Fatalf("two databases at one URL: %s", a)
	}
	for _, url := range []string{a, b} {
		if n := count(t, url, "SELECT count(*) FROM relay.webhooks"); n != 0 {
			t.Errorf("%d webhooks in a new database", n)
		}
	}
}

func TestDatabaseIsDropped(t *testing.T) {
	var gone string
	t.Run("user", func(t *testing.T) {
		gone = testdb.New(t)
		conn, err := pgx.Connect(t.Context(), gone)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) }) // before the drop
		if _, err := pgx.Connect(t.Context(), gone); err != nil {  // left open
			t.Fatal(err)
		}
	})
	if conn, err := pgx.Connect(t.Context(), gone); err == nil {
		_ = conn.Close(t.Context())
		t.Error("the database is still there after its test")
	}
}

func TestServerComesBack(t *testing.T) {
	p := testdb.Server(t)
	p.Kill()
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	count(t, p.URL(), "SELECT count(*) FROM relay.webhooks")
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		testdb.New(b)
	}
}
