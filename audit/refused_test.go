package audit_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

const hostile = "a\x00b\xff\xfe\xc3 \U0001F4A9"

// hostileEvent has everything in it that a producer might send to stop the log.
func hostileEvent() relay.Webhook {
	w := event()
	w.ID, w.Tenant, w.EventType, w.EndpointName = hostile, hostile, hostile, hostile+strings.Repeat("x", 5000)
	w.URL = "https://a.example/" + hostile + strings.Repeat("y", 100_000)
	w.Method, w.ContentType, w.IdempotencyKey = hostile, hostile, hostile
	w.Header = http.Header{hostile: {hostile, hostile}, "Authorization": {"Bearer secret"}}
	w.Metadata = []byte(`{"a\u0000":"\ud800"}`)
	w.Body = make([]byte, 64<<10)
	_, _ = rand.Read(w.Body)
	w.MaxAttempts = 1 << 40
	return w
}

// hostileAttempt is an answer from a receiver of the same kind.
func hostileAttempt() relay.Attempt {
	a := answered(599)
	a.Header = http.Header{hostile: {hostile}, "Set-Cookie": {"id=secret"}}
	a.Body = make([]byte, relay.MaxResponseBody)
	_, _ = rand.Read(a.Body)
	a.Body[0], a.Truncated = 0, true
	a.Class, a.Err = hostile, hostile
	return a
}

func TestHostileBytesAreStored(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	w, a := hostileEvent(), hostileAttempt()
	record(t, l, w, grant(t, l, w), relay.Verdict{Action: relay.Dead, Reason: hostile}, a)

	check(t, query[[]byte](t, pool, "SELECT body FROM relay.webhooks"), w.Body)
	check(t, query[[]byte](t, pool, "SELECT response_body FROM relay.attempts"), a.Body)
	check(t, query[string](t, pool, "SELECT reason FROM relay.webhooks"), "a\uFFFDb\uFFFD \U0001F4A9")
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.attempts WHERE error_class = 'unrecordable'"), 0)
	check(t, query[bool](t, pool, `SELECT format('%s%s', w.headers, a.response_headers) LIKE '%secret%'
		FROM relay.webhooks w, relay.attempts a`), false)
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.webhook_status WHERE body IS NULL AND last_response IS NULL"), 1)
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.dead_letters"), 1)
}

// TestOneRefusedRowStopsNobody has Postgres refuse single rows in the midst of
// others: by a number that jsonb cannot hold, and by a constraint.
func TestOneRefusedRowStopsNobody(t *testing.T) {
	pool := connect(t, testdb.New(t))
	exec(t, pool, "ALTER TABLE relay.attempts ADD CONSTRAINT no_evil CHECK (error_message NOT LIKE '%evil%')")
	l := run(t, pool, audit.Options{Worker: "w1"})
	retry := relay.Verdict{Action: relay.Retry, After: time.Minute, Reason: "evil", Place: relay.Asleep}

	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			w, a := event(), answered(500)
			if i%10 == 3 {
				w.Metadata = []byte(`{"n": 1e999999}`)
			}
			if i%10 == 7 {
				a.Err = "evil"
			}
			c, err := l.Claim(t.Context(), w)
			if err != nil || c.Verdict.Action != relay.Send {
				t.Errorf("claim: %v, %v", c.Verdict, err)
			}
			if v, err := l.Record(t.Context(), w, c, []relay.Attempt{a}, retry); err != nil || v.Action != relay.Retry {
				t.Errorf("record: %v, %v", v, err)
			}
		})
	}
	wg.Wait()
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.webhooks WHERE status = 'pending' AND attempts = 1"), 100)
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.webhooks WHERE url = '' AND webhook_id LIKE 'order-%'"), 10)
	check(t, query[int](t, pool, `SELECT count(*) FROM relay.attempts WHERE error_class = 'unrecordable'
		AND error_message = 'Postgres refused the row (SQLSTATE 23514)' AND status = 500 AND response_body IS NULL`), 10)
	requireExactCounts(t, pool)
}

func TestEventWithoutAnythingIsStored(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	w := relay.Webhook{Key: event().Key}
	finish(t, l, w, relay.Verdict{Action: relay.Delivered})
	check(t, state(t, pool, w), "delivered at queue, generation 0, 1 attempts (1), streak 0, free, no time")
}

// TestARefusedRowKeepsItsIdempotencyKey: the key belongs to a tenant, whose
// name may hold foreign bytes as well. Looking for it under another name would
// never end, and stop all.
func TestARefusedRowKeepsItsIdempotencyKey(t *testing.T) {
	l := run(t, connect(t, testdb.New(t)), audit.Options{})
	refused := func() relay.Webhook {
		w := keyed("k")
		w.Tenant, w.Metadata = "émile", []byte(`{"a":1e400000}`)
		return w
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	first := refused()
	c, err := l.Claim(ctx, first)
	if err != nil || c.Verdict.Action != relay.Send {
		t.Fatalf("claim: %+v, %v, want send", c.Verdict, err)
	}
	if again, err := l.Claim(ctx, refused()); err != nil || again.Verdict.Action != relay.Duplicate {
		t.Fatalf("claim: %+v, %v, want duplicate", again.Verdict, err)
	}
	grant(t, l, event())
	record(t, l, first, c, relay.Verdict{Action: relay.Dead, Place: relay.DeadLetters})
	grant(t, l, refused()) // the dead one gave its key back
}
