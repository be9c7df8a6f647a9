package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// scene is where an event's past takes place.
type scene struct {
	t    *testing.T
	l    *audit.Log
	pool *pgxpool.Pool
}

// TestClaim walks through everything that a claim can meet.
func TestClaim(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{Worker: "w1", Lease: time.Minute})

	retry := relay.Verdict{Action: relay.Retry, After: time.Hour, Reason: "status 500", Place: relay.Asleep}
	send := relay.Verdict{Action: relay.Send, Place: relay.InQueue}
	replay := func(w *relay.Webhook) { w.Generation++ }
	tests := []struct {
		name   string
		before func(s scene, w relay.Webhook) // what happened to the event so far
		change func(w *relay.Webhook)         // and to its message
		want   relay.Claim
		state  string
	}{
		{
			name:  "new",
			want:  relay.Claim{Verdict: send},
			state: "processing at queue, generation 0, 0 attempts (0), streak 0, claimed, no time",
		},
		{
			name:   "new to the log, but a replay",
			change: replay,
			want:   relay.Claim{Verdict: send},
			state:  "processing at queue, generation 1, 0 attempts (0), streak 0, claimed, no time",
		},
		{
			name:   "claimed by a live process",
			before: func(s scene, w relay.Webhook) { grant(s.t, s.l, w) },
			want:   relay.Claim{Verdict: relay.Verdict{Action: relay.Wait, After: time.Minute, Reason: "claimed by w1"}},
			state:  "processing at queue, generation 0, 0 attempts (0), streak 0, claimed, no time",
		},
		{
			name:   "not due yet",
			before: func(s scene, w relay.Webhook) { finish(s.t, s.l, w, retry) },
			want: relay.Claim{
				Made: 1, Last: 500,
				Verdict: relay.Verdict{Action: relay.Wait, After: time.Hour, Reason: "not due yet", Place: relay.Asleep},
			},
			state: "pending at asleep, generation 0, 1 attempts (1), streak 0, free, due",
		},
		{
			name: "due",
			before: func(s scene, w relay.Webhook) {
				finish(s.t, s.l, w, retry)
				exec(s.t, s.pool, "UPDATE relay.webhooks SET next_due = now() WHERE accepted_at = $1", w.Key.Time)
			},
			want:  relay.Claim{Made: 1, Last: 500, Verdict: send},
			state: "processing at queue, generation 0, 1 attempts (1), streak 0, claimed, no time",
		},
		{
			name: "due within the tolerance of two clocks",
			before: func(s scene, w relay.Webhook) {
				finish(s.t, s.l, w, relay.Verdict{Action: relay.Retry, After: 40 * time.Millisecond, Place: relay.Asleep})
			},
			want:  relay.Claim{Made: 1, Last: 500, Verdict: send},
			state: "processing at queue, generation 0, 1 attempts (1), streak 0, claimed, no time",
		},
		{
			name: "deferred without a time",
			before: func(s scene, w relay.Webhook) {
				record(s.t, s.l, w, grant(s.t, s.l, w), relay.Verdict{Action: relay.Defer, Place: relay.Parked})
			},
			want:  relay.Claim{Verdict: send},
			state: "processing at queue, generation 0, 0 attempts (0), streak 0, claimed, no time",
		},
		{
			name: "delivered already",
			before: func(s scene, w relay.Webhook) {
				finish(s.t, s.l, w, relay.Verdict{Action: relay.Delivered, Place: relay.Gone})
			},
			want:  relay.Claim{Made: 1, Last: 200, Verdict: relay.Verdict{Action: relay.Delivered, Place: relay.Gone}},
			state: "delivered at gone, generation 0, 1 attempts (1), streak 0, free, no time",
		},
		{
			name: "failed already",
			before: func(s scene, w relay.Webhook) {
				finish(s.t, s.l, w, relay.Verdict{Action: relay.Failed, Reason: "used up", Place: relay.DeadLetters})
			},
			want: relay.Claim{Made: 1, Last: 500, Verdict: relay.Verdict{
				Action: relay.Failed, Reason: "used up", Place: relay.DeadLetters,
			}},
			state: "failed at dead letters, generation 0, 1 attempts (1), streak 0, free, no time",
		},
		{
			name: "dead already",
			before: func(s scene, w relay.Webhook) {
				finish(s.t, s.l, w, relay.Verdict{Action: relay.Dead, Reason: "410", Place: relay.DeadLetters})
			},
			want: relay.Claim{Made: 1, Last: 500, Verdict: relay.Verdict{
				Action: relay.Dead, Reason: "410", Place: relay.DeadLetters,
			}},
			state: "dead at dead letters, generation 0, 1 attempts (1), streak 0, free, no time",
		},
		{
			name: "replay of a dead one",
			before: func(s scene, w relay.Webhook) {
				finish(s.t, s.l, w, relay.Verdict{Action: relay.Dead, Reason: "410", Place: relay.DeadLetters})
			},
			change: replay,
			want:   relay.Claim{Last: 500, Verdict: send},
			state:  "processing at queue, generation 1, 1 attempts (0), streak 0, claimed, no time",
		},
		{
			name: "replay of a delivered one",
			before: func(s scene, w relay.Webhook) {
				finish(s.t, s.l, w, relay.Verdict{Action: relay.Delivered, Place: relay.Gone})
			},
			change: replay,
			want:   relay.Claim{Last: 200, Verdict: send},
			state:  "processing at queue, generation 1, 1 attempts (0), streak 0, claimed, no time",
		},
		{
			name:   "replay of one that waits",
			before: func(s scene, w relay.Webhook) { finish(s.t, s.l, w, retry) },
			change: replay,
			want:   relay.Claim{Last: 500, Verdict: send},
			state:  "processing at queue, generation 1, 1 attempts (0), streak 0, claimed, no time",
		},
		{
			name:   "replay while an attempt is under way",
			before: func(s scene, w relay.Webhook) { grant(s.t, s.l, w) },
			change: replay,
			want:   relay.Claim{Verdict: relay.Verdict{Action: relay.Wait, After: time.Minute, Reason: "claimed by w1"}},
			state:  "processing at queue, generation 0, 0 attempts (0), streak 0, claimed, no time",
		},
		{
			name: "replay after a claim without a record",
			before: func(s scene, w relay.Webhook) {
				grant(s.t, s.l, w)
				expire(s.t, s.pool)
			},
			change: replay,
			want:   relay.Claim{Verdict: send},
			state:  "processing at queue, generation 1, 0 attempts (0), streak 0, claimed, no time",
		},
		{
			name: "older than a replay",
			before: func(s scene, w relay.Webhook) {
				w.Generation = 2
				grant(s.t, s.l, w)
			},
			want: relay.Claim{Verdict: relay.Verdict{
				Action: relay.Superseded, Reason: "replayed meanwhile: generation 2 is on its way",
			}},
			state: "processing at queue, generation 2, 0 attempts (0), streak 0, claimed, no time",
		},
		{
			name: "left-over claim",
			before: func(s scene, w relay.Webhook) {
				grant(s.t, s.l, w)
				expire(s.t, s.pool)
			},
			want:  relay.Claim{Verdict: send},
			state: "processing at queue, generation 0, 0 attempts (0), streak 1, claimed, no time",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := event()
			if test.before != nil {
				test.before(scene{t, l, pool}, w)
			}
			if test.change != nil {
				test.change(&w)
			}
			got := claim(t, l, w)
			if granted := got.ID != (relay.AttemptID{}); granted != (got.Verdict.Action == relay.Send) {
				t.Errorf("%v with the id %s", got.Verdict.Action, got.ID)
			}
			opts := cmp.Options{
				cmpopts.IgnoreFields(relay.Claim{}, "ID", "Until", "Lease"),
				cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() < 10*time.Second }),
			}
			if diff := cmp.Diff(test.want, got, opts); diff != "" {
				t.Errorf("claim (-want +got):\n%s", diff)
			}
			check(t, state(t, pool, w), test.state)
		})
	}
}

