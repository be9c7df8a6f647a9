package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// TestRecord writes every verdict twice: the second time nothing may change.
func TestRecord(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{Worker: "w1"})
	tests := []struct {
		name     string
		verdict  relay.Verdict
		attempts []relay.Attempt
		state    string
		history  string
	}{
		{
			name:     "delivered",
			verdict:  relay.Verdict{Action: relay.Delivered, Place: relay.Gone},
			attempts: []relay.Attempt{answered(204)},
			state:    "delivered at gone, generation 0, 1 attempts (1), streak 0, free, no time",
			history:  "1 response 204 by w1",
		},
		{
			name:     "retry",
			verdict:  relay.Verdict{Action: relay.Retry, After: time.Minute, Reason: "status 500", Place: relay.Asleep},
			attempts: []relay.Attempt{answered(500)},
			state:    "pending at asleep, generation 0, 1 attempts (1), streak 0, free, due",
			history:  "1 response 500 by w1",
		},
		{
			name:    "retry at once after two attempts",
			verdict: relay.Verdict{Action: relay.Retry},
			attempts: []relay.Attempt{
				{ID: relay.AttemptID{1}, Started: time.Now(), Kind: relay.Error, Class: "reset", Err: "connection reset"},
				answered(503),
			},
			state:   "pending at queue, generation 0, 2 attempts (2), streak 0, free, no time",
			history: "1 error 0 by w1;2 response 503 by w1",
		},
		{
			name:    "deferred",
			verdict: relay.Verdict{Action: relay.Defer, After: time.Minute, Reason: "circuit open", Place: relay.Parked},
			state:   "pending at lane, generation 0, 0 attempts (0), streak 0, free, due",
		},
		{
			name:     "failed",
			verdict:  relay.Verdict{Action: relay.Failed, Reason: "5 attempts", Place: relay.DeadLetters},
			attempts: []relay.Attempt{answered(500)},
			state:    "failed at dead letters, generation 0, 1 attempts (1), streak 0, free, no time",
			history:  "1 response 500 by w1",
		},
		{
			name:     "dead after an attempt",
			verdict:  relay.Verdict{Action: relay.Dead, Reason: "410", Place: relay.DeadLetters},
			attempts: []relay.Attempt{answered(410)},
			state:    "dead at dead letters, generation 0, 1 attempts (1), streak 0, free, no time",
			history:  "1 response 410 by w1",
		},
		{
			name:     "blocked",
			verdict:  relay.Verdict{Action: relay.Dead, Reason: "blocked", Place: relay.DeadLetters},
			attempts: []relay.Attempt{{Started: time.Now(), Kind: relay.Blocked, Class: "blocked", Err: "10.0.0.1"}},
			state:    "dead at dead letters, generation 0, 1 attempts (1), streak 0, free, no time",
			history:  "1 blocked 0 by w1",
		},
		{
			name:    "dead without an attempt",
			verdict: relay.Verdict{Action: relay.Dead, Reason: "invalid: no URL", Place: relay.DeadLetters},
			state:   "dead at dead letters, generation 0, 0 attempts (0), streak 0, free, no time",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := event()
			c := grant(t, l, w)
			for range 2 {
				check(t, record(t, l, w, c, test.verdict, test.attempts...), test.verdict)
				check(t, state(t, pool, w), test.state)
				check(t, strings.Join(attempts(t, pool, w), ";"), test.history)
				check(t, query[string](t, pool, "SELECT coalesce(reason, '') FROM relay.webhooks WHERE accepted_at = $1 AND seq = $2",
					w.Key.Time, int64(w.Key.Seq)), test.verdict.Reason)
			}
		})
	}
}

func TestNextDueIsByPostgresClock(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	finish(t, l, event(), relay.Verdict{Action: relay.Retry, After: time.Hour})
	rest := query[time.Duration](t, pool, "SELECT next_due - now() FROM relay.webhooks")
	if rest > time.Hour || rest < time.Hour-10*time.Second {
		t.Errorf("due in %v, want in an hour", rest)
	}
}

