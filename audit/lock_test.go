package audit_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// hold runs sql as somebody who does not commit, and returns how he does in
// the end.
func hold(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (commit func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// others takes a hundred events of another endpoint through a claim and a
// record each, all at once, and returns how long it took.
func others(t *testing.T, l *audit.Log) time.Duration {
	t.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			w := event()
			w.EndpointKey = "endpoint-b"
			c, err := l.Claim(t.Context(), w)
			if err != nil || c.Verdict.Action != relay.Send {
				t.Errorf("claim: %+v, %v", c.Verdict, err)
			}
			if _, err := l.Record(t.Context(), w, c, []relay.Attempt{answered(200)}, relay.Verdict{Action: relay.Delivered}); err != nil {
				t.Errorf("record: %v", err)
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// waiting are calls that have to wait for a lock.
type waiting struct {
	t     *testing.T
	l     *audit.Log
	ended sync.WaitGroup
	mu    sync.Mutex
	freed bool // none may be answered before
}

func (ws *waiting) claim(w relay.Webhook, want relay.Action) {
	ws.ended.Go(func() {
		c, err := ws.l.Claim(ws.t.Context(), w)
		ws.answered(c.Verdict.Action, err, want)
	})
}

func (ws *waiting) record(w relay.Webhook, c relay.Claim) {
	ws.ended.Go(func() {
		v, err := ws.l.Record(ws.t.Context(), w, c, []relay.Attempt{answered(200)}, relay.Verdict{Action: relay.Delivered})
		ws.answered(v.Action, err, relay.Delivered)
	})
}

func (ws *waiting) answered(got relay.Action, err error, want relay.Action) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if got != want || err != nil || !ws.freed {
		ws.t.Errorf("%v, %v, want %v; after the lock was gone: %v", got, err, want, ws.freed)
	}
}

// release gives up a lock and sees that what waited for it ends soon.
func (ws *waiting) release(commit func()) {
	ws.t.Helper()
	ws.mu.Lock()
	ws.freed = true
	commit()
	ws.mu.Unlock()
	began := time.Now()
	ws.ended.Wait()
	if took := time.Since(began); took > 2*time.Second {
		ws.t.Errorf("it took %v after the lock was gone", took)
	}
}

// TestALockedRowHoldsUpItsOwnCallsOnly: somebody repairs rows by hand and does
// not commit.
func TestALockedRowHoldsUpItsOwnCallsOnly(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url)
	for _, locked := range []int{1, 60} {
		l := run(t, connect(t, url), audit.Options{})
		ws := &waiting{t: t, l: l}
		var asleep, called []relay.Webhook
		var claims []relay.Claim
		for range locked {
			a, b := event(), event()
			finish(t, l, a, relay.Verdict{Action: relay.Retry})
			asleep, called, claims = append(asleep, a), append(called, b), append(claims, grant(t, l, b))
		}
		commit := hold(t, pool, "UPDATE relay.webhooks SET metadata = '{\"by\": \"hand\"}' WHERE status <> 'delivered'")
		for i := range locked {
			ws.claim(asleep[i], relay.Send)
			ws.record(called[i], claims[i])
		}
		if took := others(t, l); took > 2*time.Second {
			t.Errorf("others waited %v for the locks of %d", took, locked)
		}
		if took := others(t, l); took > time.Second {
			t.Errorf("others waited %v for locks that were known", took)
		}
		if err := l.Ready(t.Context()); err != nil {
			t.Errorf("not ready: %v", err)
		}
		ws.release(commit)
		for i := range locked {
			check(t, state(t, pool, asleep[i]), "processing at queue, generation 0, 1 attempts (1), streak 0, claimed, no time")
			check(t, state(t, pool, called[i]), "delivered at queue, generation 0, 1 attempts (1), streak 0, free, no time")
		}
		exec(t, pool, "UPDATE relay.webhooks SET status = 'delivered'")
	}
	requireExactCounts(t, pool)
}

// TestALockedEndpoint: its records wait, and those of others do not.
func TestALockedEndpoint(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url)
	l := run(t, connect(t, url), audit.Options{})
	ws := &waiting{t: t, l: l}
	finish(t, l, event(), relay.Verdict{Action: relay.Delivered})
	commit := hold(t, pool, "UPDATE relay.endpoints SET name = 'by hand'")
	for range 20 {
		w := event()
		ws.record(w, grant(t, l, w))
	}
	if took := others(t, l); took > 2*time.Second {
		t.Errorf("others waited %v", took)
	}
	ws.release(commit)
	requireExactCounts(t, pool)
}

// TestALockedIdempotencyKey: whoever gives it back by hand holds up the events
// that ask for it. Relay may not lock that row, so it has to be found otherwise.
func TestALockedIdempotencyKey(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url)
	l := run(t, connect(t, url+"&role=relay_app"), audit.Options{})
	ws := &waiting{t: t, l: l}
	finish(t, l, keyed("k"), relay.Verdict{Action: relay.Delivered})
	commit := hold(t, pool, "DELETE FROM relay.idempotency")
	ws.claim(keyed("k"), relay.Send)
	var wg sync.WaitGroup
	for range 15 {
		wg.Go(func() { others(t, l) })
	}
	wg.Wait()
	ws.release(commit)
	requireExactCounts(t, pool)
}

// TestALockedTable: everyone waits, is told why if it lasts, and goes on when
// the lock is gone.
func TestALockedTable(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url)
	l := run(t, connect(t, url), audit.Options{})
	for _, lock := range []string{
		"LOCK TABLE relay.webhooks IN ACCESS EXCLUSIVE MODE", "LOCK TABLE relay.attempts IN SHARE MODE",
	} {
		ws := &waiting{t: t, l: l}
		w := event()
		c := grant(t, l, w)
		began := time.Now()
		commit := hold(t, pool, lock)
		ws.record(w, c)
		await(t, func() bool { return l.Ready(t.Context()) != nil })
		if quick := time.Since(began); quick < 2*time.Second {
			t.Errorf("not ready after %v: so long does relay itself take to drop a day", quick)
		}
		if err := l.Ready(t.Context()); !strings.Contains(err.Error(), "another session has locked a whole table") {
			t.Errorf("ready: %v", err)
		}
		ws.release(commit)
		if took := others(t, l); took > time.Second {
			t.Errorf("others waited %v", took)
		}
		await(t, func() bool { return l.Ready(t.Context()) == nil })
	}
	requireExactCounts(t, pool)
}

// TestCallersOfALockedRowMayLeave: their claims are not made when the lock is
// gone, and a log that ends waits for the others no longer than its grace.
func TestCallersOfALockedRowMayLeave(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := audit.New(pool, audit.Options{Grace: 300 * time.Millisecond})
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(running) }()
	left, stays := event(), event()
	finish(t, l, left, relay.Verdict{Action: relay.Retry})
	c := grant(t, l, stays)
	commit := hold(t, pool, "SELECT FROM relay.webhooks FOR UPDATE")

	impatient, leave := context.WithTimeout(t.Context(), 1200*time.Millisecond) // it is set aside by then
	defer leave()
	if _, err := l.Claim(impatient, left); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("claim: %v", err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := l.Record(t.Context(), stays, c, nil, relay.Verdict{Action: relay.Defer})
		waits <- err
	}()
	others(t, l)
	stop()
	if err := <-waits; !errors.Is(err, audit.ErrClosed) {
		t.Errorf("record: %v, want closed", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	commit()
	check(t, state(t, pool, left), "pending at queue, generation 0, 1 attempts (1), streak 0, free, no time")
}