func TestClaimIsAskedAgainWithinItsRest(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{Lease: 200 * time.Millisecond})
	w := event()
	first := grant(t, l, w)

	// The rest that a Wait names is enough: nobody has to ask a third time.
	second := claim(t, l, w)
	if after := second.Verdict.After; second.Verdict.Action != relay.Wait || after <= 0 || after > time.Second {
		t.Fatalf("claim: %v after %v, want to wait for the rest of 200 ms", second.Verdict.Action, after)
	}
	<-time.After(second.Verdict.After)
	if third := grant(t, l, w); third.ID == first.ID {
		t.Error("two attempts under one id")
	}
}

func TestLeftOverClaimLeavesARow(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{Worker: "w1"})
	w := event()
	finish(t, l, w, relay.Verdict{Action: relay.Retry})
	lost := grant(t, l, w)
	expire(t, pool)
	next := grant(t, l, w)

	check(t, next.Made, 1)
	check(t, attempts(t, pool, w), []string{"1 response 500 by w1", "2 unrecorded 0 by w1"})
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.attempts WHERE attempt_id = $1 AND started_at <= now()", lost.ID.String()), 1)

	record(t, l, w, next, relay.Verdict{Action: relay.Delivered, Place: relay.Gone}, answered(204))
	check(t, state(t, pool, w), "delivered at gone, generation 0, 2 attempts (2), streak 0, free, no time")
}