// TestLostClaim lets process w2 take over what w1 has not recorded in time, and
// then w1 records all the same.
func TestLostClaim(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url)
	w1 := run(t, pool, audit.Options{Worker: "w1"})
	w2 := run(t, pool, audit.Options{Worker: "w2"})
	delivered := relay.Verdict{Action: relay.Delivered, Place: relay.Gone}
	retry := relay.Verdict{Action: relay.Retry, After: time.Hour, Place: relay.Asleep}
	dead := relay.Verdict{Action: relay.Dead, Reason: "410", Place: relay.DeadLetters}
	failed := relay.Verdict{Action: relay.Failed, Reason: "used up", Place: relay.DeadLetters}

	tests := []struct {
		name    string
		then    *relay.Verdict // w2's record; nil: its attempt is still under way
		late    relay.Verdict  // w1's record
		none    bool           // w1 made no attempt
		want    relay.Verdict
		state   string
		history string
	}{
		{
			name: "failed late", late: retry,
			want:    relay.Verdict{Action: relay.Superseded},
			state:   "processing at queue, generation 0, 0 attempts (0), streak 1, claimed, no time",
			history: "1 unrecorded 0 by w1",
		},
		{
			name: "deferred late", late: retry, none: true,
			want:    relay.Verdict{Action: relay.Superseded},
			state:   "processing at queue, generation 0, 0 attempts (0), streak 1, claimed, no time",
			history: "1 unrecorded 0 by w1",
		},
		{
			name: "delivered late", late: delivered,
			want:    delivered,
			state:   "delivered at gone, generation 0, 0 attempts (0), streak 1, free, no time",
			history: "1 unrecorded 0 by w1",
		},
		{
			name: "delivered late, while it waits", then: &retry, late: delivered,
			want:    delivered,
			state:   "delivered at gone, generation 0, 1 attempts (1), streak 0, free, no time",
			history: "1 unrecorded 0 by w1;1 response 503 by w2",
		},
		{
			name: "delivered late, after its death", then: &dead, late: delivered,
			want:    dead,
			state:   "dead at dead letters, generation 0, 1 attempts (1), streak 0, free, no time",
			history: "1 unrecorded 0 by w1;1 response 503 by w2",
		},
		{
			name: "failed late, after its failure", then: &failed, late: retry,
			want:    failed,
			state:   "failed at dead letters, generation 0, 1 attempts (1), streak 0, free, no time",
			history: "1 unrecorded 0 by w1;1 response 503 by w2",
		},
		{
			name: "failed late, after its delivery", then: &delivered, late: dead,
			want:    delivered,
			state:   "delivered at gone, generation 0, 1 attempts (1), streak 0, free, no time",
			history: "1 unrecorded 0 by w1;1 response 503 by w2",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := event()
			lost := grant(t, w1, w)
			expire(t, pool)
			c := grant(t, w2, w)
			if test.then != nil {
				record(t, w2, w, c, *test.then, answered(503))
			}
			var made []relay.Attempt
			if !test.none {
				made = append(made, answered(200))
			}
			for range 2 {
				got := record(t, w1, w, lost, test.late, made...)
				if got.Action == relay.Superseded {
					got.Reason = ""
				}
				check(t, got, test.want)
				check(t, state(t, pool, w), test.state)
				check(t, strings.Join(attempts(t, pool, w), ";"), test.history)
			}
			if test.then == nil { // w2 comes back, too
				got := record(t, w2, w, c, retry, answered(500))
				if test.want.Action == relay.Delivered {
					check(t, got.Action, relay.Delivered)
				} else {
					check(t, got, retry)
				}
				requireExactCounts(t, pool)
			}
		})
	}
}

// TestLostClaimWithoutARow is about a claim that another process gave away
// without taking its attempt for lost: no row stands in the way of the late one.
func TestLostClaimWithoutARow(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{Worker: "w1"})
	w := event()
	lost := grant(t, l, w)
	exec(t, pool, "UPDATE relay.webhooks SET claim = NULL, status = 'pending'")

	got := record(t, l, w, lost, relay.Verdict{Action: relay.Retry}, answered(500))
	check(t, got.Action, relay.Superseded)
	check(t, attempts(t, pool, w), []string{"1 response 500 by w1"})
	requireExactCounts(t, pool)
}

