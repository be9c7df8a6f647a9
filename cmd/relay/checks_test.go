package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// Whose clock is off, is told by the third one.
func TestAClockThatIsOffIsNamed(t *testing.T) {
	const unknown = time.Duration(-1 << 62)
	for name, tc := range map[string]struct {
		nats, postgres time.Duration
		after          time.Duration // how long it has lasted
		want           string        // "" if relay is ready
	}{
		"all agree":           {0, time.Second, 0, ""},
		"within the bound":    {time.Minute, -time.Minute, 0, ""},
		"nothing is known":    {unknown, unknown, 0, ""},
		"this machine's":      {2 * time.Minute, 2*time.Minute + time.Second, 0, "the clock of this machine, me, is wrong: it differs from that of N, which is 2m ahead, and from that of P, which is 2m1s ahead."},
		"NATS' own":           {-90 * time.Second, 0, skewLook, "the clock of N, which is 1m30s behind, is wrong: this machine's, me, agrees with that of P."},
		"Postgres' own":       {0, time.Hour, skewLook, "the clock of P, which is 1h ahead, is wrong: this machine's, me, agrees with that of N."},
		"one, since just now": {2 * time.Minute, 0, 0, "the clock of this machine, me, differs from that of N, which is 2m ahead."},
		"one of one":          {2 * time.Minute, unknown, skewLook, "the clock of this machine, me, differs from that of N, which is 2m ahead."},
		"three times":         {2 * time.Minute, -2 * time.Minute, skewLook, "the clock of this machine, me, differs from that of N, which is 2m ahead, and from that of P, which is 2m behind."},
	} {
		t.Run(name, func(t *testing.T) {
			clock := func(ahead time.Duration) func() (time.Duration, bool) {
				return func() (time.Duration, bool) { return ahead, ahead != unknown }
			}
			c := &clocks{host: "me", servers: []serverClock{{"nats", "N", clock(tc.nats)}, {"postgres", "P", clock(tc.postgres)}}}
			began := time.Now()
			_ = c.check(began)
			err := c.check(began.Add(tc.after))
			switch {
			case tc.want == "" && err != nil, tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)):
				t.Errorf("%v, want %q", err, tc.want)
			}
			if _, known := c.skews()["postgres"]; known != (tc.postgres != unknown) {
				t.Errorf("the metric shows %v", c.skews())
			}
		})
	}
}

// running is an app of the program's own, and its admin pages.
type running struct {
	*app
	t *testing.T
}

// openApp makes what relay run runs, on the servers of a relay that was
// stopped.
func openApp(t *testing.T, r *relaytest.Relay) running {
	t.Helper()
	l, err := load(sources{set: []string{
		"nats.url=" + r.NATS.ClientURL(), "postgres.url=" + r.URL, "admin.address=127.0.0.1:0", "delivery.allow=127.0.0.0/8",
		"signing.secrets=" + string(relaytest.Secret),
	}})
	if err != nil {
		t.Fatal(err)
	}
	l.anyPort = true
	s := &servers{log: zerolog.Nop()}
	t.Cleanup(s.close)
	if err := s.open(t.Context(), l.Config); err != nil {
		t.Fatal(err)
	}
	a, err := newApp(t.Context(), l, s)
	if err != nil {
		t.Fatal(err)
	}
	return running{a, t}
}

// get asks for an admin page.
func (r running) get(page string) (int, string) {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), http.MethodGet, page, nil)
	req.Host = "localhost"
	answer := httptest.NewRecorder()
	r.admin.Handler().ServeHTTP(answer, req)
	return answer.Code, answer.Body.String()
}

// Each reason not to be ready is told by /readyz in words and by a metric, and
// both are well again by themselves.
func TestReadinessAndItsMetricsTellTheSame(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	r.Stop()
	a := openApp(t, r)
	requireCheck(t, r, a, "relay", "is starting")
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	requireReady(t, r, a)
	if !r.Eventually(func() bool {
		_, metrics := a.get("/metrics")
		return strings.Contains(metrics, `relay_clock_skew_seconds{against="nats"} `) && strings.Contains(metrics, `relay_clock_skew_seconds{against="postgres"} `)
	}) {
		t.Error("no skew is shown")
	}

	if err := r.JS.DeleteStream(t.Context(), consumer.StreamDead); err != nil {
		t.Fatal(err)
	}
	requireCheck(t, r, a, "streams", "the stream WEBHOOKS_DEAD is not there")
	r.Receiver.Answer(http.StatusGone)
	id := r.Publish(map[string]any{"url": r.Receiver.URL})
	requireCheck(t, r, a, "moves", "WEBHOOKS_DEAD has taken no dead letters since")
	if _, metrics := a.get("/metrics"); strings.Contains(metrics, `relay_moves_blocked_seconds{stream="WEBHOOKS_DEAD"} 0`+"\n") {
		t.Error("the metric says that nothing is blocked")
	}
	if _, err := consumer.Setup(t.Context(), r.JS, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	r.RequireDead(id)
	requireReady(t, r, a)

	a.clocks.servers[0].skew = func() (time.Duration, bool) { return 2 * time.Minute, true }
	requireCheck(t, r, a, "clock", "which is 2m ahead")
}

// requireCheck waits until a check fails, in words and as a metric.
func requireCheck(t *testing.T, r *relaytest.Relay, a running, check, text string) {
	t.Helper()
	var code int
	var body, metrics string
	ok := r.Eventually(func() bool {
		code, body = a.get("/readyz")
		_, metrics = a.get("/metrics")
		return code == http.StatusServiceUnavailable && strings.Contains(body, `"check": "`+check+`"`) &&
			strings.Contains(body, text) && strings.Contains(metrics, `relay_ready{check="`+check+`"} 0`)
	})
	if !ok {
		t.Errorf("%s with %q is not told: %d %s\n%s", check, text, code, body, readyLines(metrics))
	}
}

// requireReady waits until all is well, and every check has its metric.
func requireReady(t *testing.T, r *relaytest.Relay, a running) {
	t.Helper()
	var code int
	var body, metrics string
	ok := r.Eventually(func() bool {
		code, body = a.get("/readyz")
		_, metrics = a.get("/metrics")
		return code == http.StatusOK && strings.Count(metrics, "\nrelay_ready{") == len(a.checks()) &&
			!strings.Contains(readyLines(metrics), "} 0")
	})
	if !ok {
		t.Errorf("not ready: %d %s\n%s", code, body, readyLines(metrics))
	}
}

// readyLines are the lines of relay_ready among the metrics.
func readyLines(metrics string) string {
	var lines []string
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "relay_ready{") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
