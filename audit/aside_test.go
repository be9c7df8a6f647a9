package audit_test

import (
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// Setting an event aside comes to what a claim and a record of the deferral
// come to, whatever happened to the event before.
func TestSetAsideIsAClaimGivenBack(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{Worker: "w1", Lease: time.Minute})
	aside := relay.Verdict{Action: relay.Defer, Reason: "circuit open", Place: relay.Parked}
	retry := relay.Verdict{Action: relay.Retry, After: time.Millisecond, Reason: "status 500", Place: relay.Asleep}
	for _, tc := range []struct {
		name   string
		before func(relay.Webhook)
		replay bool
	}{
		{name: "new"},
		{name: "new, but a replay", replay: true},
		{name: "tried before", before: func(w relay.Webhook) { finish(t, l, w, retry) }},
		{name: "not due yet", before: func(w relay.Webhook) {
			finish(t, l, w, relay.Verdict{Action: relay.Retry, After: time.Hour, Place: relay.Asleep})
		}},
		{name: "set aside before", before: func(w relay.Webhook) { mustSetAside(t, l, w, aside) }},
		{name: "claimed by a live process", before: func(w relay.Webhook) { grant(t, l, w) }},
		{name: "claimed by a dead process", before: func(w relay.Webhook) {
			grant(t, l, w)
			exec(t, pool, "UPDATE relay.webhooks SET claimed_until = now() - interval '1 s' WHERE accepted_at = $1", w.Key.Time)
		}},
		{name: "delivered", before: func(w relay.Webhook) {
			finish(t, l, w, relay.Verdict{Action: relay.Delivered, Place: relay.Gone})
		}},
		{name: "dead and replayed", replay: true, before: func(w relay.Webhook) {
			finish(t, l, w, relay.Verdict{Action: relay.Dead, Place: relay.DeadLetters})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			one, two := event(), event()
			for _, w := range []*relay.Webhook{&one, &two} {
				if tc.before != nil {
					tc.before(*w)
				}
				if tc.replay {
					w.Generation++
				}
			}
			want := claim(t, l, one)
			if want.Verdict.Action == relay.Send {
				want.Verdict = record(t, l, one, want, aside)
			}
			got := mustSetAside(t, l, two, aside)
			check(t, got.Verdict.Action, want.Verdict.Action)
			check(t, got.Verdict.Reason, want.Verdict.Reason)
			check(t, state(t, pool, two), state(t, pool, one))
			check(t, attempts(t, pool, two), attempts(t, pool, one))
		})
	}
}

// An event that is set aside takes its idempotency key, and one whose key is
// taken ends as a duplicate.
func TestSetAsideKeepsIdempotencyKeys(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	aside := relay.Verdict{Action: relay.Defer, Reason: "circuit open", Place: relay.Parked}
	first, second := keyed("order-1"), keyed("order-1")
	check(t, mustSetAside(t, l, first, aside).Verdict.Action, relay.Defer)
	check(t, mustSetAside(t, l, second, aside).Verdict.Action, relay.Duplicate)
	check(t, claim(t, l, first).Verdict.Action, relay.Send)
	if _, err := l.SetAside(t.Context(), event(), relay.Verdict{Action: relay.Delivered, Place: relay.Gone}); err == nil {
		t.Error("an event was set aside as delivered")
	}
}

// Events that are set aside are written apart from claims: a request waits for
// no batch of them.
func TestNoClaimWaitsForWhatIsSetAside(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l, committed := watched(t, pool)
	mustSetAside(t, l, event(), relay.Verdict{Action: relay.Defer, Reason: "circuit open", Place: relay.Parked})
	grant(t, l, event())
	check(t, committed(), []string{"aside 1", "claim 1"})
}

func mustSetAside(t testing.TB, l *audit.Log, w relay.Webhook, v relay.Verdict) relay.Claim {
	t.Helper()
	c, err := l.SetAside(t.Context(), w, v)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
