package consumer_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// skewed is a database whose clock is off: relay's SQL finds a now() of the
// database before that of Postgres.
func skewed(t *testing.T, by string) string {
	t.Helper()
	u, err := url.Parse(testdb.New(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	_, err = conn.Exec(t.Context(), fmt.Sprintf(`CREATE SCHEMA skew; CREATE FUNCTION skew.now() RETURNS timestamptz
		LANGUAGE sql STABLE AS $$ SELECT pg_catalog.now() + interval '%s' $$`, by))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", "skew,pg_catalog")
	u.RawQuery = q.Encode()
	return u.String()
}

// C11: the clocks of relay and of Postgres are an hour apart. What waits, waits
// for as long as was planned, and a claim lasts as long as it should: each clock
// is compared with itself alone.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]string{"Postgres is ahead": "1 hour", "Postgres is behind": "-1 hour"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const wait = 500 * time.Millisecond
			r := relaytest.Start(t, relaytest.Options{
				DatabaseURL: skewed(t, by),
				Policy:      policy.Options{Schedule: []time.Duration{wait}, Jitter: -1},
			})
			r.Receiver.Answer(http.StatusInternalServerError)
			id := r.Publish(map[string]any{"url": r.Receiver.URL})
			r.RequireDelivered(id)
			requireEmpty(t, r)
			var apart time.Duration
			if err := r.DB.QueryRow(t.Context(), "SELECT now() - pg_catalog.now()").Scan(&apart); err != nil || apart == 0 {
				t.Fatalf("the clock is off by %v: %v", apart, err)
			}
			reqs := r.Receiver.Requests()
			if len(reqs) != 2 || len(r.Attempts(id)) != 2 {
				t.Fatalf("%d requests, the rows %+v; want two", len(reqs), r.Attempts(id))
			}
			if waited := reqs[1].At.Sub(reqs[0].At); waited < wait || waited > wait+5*time.Second {
				t.Errorf("the retry came after %v, want %v", waited, wait)
			}
		})
	}
}
