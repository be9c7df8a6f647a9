package admin_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/admin"
)

// wantLines fails the test for every line that /metrics does not show.
func wantLines(t *testing.T, m *admin.Metrics, lines ...string) {
	t.Helper()
	code, body := get(t, serve(t, admin.Options{Metrics: m})+"/metrics", "")
	if code != 200 {
		t.Fatalf("/metrics: %d %s", code, body)
	}
	for _, line := range lines {
		if !strings.Contains("\n"+body, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "relay_") {
				t.Log(line)
			}
		}
	}
}

func TestObserveCountsAttempts(t *testing.T) {
	m := admin.NewMetrics(admin.MetricsOptions{})
	accepted := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w := relay.Webhook{Key: relay.NewKey(accepted, 1)}
	failed := relay.Attempt{Kind: relay.Response, Status: 503, Took: time.Second}
	m.Observe(w, []relay.Attempt{failed}, relay.Verdict{Action: relay.Retry})
	m.Observe(w, []relay.Attempt{{Kind: relay.Error, Took: time.Second}}, relay.Verdict{Action: relay.Retry})
	m.Observe(w, nil, relay.Verdict{Action: relay.Defer})
	m.Observe(w, []relay.Attempt{
		{Kind: relay.Response, Status: 204, Success: true, Started: accepted.Add(3 * time.Second), Took: time.Second},
	}, relay.Verdict{Action: relay.Delivered})
	wantLines(t, m,
		`relay_attempts_total{outcome="failure",status_class="5xx"} 1`,
		`relay_attempts_total{outcome="error",status_class="none"} 1`,
		`relay_attempts_total{outcome="success",status_class="2xx"} 1`,
		`relay_attempt_duration_seconds_count 3`,
		`relay_attempt_duration_seconds_sum 3`,
		`relay_delivery_duration_seconds_count 1`,
		`relay_delivery_duration_seconds_sum 4`,
		`relay_verdicts_total{action="defer"} 1`,
		`relay_verdicts_total{action="retry"} 2`,
		`relay_verdicts_total{action="delivered"} 1`,
	)
}

// Scheduled webhooks are not late before they are due, and a replay's clock began
// with another generation.
func TestDeliveryTimeBeginsWhenTheWebhookMayBeSent(t *testing.T) {
	m := admin.NewMetrics(admin.MetricsOptions{})
	accepted := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ok := []relay.Attempt{{Kind: relay.Response, Status: 200, Success: true, Started: accepted.Add(time.Hour + time.Second)}}
	delivered := relay.Verdict{Action: relay.Delivered}
	m.Observe(relay.Webhook{Key: relay.NewKey(accepted, 1), ScheduledAt: accepted.Add(time.Hour)}, ok, delivered)
	m.Observe(relay.Webhook{Key: relay.NewKey(accepted, 2), Generation: 1}, ok, delivered)
	wantLines(t, m, `relay_delivery_duration_seconds_count 1`, `relay_delivery_duration_seconds_sum 1`)
}

func TestDeadLettersHaveAClassOfReason(t *testing.T) {
	m := admin.NewMetrics(admin.MetricsOptions{})
	dead := func(reason string, attempts ...relay.Attempt) {
		m.Observe(relay.Webhook{}, attempts, relay.Verdict{Action: relay.Dead, Reason: reason})
	}
	m.Observe(relay.Webhook{}, []relay.Attempt{{Kind: relay.Response, Status: 500}}, relay.Verdict{Action: relay.Failed})
	dead("410 Gone", relay.Attempt{Kind: relay.Response, Status: 410})
	dead("404 Not Found", relay.Attempt{Kind: relay.Response, Status: 404})
	dead("not an address to call", relay.Attempt{Kind: relay.Blocked})
	dead("expired: 72h after acceptance")
	dead("expired: the next attempt would come too late", relay.Attempt{Kind: relay.Response, Status: 503})
	dead("invalid: url is missing")
	dead("poison: five processes died")
	dead("whatever a person reads")
	wantLines(t, m,
		`relay_dead_letters_total{reason="exhausted"} 1`,
		`relay_dead_letters_total{reason="gone"} 1`,
		`relay_dead_letters_total{reason="rejected"} 1`,
		`relay_dead_letters_total{reason="blocked"} 1`,
		`relay_dead_letters_total{reason="expired"} 2`,
		`relay_dead_letters_total{reason="invalid"} 1`,
		`relay_dead_letters_total{reason="poison"} 1`,
		`relay_dead_letters_total{reason="other"} 1`,
	)
}

