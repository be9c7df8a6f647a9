package bench

import (
	"math"
	"slices"
	"time"
)

// Report is what a run came to. Times are seconds, latencies milliseconds, from
// the call that publishes an event to its first request.
type Report struct {
	Began   time.Time `json:"began"`
	Host    string    `json:"host"`
	CPUs    int       `json:"cpus"`
	Go      string    `json:"go"`
	Options Options   `json:"options"`

	QueuedSeconds  float64 `json:"queued_seconds,omitempty"`  // to publish what was queued first
	SettledSeconds float64 `json:"settled_seconds,omitempty"` // until it was set aside
	// When what was queued first was delivered, counted from the begin of the load:
	// the first and the last of it but for one in a hundred at both ends.
	RecoveryBegan  float64 `json:"recovery_began,omitempty"`
	RecoveryEnded  float64 `json:"recovery_ended,omitempty"`
	PublishSeconds float64 `json:"publish_seconds"`
	PublishRate    float64 `json:"publish_rate"`      // events per second
	PublishLateMS  float64 `json:"publish_late_ms"`   // the most that publishing was behind its rate
	Seconds        float64 `json:"seconds"`           // first publish to last first request of a healthy or slow endpoint
	Throughput     float64 `json:"throughput"`        // those requests per second of it
	Published      int     `json:"published"`         // of the load, for all kinds of endpoints
	Confirmed      int     `json:"confirmed"`         // by JetStream
	Refused        string  `json:"refused,omitempty"` // why JetStream did not confirm the first that it did not
	Requests       int64   `json:"requests"`          // that the receiver got, warm-up and all
	Lost           int     `json:"lost"`              // confirmed, for a healthy or slow endpoint, and never received
	Duplicates     int     `json:"duplicates"`        // requests for events that had been answered 2xx

	Kinds    []KindReport `json:"kinds"`
	Timeline []Second     `json:"timeline"`

	Usage           []Usage `json:"usage,omitempty"`
	BenchCPU        float64 `json:"bench_cpu_seconds"` // of the load generator and the receiver
	BenchCPUPer1000 float64 `json:"bench_cpu_seconds_per_1000"`
}

// KindReport is what became of the events for endpoints of one kind. Those that
// were queued first have a report of their own, Queued.
type KindReport struct {
	Kind       Kind    `json:"kind"`
	Queued     bool    `json:"queued,omitempty"`
	Events     int     `json:"events"`
	Confirmed  int     `json:"confirmed"`
	Received   int     `json:"received"`  // by at least one request
	Delivered  int     `json:"delivered"` // answered 2xx
	Requests   int     `json:"requests"`
	Duplicates int     `json:"duplicates"`
	FirstMS    float64 `json:"first_ms"` // from the begin of the load to the first request
	Latency    Latency `json:"latency"`
	// Settled are the latencies of what was published after the first request.
	Settled Latency `json:"settled"`
	// Meanwhile are the latencies of what was published while the events that
	// were queued first were being delivered.
	Meanwhile Latency `json:"meanwhile"`
}

// Latency are percentiles in milliseconds.
type Latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
	// Curve are the latencies at CurveAt.
	Curve []float64 `json:"curve,omitempty"`
}

// CurveAt are the percentiles of Latency.Curve.
func CurveAt() []float64 {
	return []float64{0, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.99, 100}
}

// Second is one second of the load, as healthy endpoints saw it.
type Second struct {
	At        int     `json:"at"`
	Delivered int     `json:"delivered"` // first requests in that second
	Recovered int     `json:"recovered"` // of what was queued first
	P50       float64 `json:"p50"`       // of the events that were published in that second
	P99       float64 `json:"p99"`
}

// percentiles sorts the latencies, in nanoseconds, and reads them off: the
// smallest value that so many percent do not exceed.
func percentiles(ns []int64) Latency {
	slices.Sort(ns)
	l := Latency{Count: len(ns)}
	if len(ns) == 0 {
		return l
	}
	l.P50, l.P90, l.P99, l.P999, l.Max = rank(ns, 50), rank(ns, 90), rank(ns, 99), rank(ns, 99.9), rank(ns, 100)
	for _, p := range CurveAt() {
		l.Curve = append(l.Curve, rank(ns, p))
	}
	return l
}

// rank is the nearest-rank percentile of sorted nanoseconds, in milliseconds.
func rank(sorted []int64, percent float64) float64 {
	n := float64(len(sorted)) * percent / 100
	i := int(n)
	if float64(i) == n {
		i--
	}
	return float64(sorted[min(max(i, 0), len(sorted)-1)]) / float64(time.Millisecond)
}