func TestRecordOfAnOlderGeneration(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{Worker: "w1"})
	w := event()
	lost := grant(t, l, w)
	exec(t, pool, "UPDATE relay.webhooks SET claim = NULL, status = 'dead'")
	replay := w
	replay.Generation = 1
	c := grant(t, l, replay)

	late := record(t, l, w, lost, relay.Verdict{Action: relay.Delivered, Place: relay.Gone}, answered(200))
	check(t, late.Action, relay.Superseded)
	check(t, state(t, pool, w), "processing at queue, generation 1, 1 attempts (0), streak 0, claimed, no time")
	check(t, record(t, l, replay, c, relay.Verdict{Action: relay.Failed, Place: relay.DeadLetters}, answered(500)).Action, relay.Failed)
	check(t, state(t, pool, w), "failed at dead letters, generation 1, 2 attempts (1), streak 0, free, no time")
}

func TestRecordOfADroppedEvent(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	w := event()
	c := grant(t, l, w)
	exec(t, pool, "DELETE FROM relay.webhooks")
	v := relay.Verdict{Action: relay.Retry, After: time.Minute}
	check(t, record(t, l, w, c, v), v)
}

func TestNothingToRecord(t *testing.T) {
	l := audit.New(connect(t, testdb.New(t)), audit.Options{})
	for _, a := range []relay.Action{relay.Send, relay.Wait, relay.Superseded} {
		if _, err := l.Record(t.Context(), event(), relay.Claim{}, nil, relay.Verdict{Action: a}); err == nil {
			t.Errorf("%v was recorded", a)
		}
	}
}

func TestEndpointCounts(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	for i := range 12 {
		w := event()
		if i%2 == 0 {
			w.EndpointKey, w.EndpointName, w.URL = "endpoint-b", "b", "https://user:secret@b.example:8443/in?token=secret"
		}
		v := relay.Verdict{Action: relay.Delivered}
		if i%3 == 0 {
			v.Action = relay.Retry
		}
		c := grant(t, l, w)
		status := map[relay.Action]int{relay.Delivered: 200, relay.Retry: 500}[v.Action]
		for range 3 { // repeated records count once
			record(t, l, w, c, v, answered(status))
		}
	}
	check(t, query[string](t, pool, `SELECT string_agg(format('%s %s %s %s %s+%s %s', endpoint_key, url, host, name,
		success_count, failure_count, circuit_state), E'\n' ORDER BY endpoint_key) FROM relay.endpoints`),
		"endpoint-a https://a.example/hook a.example  4+2 closed\n"+
			"endpoint-b https://b.example:8443/in b.example:8443 b 4+2 closed")
	requireExactCounts(t, pool)
}

// requireExactCounts compares all counters with the attempts that are there.
func requireExactCounts(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	check(t, query[int](t, pool, `SELECT count(*) FROM relay.webhooks w WHERE (attempts, generation_attempts) <> (
		SELECT count(*), count(*) FILTER (WHERE a.generation = w.generation) FROM relay.attempts a
		WHERE a.accepted_at = w.accepted_at AND a.seq = w.seq AND kind <> 'unrecorded')`), 0)
	check(t, query[int](t, pool, `SELECT count(*) FROM relay.endpoints e WHERE (success_count, failure_count) <> (
		SELECT count(*) FILTER (WHERE success), count(*) FILTER (WHERE NOT success) FROM relay.attempts a
		WHERE a.endpoint_key = e.endpoint_key AND kind <> 'unrecorded')`), 0)
	check(t, query[int](t, pool, `SELECT count(*) FROM relay.attempts a WHERE kind <> 'unrecorded'
		AND endpoint_key NOT IN (SELECT endpoint_key FROM relay.endpoints)`), 0)
}
