package admin

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/relaywebhooks/relay"
)

// MetricsOptions are the settings of [Metrics]. The zero value works.
type MetricsOptions struct {
	Version string       // shown by relay_build_info. Defaults to "unknown".
	Stats   func() Stats // read on every scrape, so it must be quick. Defaults to none.
}

// Metrics counts what relay does, on a registry of its own. No label holds
// anything that a producer or a receiver can choose, so the number of series is
// bounded. All methods are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	attempts    *prometheus.CounterVec
	attemptTook prometheus.Histogram
	delivery    prometheus.Histogram
	verdicts    *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
	commitTook  *prometheus.HistogramVec
	commitRows  *prometheus.HistogramVec

	tokensRefused prometheus.Counter
}

// NewMetrics makes the metrics and registers them, together with those of the
// Go runtime and of the process.
func NewMetrics(o MetricsOptions) *Metrics {
	if o.Version == "" {
		o.Version = "unknown"
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		attempts: counters("relay_attempts_total",
			"HTTP attempts, by outcome (success, failure, error, blocked, unrecorded) and class of the response status.",
			"outcome", "status_class"),
		verdicts: counters("relay_verdicts_total",
			"Decisions about webhooks, by action.", "action"),
		deadLetters: counters("relay_dead_letters_total",
			"Webhooks that were laid among the dead letters, by class of reason.", "reason"),
		attemptTook: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "relay_attempt_duration_seconds",
			Help:    "Time of one HTTP exchange, from dialling to the last byte read.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60},
		}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "relay_delivery_duration_seconds",
			Help:    "Time from acceptance (or scheduled_at, if later) to the answer with a success code. Replays are left out.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 15, 60, 300, 900, 3600, 6 * 3600, 24 * 3600, 72 * 3600},
		}),
	}
	m.commitMetrics()
	m.tokensRefused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "relay_admin_refused_total",
		Help: "Requests to this server with a token, or other credentials, that it does not know.",
	})
	m.register(o)
	return m
}

func (m *Metrics) commitMetrics() {
	m.commitTook = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "relay_commit_duration_seconds",
		Help:    "Time of one shared round trip to Postgres, by kind.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
	}, []string{"kind"})
	m.commitRows = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "relay_commit_batch_size",
		Help:    "Webhooks that shared one round trip to Postgres, by kind.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 10),
	}, []string{"kind"})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func (m *Metrics) register(o MetricsOptions) {
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "relay_build_info",
		Help: "Always 1; the labels say which relay this is.",
	}, []string{"version", "go"})
	build.WithLabelValues(o.Version, runtime.Version()).Set(1)
	m.registry.MustRegister(build, m.attempts, m.attemptTook, m.delivery, m.verdicts, m.deadLetters,
		m.commitTook, m.commitRows, m.tokensRefused,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.Stats != nil {
		m.registry.MustRegister(newGauges(o.Stats))
	}
}

// Observe counts what became of a webhook: its attempts and the verdict.
func (m *Metrics) Observe(w relay.Webhook, attempts []relay.Attempt, v relay.Verdict) {
	for _, a := range attempts {
		m.attempts.WithLabelValues(outcome(a), statusClass(a.Status)).Inc()
		if a.Kind == relay.Response || a.Kind == relay.Error {
			m.attemptTook.Observe(a.Took.Seconds())
		}
	}
	m.verdicts.WithLabelValues(v.Action.String()).Inc()
	if v.Action.Buried() {
		m.deadLetters.WithLabelValues(reasonClass(attempts, v)).Inc()
	}
	if v.Action == relay.Delivered && w.Generation == 0 && len(attempts) > 0 {
		last := attempts[len(attempts)-1]
		m.delivery.Observe(max(0, last.Started.Add(last.Took).Sub(begin(w)).Seconds()))
	}
}

// begin is when a webhook could first have been sent.
func begin(w relay.Webhook) time.Time {
	if w.ScheduledAt.After(w.Key.Time) {
		return w.ScheduledAt
	}
	return w.Key.Time
}

// Commit counts one round trip to Postgres that so many webhooks shared. The
// kind becomes a label: use few, such as claim and record.
func (m *Metrics) Commit(kind string, rows int, took time.Duration) {
	m.commitTook.WithLabelValues(kind).Observe(took.Seconds())
	m.commitRows.WithLabelValues(kind).Observe(float64(rows))
}

// handler serves the metrics, and more beside them.
func (m *Metrics) handler(more prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(prometheus.Gatherers{m.registry, more}, promhttp.HandlerOpts{Timeout: 10 * time.Second})
}
