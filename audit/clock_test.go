package audit_test

import (
	"testing"
	"time"

	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// shiftClock lets Postgres tell another time: a function of the same name comes
// before the server's own on the search path.
func shiftClock(by string) string {
	return `CREATE SCHEMA IF NOT EXISTS elsewhere;
		CREATE OR REPLACE FUNCTION elsewhere.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
		AS $$ SELECT pg_catalog.clock_timestamp() + interval '` + by + `' $$`
}

func TestSkew(t *testing.T) {
	url := testdb.New(t)
	exec(t, connect(t, url), shiftClock("-90 s"))
	tests := []struct {
		url  string
		want time.Duration
	}{
		{url, 0},
		{url + "&search_path=elsewhere,pg_catalog", -90 * time.Second},
	}
	for _, test := range tests {
		pool := connect(t, test.url)
		if skew, ok := audit.New(pool, audit.Options{}).Skew(); ok {
			t.Errorf("a log that does not run measured %v", skew)
		}
		l := run(t, pool, audit.Options{})
		await(t, func() bool { _, ok := l.Skew(); return ok })
		if skew, _ := l.Skew(); (skew - test.want).Abs() > time.Second {
			t.Errorf("skew %v, want %v", skew, test.want)
		}
	}
}

// TestSkewWhenPostgresComesLate: it is measured as soon as Postgres is there,
// and stands while it is away.
func TestSkewWhenPostgresComesLate(t *testing.T) {
	t.Parallel()
	server := testdb.Server(t)
	server.Kill()
	l := run(t, connect(t, server.URL()), audit.Options{})
	await(t, func() bool { return l.Ready(t.Context()) != nil })
	if skew, ok := l.Skew(); ok {
		t.Errorf("measured %v without Postgres", skew)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { _, ok := l.Skew(); return ok })
	server.Kill()
	await(t, func() bool { return l.Ready(t.Context()) != nil })
	if skew, ok := l.Skew(); !ok || skew.Abs() > time.Second {
		t.Errorf("skew %v, %v; what was measured stands", skew, ok)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}
