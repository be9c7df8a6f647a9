package audit_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// TestPostgresGoesAndComes kills Postgres again and again under load. No call
// fails, and every answer is in the tables in the end, once.
func TestPostgresGoesAndComes(t *testing.T) {
	t.Parallel()
	server := testdb.Server(t)
	pool := connect(t, server.URL())
	l := run(t, pool, audit.Options{})
	var done atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for !stop.Load() {
				w := event()
				c, err := l.Claim(t.Context(), w)
				if err != nil || c.Verdict.Action != relay.Send {
					t.Errorf("claim: %+v, %v", c.Verdict, err)
					return
				}
				v, err := l.Record(t.Context(), w, c, []relay.Attempt{answered(200)}, relay.Verdict{Action: relay.Delivered})
				if err != nil || v.Action != relay.Delivered {
					t.Errorf("record: %+v, %v", v, err)
					return
				}
				done.Add(1)
			}
		})
	}
	for range 3 {
		before := done.Load()
		await(t, func() bool { return done.Load() > before+100 })
		server.Kill()
		await(t, func() bool { return l.Ready(t.Context()) != nil })
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		await(t, func() bool { return l.Ready(t.Context()) == nil })
	}
	stop.Store(true)
	wg.Wait()
	check(t, query[int64](t, pool, "SELECT count(*) FROM relay.webhooks WHERE status = 'delivered' AND attempts = 1"), done.Load())
	check(t, query[int64](t, pool, "SELECT count(*) FROM relay.attempts"), done.Load())
	requireExactCounts(t, pool)
}

func TestCallsWithoutPostgres(t *testing.T) {
	server := testdb.Server(t)
	server.Kill()
	pool := connect(t, server.URL()) // a pool can be made all the same
	l := audit.New(pool, audit.Options{Grace: 300 * time.Millisecond})
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(running) }()

	impatient, leave := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer leave()
	if _, err := l.Claim(impatient, event()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("claim: %v, want the end of its context", err)
	}
	if err := l.Ready(t.Context()); err == nil {
		t.Error("ready without Postgres")
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := l.Record(t.Context(), event(), relay.Claim{}, nil, relay.Verdict{Action: relay.Retry})
		waiting <- err
	}()
	await(t, func() bool { return l.Ready(t.Context()) != nil })
	stop()
	if err := <-waiting; !errors.Is(err, audit.ErrClosed) {
		t.Errorf("record after the grace: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := l.Claim(t.Context(), event()); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("claim on a closed log: %v", err)
	}
}

// TestClaimNobodyWaitsFor holds a claim back by a lock until its caller has
// left: it is given back, not taken for an attempt.
func TestClaimNobodyWaitsFor(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	w := event()
	finish(t, l, w, relay.Verdict{Action: relay.Retry})

	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), "SELECT FROM relay.webhooks FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	impatient, leave := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer leave()
	if _, err := l.Claim(impatient, w); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("claim: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Long before its lease would have ended:
	await(t, func() bool { return claim(t, l, w).Verdict.Action == relay.Send })
	check(t, attempts(t, pool, w), []string{"1 response 500 by relay"})
}

// TestLeaseBeginsWithTheAnswer holds a claim back for longer than its lease:
// what is granted in the end is as long as any.
func TestLeaseBeginsWithTheAnswer(t *testing.T) {
	t.Parallel()
	server := testdb.Server(t)
	const lease = 2 * time.Second
	l := run(t, connect(t, server.URL()), audit.Options{Lease: lease})
	grant(t, l, event())
	server.Kill()
	asked := time.Now()
	got := make(chan relay.Claim, 1)
	go func() {
		c, err := l.Claim(t.Context(), event())
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	<-time.After(lease)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := <-got; c.Verdict.Action != relay.Send || c.Until.Before(asked.Add(2*lease)) || c.Until.After(time.Now().Add(lease)) {
		t.Errorf("claim: %v, %v after it was asked for", c.Verdict.Action, c.Until.Sub(asked))
	}
}

func TestReadyNamesTheSchema(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := audit.New(pool, audit.Options{})
	if err := l.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, "DELETE FROM relay.migrations WHERE version_id > 1")
	await(t, func() bool { return l.Ready(t.Context()) != nil }) // the old answer holds for a second
	check(t, l.Ready(t.Context()).Error(), "audit: the schema has version 1 and this relay needs 10; run `relay migrate`")
	exec(t, pool, "DROP SCHEMA relay CASCADE")
	check(t, audit.New(pool, audit.Options{}).Ready(t.Context()).Error(), "audit: the database has no schema relay; run `relay migrate`")
}