// Whatever receivers answer, and whoever publishes what, there are few series.
func TestSeriesAreBounded(t *testing.T) {
	m := admin.NewMetrics(admin.MetricsOptions{})
	for status := range 1000 {
		theirs := fmt.Sprintf("producers-%d", status)
		w := relay.Webhook{
			ID: theirs, Tenant: theirs, EventType: theirs, EndpointName: theirs, EndpointKey: theirs, URL: "https://" + theirs + ".example/",
			IdempotencyKey: theirs,
		}
		for _, kind := range []relay.Kind{relay.Response, relay.Error, relay.Blocked, relay.Unrecorded, "invented"} {
			m.Observe(w, []relay.Attempt{{Kind: kind, Status: status, Class: theirs, Err: theirs}},
				relay.Verdict{Action: relay.Dead, Reason: theirs})
		}
	}
	_, body := get(t, serve(t, admin.Options{Metrics: m})+"/metrics", "")
	if n := strings.Count(body, "\nrelay_attempts_total{"); n > 6*7 {
		t.Errorf("%d series of attempts", n)
	}
	if strings.Contains(body, "producers-") {
		t.Error("a series is named after what producers choose")
	}
	if n := strings.Count(body, "\nrelay_dead_letters_total{"); n > 8 {
		t.Errorf("%d series of dead letters", n)
	}
}

func TestCommitsAndGauges(t *testing.T) {
	m := admin.NewMetrics(admin.MetricsOptions{Version: "v1.2.3", Stats: func() admin.Stats {
		return admin.Stats{
			Pending:    map[string]uint64{"queue": 7, "due": 2},
			AckPending: map[string]int{"queue": 5},
			Circuits:   map[string]int{"open": 1, "closed": 9},
			OldestDue:  1500 * time.Millisecond,
			InFlight:   3,
			Lanes:      4,
			Parked:     1234,
			PutOff:     56,
			Stalled:    12 * time.Second,
			Blocked:    map[string]time.Duration{"WEBHOOKS_DEAD": 90 * time.Second, "WEBHOOKS_LATER": 0},
			ClockSkew:  map[string]time.Duration{"nats": -2500 * time.Millisecond},
		}
	}})
	m.Commit("claim", 12, 4*time.Millisecond)
	m.Commit("record", 1, 2*time.Millisecond)
	wantLines(t, m,
		`relay_queue_pending{queue="queue"} 7`,
		`relay_queue_pending{queue="due"} 2`,
		`relay_ack_pending{queue="queue"} 5`,
		`relay_circuits{state="open"} 1`,
		`relay_circuits{state="closed"} 9`,
		`relay_oldest_due_seconds 1.5`,
		`relay_in_flight 3`,
		`relay_lanes 4`,
		`relay_lane_events 1234`,
		`relay_put_off 56`,
		`relay_stalled_seconds 12`,
		`relay_moves_blocked_seconds{stream="WEBHOOKS_DEAD"} 90`,
		`relay_moves_blocked_seconds{stream="WEBHOOKS_LATER"} 0`,
		`relay_clock_skew_seconds{against="nats"} -2.5`,
		`relay_commit_batch_size_sum{kind="claim"} 12`,
		`relay_commit_duration_seconds_count{kind="claim"} 1`,
		`relay_commit_duration_seconds_sum{kind="record"} 0.002`,
	)
	_, body := get(t, serve(t, admin.Options{Metrics: m})+"/metrics", "")
	for _, part := range []string{`version="v1.2.3"`, "\ngo_goroutines ", "\nprocess_open_fds "} {
		if !strings.Contains(body, part) {
			t.Errorf("no %q", part)
		}
	}
}
