package audit_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
)

// connect returns a pool on a database as package audit makes it.
func connect(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := audit.Pool(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// run starts a log and ends it with the test.
func run(t testing.TB, pool *pgxpool.Pool, o audit.Options) *audit.Log {
	t.Helper()
	o.Logger = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)
	l := audit.New(pool, o)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return l
}

// watched starts a log, and says which batches it has committed: their kinds and
// rows.
func watched(t testing.TB, pool *pgxpool.Pool) (l *audit.Log, committed func() []string) {
	t.Helper()
	var mu sync.Mutex
	var batches []string
	l = run(t, pool, audit.Options{Observe: func(kind string, rows int, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		batches = append(batches, fmt.Sprint(kind, " ", rows))
	}})
	return l, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(batches)
	}
}

var sequence atomic.Uint64

// event makes a webhook that no test has seen.
func event() relay.Webhook {
	n := sequence.Add(1)
	return relay.Webhook{
		Key:         relay.NewKey(time.Now(), n),
		ID:          fmt.Sprintf("order-%d", n),
		EndpointKey: "endpoint-a",
		URL:         "https://a.example/hook?token=secret",
		Method:      http.MethodPost,
		ContentType: "application/json",
		Body:        []byte(`{"order":17}`),
		ExpiresAt:   time.Now().Add(72 * time.Hour).UTC().Truncate(time.Microsecond),
	}
}

// answered makes an attempt with a response.
func answered(status int) relay.Attempt {
	return relay.Attempt{
		Started: time.Now(), Took: 12500 * time.Microsecond,
		Kind: relay.Response, Success: status < 300, Status: status,
		Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte("ok"),
	}
}

func claim(t testing.TB, l *audit.Log, w relay.Webhook) relay.Claim {
	t.Helper()
	c, err := l.Claim(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// grant makes a claim that must be granted.
func grant(t testing.TB, l *audit.Log, w relay.Webhook) relay.Claim {
	t.Helper()
	c := claim(t, l, w)
	if c.Verdict.Action != relay.Send {
		t.Fatalf("claim: %v %q, want send", c.Verdict.Action, c.Verdict.Reason)
	}
	return c
}

func record(t testing.TB, l *audit.Log, w relay.Webhook, c relay.Claim, v relay.Verdict, as ...relay.Attempt) relay.Verdict {
	t.Helper()
	got, err := l.Record(t.Context(), w, c, as, v)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// finish takes an event to its end, with one attempt.
func finish(t testing.TB, l *audit.Log, w relay.Webhook, v relay.Verdict) {
	t.Helper()
	status := 500
	if v.Action == relay.Delivered {
		status = 200
	}
	if got := record(t, l, w, grant(t, l, w), v, answered(status)); got != v {
		t.Fatalf("record: %+v, want %+v", got, v)
	}
}

func exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// query returns the one value that sql asks for.
func query[T any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) T {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// state is an event's row in one line.
func state(t testing.TB, pool *pgxpool.Pool, w relay.Webhook) string {
	t.Helper()
	return query[string](t, pool, `
		SELECT format('%s at %s, generation %s, %s attempts (%s), streak %s, %s, %s', status, place, generation,
			attempts, generation_attempts, unrecorded_streak,
			CASE WHEN claim IS NULL THEN 'free' ELSE 'claimed' END, CASE WHEN next_due IS NULL THEN 'no time' ELSE 'due' END)
		FROM relay.webhooks WHERE accepted_at = $1 AND seq = $2`, w.Key.Time, int64(w.Key.Seq))
}

func check(t testing.TB, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("got other than wanted (-want +got):\n%s", diff)
	}
}

// expire ends all claims that are under way.
func expire(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	exec(t, pool, "UPDATE relay.webhooks SET claimed_until = now() - interval '1 s' WHERE claim IS NOT NULL")
}
