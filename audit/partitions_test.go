package audit_test

import (
	"sync"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

func TestPartitionsAreMadeAhead(t *testing.T) {
	pool := connect(t, testdb.New(t))
	run(t, pool, audit.Options{})
	const made = `SELECT count(*) FROM pg_inherits WHERE inhparent IN ('relay.webhooks'::regclass, 'relay.attempts'::regclass)`
	await(t, func() bool { return query[int](t, pool, made) == 8 })
}

// TestOldEvents claims events of days that have no partition, in two processes
// at once: letters that are replayed after years.
func TestOldEvents(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url)
	o := audit.Options{Retention: 100 * 365 * 24 * time.Hour} // else they are dropped as soon as they are delivered
	logs := []*audit.Log{run(t, pool, o), run(t, connect(t, url), o)}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			w := event()
			w.Key = relay.NewKey(time.Date(1999, 12, 27+i/4, 23, 59, 59, 999_999_999, time.UTC), w.Key.Seq)
			l := logs[i%2]
			c, err := l.Claim(t.Context(), w)
			if err != nil || c.Verdict.Action != relay.Send {
				t.Errorf("claim: %v, %v", c.Verdict, err)
			}
			v, err := l.Record(t.Context(), w, c, []relay.Attempt{answered(200)}, relay.Verdict{Action: relay.Delivered})
			if err != nil || v.Action != relay.Delivered {
				t.Errorf("record: %v, %v", v, err)
			}
		})
	}
	wg.Wait()
	check(t, query[int](t, pool, "SELECT count(DISTINCT tableoid) FROM relay.webhooks"), 10)
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.attempts"), 40)
}

func TestRetention(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	at := func(days int, key string) relay.Webhook {
		w := keyed(key)
		w.Key = relay.NewKey(time.Now().AddDate(0, 0, -days), w.Key.Seq)
		return w
	}
	older, old, open, recent := at(127, "older"), at(125, "old"), at(130, "open"), at(110, "recent")
	for _, w := range []relay.Webhook{older, old, recent} {
		finish(t, l, w, relay.Verdict{Action: relay.Delivered})
	}
	finish(t, l, open, relay.Verdict{Action: relay.Retry, After: time.Hour})

	// A retention that is too short is lengthened to what a replay may need.
	run(t, pool, audit.Options{Retention: 24 * time.Hour})
	await(t, func() bool { return query[int](t, pool, "SELECT count(*) FROM relay.webhooks") == 2 })
	check(t, query[string](t, pool, "SELECT string_agg(key, ' ' ORDER BY key) FROM relay.idempotency"), "open recent")
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.attempts"), 2)
	check(t, state(t, pool, open), "pending at queue, generation 0, 1 attempts (1), streak 0, free, due")
}

// await polls until a condition holds.
func await(t testing.TB, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}
