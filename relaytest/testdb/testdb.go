// Package testdb gives each test a database of its own on a real Postgres, with
// relay's schema in it.
//
// One server is started for each test binary, when its first test asks, and
// disappears with the process; there is nothing to call from TestMain. With
// RELAY_TEST_DATABASE_URL set, databases are made on that server instead; the
// user in it must be allowed to create databases and roles.
//
// Nothing is skipped: where there is no Postgres the test fails and says which
// package to install.
package testdb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/migrations"
)

// Variable names a Postgres server to use instead of starting one.
const Variable = "RELAY_TEST_DATABASE_URL"

// template is the migrated database that the others are copies of, on a server
// of our own.
const template = "relay_template"

// server is where databases are made.
type server struct {
	url      string // of a database to give commands in
	template string // "": there is none, so each database is migrated

	// A Postgres that nobody holds is stopped when its guard's pipe is
	// collected as garbage.
	postgres *embedded.Postgres
}

// theServer is one for the test binary: starting one takes longer than most
// tests.
var theServer = sync.OnceValues(func() (server, error) {
	ctx := context.Background()
	if u := os.Getenv(Variable); u != "" {
		return server{url: u}, nil
	}
	p, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{})
	if err != nil {
		return server{}, err
	}
	s := server{url: p.URL(), postgres: p}
	if err := s.create(ctx, template); err != nil {
		return server{}, errors.Join(err, p.Stop(ctx))
	}
	s.template = template
	return s, nil
})

// New returns the URL of a database for this test alone, empty and migrated. It
// is dropped when the test ends, whoever is still connected.
func New(tb testing.TB) string {
	tb.Helper()
	s, err := theServer()
	if err != nil {
		tb.Fatalf("testdb: start a Postgres for tests: %v", err)
	}
	name := "relay_test_" + strings.ToLower(rand.Text())
	if err := s.create(tb.Context(), name); err != nil {
		tb.Fatalf("testdb: create a database: %v", err)
	}
	tb.Cleanup(func() {
		// the test's own context has ended by now
		if err := s.exec(context.Background(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("testdb: drop the database: %v", err)
		}
	})
	return withDatabase(s.url, name)
}

// Server starts a Postgres for this test alone, for it to stop, kill and
// restart, with an empty, migrated database at the server's URL. It is stopped
// when the test ends. It is durable: its data survives Kill as in production.
func Server(tb testing.TB) *embedded.Postgres {
	tb.Helper()
	p, err := embedded.StartPostgres(tb.Context(), embedded.PostgresOptions{
		Durable: true,
		Log:     zerolog.New(zerolog.NewTestWriter(tb)),
	})
	if err != nil {
		tb.Fatalf("testdb: start a Postgres for this test: %v", err)
	}
	tb.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			tb.Errorf("testdb: stop the Postgres of this test: %v", err)
		}
	})
	if _, err := migrations.Up(tb.Context(), p.URL()); err != nil {
		tb.Fatalf("testdb: migrate: %v", err)
	}
	return p
}

func (s server) create(ctx context.Context, name string) error {
	if s.template != "" {
		return s.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+s.template)
	}
	// Roles belong to the whole server: others' migrations must not meet ours.
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // gives the lock back
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtext('relay testdb'))"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return err
	}
	if _, err := migrations.Up(ctx, withDatabase(s.url, name)); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func (s server) exec(ctx context.Context, sql string) (err error) {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// withDatabase returns the URL raw with another database in it.
func withDatabase(raw, name string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw // pgx says what is wrong with it, without the password
	}
	u.Path = "/" + name
	return u.String()
}
