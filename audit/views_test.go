package audit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

func TestWebhookStatus(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	bodies := map[string]string{
		`{"order": 17}`:              `{"order": 17}`,
		`"text"`:                     `"text"`,
		``:                           `-`,
		`no JSON`:                    `-`,
		`{"nul": "\u0000"}`:          `-`,
		"\x00\xff binary":            `-`,
		`{"number": 1e999999}`:       `-`,
		`{"surrogate": "\ud800"}`:    `-`,
		deep(100_000):                `-`,
		`{"unicode": "caf\u00e9 ☕"}`: `{"unicode": "café ☕"}`,
	}
	for body, want := range bodies {
		w := event()
		w.Body = []byte(body)
		finish(t, l, w, relay.Verdict{Action: relay.Retry})
		record(t, l, w, grant(t, l, w), relay.Verdict{Action: relay.Delivered, Place: relay.Gone}, answered(202))
		got := query[string](t, pool, `SELECT format('%s %s %s %s %s %s', coalesce(body::text, '-'), body_bytes, status,
			attempts, last_status, last_response) FROM relay.webhook_status WHERE event_key = $1`, w.Key.String())
		check(t, got, fmt.Sprintf("%s %d delivered 2 202 ok", want, len(body)))
	}
	w := event()
	grant(t, l, w) // no attempt yet
	check(t, query[bool](t, pool, "SELECT last_kind IS NULL FROM relay.webhook_status WHERE event_key = $1", w.Key.String()), true)
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.webhook_status"), len(bodies)+1)
}

// deep is JSON that is nested deeper than Postgres follows.
func deep(n int) string {
	b := make([]byte, 0, 2*n)
	for range n {
		b = append(b, '[')
	}
	for range n {
		b = append(b, ']')
	}
	return string(b)
}

func TestEndpointHealth(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	for i := range 10 {
		v, a := relay.Verdict{Action: relay.Delivered}, answered(200)
		if i < 3 {
			v, a = relay.Verdict{Action: relay.Retry, After: time.Minute}, answered(500)
		}
		if i == 9 {
			a.Started = a.Started.Add(-25 * time.Hour)
		}
		w := event()
		a.Took = time.Duration(i+1) * 10 * time.Millisecond
		record(t, l, w, grant(t, l, w), v, a)
	}
	lost := event()
	grant(t, l, lost)
	expire(t, pool)
	grant(t, l, lost)

	check(t, query[string](t, pool, `SELECT format('%s: %s attempts, %s good, %s bad, %s %%, %s ms, %s ms, %s pending, %s, %s+%s',
		url, attempts_24h, successes_24h, failures_24h, success_percent_24h, p50_ms_24h, p95_ms_24h, pending, circuit_state,
		success_count, failure_count) FROM relay.endpoint_health`),
		"https://a.example/hook: 9 attempts, 6 good, 3 bad, 66.67 %, 50 ms, 86 ms, 3 pending, closed, 7+3")

	l.Circuit("endpoint-idle", "https://idle.example/", "idle", "open", time.Time{})
	await(t, func() bool {
		return query[int](t, pool, "SELECT count(*) FROM relay.endpoint_health WHERE name = 'idle' AND attempts_24h = 0") == 1
	})
}

func TestDeadLetters(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	dead, invalid, back := event(), event(), event()
	finish(t, l, dead, relay.Verdict{Action: relay.Failed, Reason: "5 attempts", Place: relay.DeadLetters})
	invalid.EndpointKey = relay.InvalidEndpoint
	record(t, l, invalid, grant(t, l, invalid), relay.Verdict{Action: relay.Dead, Reason: "no URL", Place: relay.DeadLetters})
	finish(t, l, back, relay.Verdict{Action: relay.Dead, Place: relay.DeadLetters})
	back.Generation = 1
	finish(t, l, back, relay.Verdict{Action: relay.Delivered, Place: relay.Gone})
	grant(t, l, keyed("k"))
	claim(t, l, keyed("k")) // a duplicate has no letter

	check(t, query[string](t, pool, `SELECT string_agg(format('%s: %s, %s attempts, status %s, %s', status, reason, attempts,
		last_status, letter_subject), E'\n' ORDER BY seq) FROM relay.dead_letters`),
		fmt.Sprintf("failed: 5 attempts, 1 attempts, status 500, webhooks.dead.endpoint-a.%s\n"+
			"dead: no URL, 0 attempts, status , webhooks.dead._invalid.%s", dead.Key, invalid.Key))
}