// figures fills in what the receiver and the publisher have noted.
func (r *run) figures() {
	rep := &r.report
	from := r.WarmUp + r.Queued
	rep.Requests = r.requests.Load()
	rep.PublishLateMS = float64(r.late) / float64(time.Millisecond)
	if r.why != nil {
		rep.Refused = r.why.Error()
	}
	var end int64
	for i := from; i < len(r.events); i++ {
		rep.Published++
		if !r.confirmed[i] {
			continue
		}
		rep.Confirmed++
		if !r.events[i].kind.awaited() {
			continue
		}
		at := r.seen[i].arrived.Load()
		if at == 0 {
			rep.Lost++
		}
		end = max(end, at)
	}
	if rep.PublishSeconds > 0 {
		rep.PublishRate = float64(rep.Confirmed) / rep.PublishSeconds
	}
	if end > r.begin {
		rep.Seconds = seconds(end - r.begin)
		rep.Throughput = float64(r.arrived.Load()) / rep.Seconds
	}
	for i := range r.seen {
		rep.Duplicates += int(r.seen[i].again.Load())
	}
	if began, ended := r.recovery(); began != 0 {
		rep.RecoveryBegan, rep.RecoveryEnded = seconds(began-r.begin), seconds(ended-r.begin)
	}
	rep.Kinds = r.kinds()
	rep.Timeline = r.timeline(from)
}

// recovery is when what was queued first was delivered: the first and the last
// of it but for one in a hundred at both ends, which were tried before and wait
// for their next attempt. It is 0 if none was delivered.
func (r *run) recovery() (began, ended int64) {
	var times []int64
	for i := r.WarmUp; i < r.WarmUp+r.Queued; i++ {
		if at := r.seen[i].answered.Load(); at != 0 {
			times = append(times, at)
		}
	}
	if len(times) == 0 {
		return 0, 0
	}
	slices.Sort(times)
	return times[len(times)/100], times[(len(times)*99-1)/100]
}

// kinds reports on each kind that took part, and on what was queued first.
func (r *run) kinds() []KindReport {
	var all []KindReport
	if r.Queued > 0 {
		all = append(all, r.kind(r.QueuedAs, queued))
	}
	for _, k := range Kinds() {
		if report := r.kind(k, load); report.Events > 0 {
			all = append(all, report)
		}
	}
	return all
}

func (r *run) kind(k Kind, p part) KindReport {
	report := KindReport{Kind: k, Queued: p == queued}
	first := int64(0)
	var latencies []int64
	for i, e := range r.events {
		if e.kind != k || e.part != p {
			continue
		}
		s := &r.seen[i]
		report.Events++
		report.Requests += int(s.requests.Load())
		report.Duplicates += int(s.again.Load())
		if r.confirmed[i] {
			report.Confirmed++
		}
		if s.answered.Load() != 0 {
			report.Delivered++
		}
		if at := s.arrived.Load(); at != 0 {
			report.Received++
			latencies = append(latencies, at-r.published[i])
			if first == 0 || at < first {
				first = at
			}
		}
	}
	report.Latency = percentiles(latencies)
	r.periods(&report, first, p)
	return report
}

// periods fills in what the latencies were at certain times.
func (r *run) periods(report *KindReport, first int64, p part) {
	if first != 0 {
		report.FirstMS = float64(first-r.begin) / float64(time.Millisecond)
		report.Settled = percentiles(r.between(first, math.MaxInt64, report.Kind, p))
	}
	if began, ended := r.recovery(); began != 0 && p == load {
		report.Meanwhile = percentiles(r.between(began, ended, report.Kind, p))
	}
}

// between are the latencies of what was published between two moments.
func (r *run) between(from, to int64, k Kind, p part) []int64 {
	var latencies []int64
	for i, e := range r.events {
		if e.kind != k || e.part != p || r.published[i] < from || r.published[i] > to {
			continue
		}
		if at := r.seen[i].arrived.Load(); at != 0 {
			latencies = append(latencies, at-r.published[i])
		}
	}
	return latencies
}

// timeline cuts the load into seconds.
func (r *run) timeline(from int) []Second {
	var delivered, recovered []int
	var latencies [][]int64
	second := func(at int64) int { return int((at - r.begin) / int64(time.Second)) }
	for i, e := range r.events {
		at := r.seen[i].arrived.Load()
		switch {
		case at == 0:
		case e.part == queued && r.seen[i].answered.Load() >= r.begin:
			recovered = add(recovered, second(r.seen[i].answered.Load()))
		case i >= from && e.kind == Healthy:
			delivered = add(delivered, second(at))
			n := second(r.published[i])
			for len(latencies) <= n {
				latencies = append(latencies, nil)
			}
			latencies[n] = append(latencies[n], at-r.published[i])
		}
	}
	line := make([]Second, max(len(delivered), len(recovered), len(latencies)))
	for i := range line {
		line[i].At = i
		if i < len(delivered) {
			line[i].Delivered = delivered[i]
		}
		if i < len(recovered) {
			line[i].Recovered = recovered[i]
		}
		if i < len(latencies) {
			l := percentiles(latencies[i])
			line[i].P50, line[i].P99 = l.P50, l.P99
		}
	}
	return line
}

// add counts one at a place of a slice that grows as needed.
func add(counts []int, at int) []int {
	for len(counts) <= at {
		counts = append(counts, 0)
	}
	counts[at]++
	return counts
}

// answered counts the requests of the load and of what was queued that were
// answered 2xx: the deliveries that the CPU time was used for.
func (r *run) answered() (n int64) {
	for i, e := range r.events {
		if e.part != warmUp && r.seen[i].answered.Load() != 0 {
			n++
		}
	}
	return n
}