func TestReplayBringsNewLimits(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	w := event()
	finish(t, l, w, relay.Verdict{Action: relay.Dead, Place: relay.DeadLetters})
	w.Generation, w.MaxAttempts, w.ExpiresAt = 1, 7, w.ExpiresAt.Add(time.Hour)
	grant(t, l, w)
	check(t, query[int](t, pool, "SELECT max_attempts FROM relay.webhooks WHERE expires_at = $1", w.ExpiresAt), 7)
}

func TestPoison(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	w := event()
	w.IdempotencyKey = "k"
	for range relay.MaxUnrecorded {
		grant(t, l, w)
		expire(t, pool)
	}
	want := relay.Verdict{
		Action: relay.Dead, Place: relay.DeadLetters,
		Reason: "poison: 5 attempts in a row ended with a dead process",
	}
	check(t, claim(t, l, w).Verdict, want)
	check(t, claim(t, l, w).Verdict, want) // and so it stays
	check(t, state(t, pool, w), "dead at dead letters, generation 0, 0 attempts (0), streak 5, free, no time")
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.attempts WHERE kind = 'unrecorded'"), 5)
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.idempotency"), 0)

	w.Generation = 1
	grant(t, l, w) // a replay has all its chances again
	check(t, state(t, pool, w), "processing at queue, generation 1, 0 attempts (0), streak 0, claimed, no time")
}

func TestRecordedAttemptEndsTheStreak(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	w := event()
	for range 3 {
		for range relay.MaxUnrecorded - 1 {
			grant(t, l, w)
			expire(t, pool)
		}
		finish(t, l, w, relay.Verdict{Action: relay.Retry})
	}
	check(t, state(t, pool, w), "pending at queue, generation 0, 3 attempts (3), streak 0, free, no time")
}

// attempts returns an event's attempts, one line each.
func attempts(t testing.TB, pool *pgxpool.Pool, w relay.Webhook) []string {
	t.Helper()
	return strings.Split(query[string](t, pool, `
		SELECT coalesce(string_agg(format('%s %s %s by %s', number, kind, coalesce(status, 0), worker), ';'
			ORDER BY generation, number, started_at, attempt_id), '')
		FROM relay.attempts WHERE accepted_at = $1 AND seq = $2`, w.Key.Time, int64(w.Key.Seq)), ";")
}

// What relay had before is claimed apart: its row is locked and read first,
// and a new event does not wait for it.
func TestNoNewEventWaitsForKnownOnes(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l, committed := watched(t, pool)
	w := event()
	grant(t, l, w)
	w.Again = true
	if c := claim(t, l, w); c.Verdict.Action != relay.Wait {
		t.Errorf("claimed twice: %v %q", c.Verdict.Action, c.Verdict.Reason)
	}
	unknown := event()
	unknown.Again = true // a hint, no more
	grant(t, l, unknown)
	check(t, committed(), []string{"claim 1", "reclaim 1", "reclaim 1"})
}
