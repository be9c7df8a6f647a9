package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats is how things stand at this moment. The maps' keys become labels, so
// they must come from small sets.
type Stats struct {
	Pending    map[string]uint64 // messages not yet delivered to a relay, by queue
	AckPending map[string]int    // messages delivered and not settled, sleeping ones included, by queue
	Circuits   map[string]int    // endpoints by state of their circuit: closed, half-open, open
	OldestDue  time.Duration     // for how long the oldest webhook that may be sent has been waiting
	InFlight   int               // webhooks in this process's hands
	Lanes      int               // endpoints whose events are parked
	Parked     uint64            // events that are parked, over all endpoints
	PutOff     int               // webhooks that are to be moved to their lanes and wait for a free hand of this process
	Paused     map[string]int    // endpoints that are paused, by the process that said so: this, other
	Stalled    time.Duration     // for how long work has been waiting while nothing moved

	Blocked map[string]time.Duration // for how long a stream has taken nothing that is moved to it, by stream
	// PausesShared is false while processes cannot tell each other of pauses.
	PausesShared bool
	ClockSkew    map[string]time.Duration // how far a server's clock is ahead of this machine's, by server: nats, postgres
}

// gauges is a collector that asks for the stats once per scrape. Set gauges would
// need a goroutine to refresh them, and be stale in between.
type gauges struct {
	stats                                        func() Stats
	pending, ackPending, circuits, blocked, skew *prometheus.Desc
	oldestDue, inFlight, lanes, parked, putOff   *prometheus.Desc
	stalled                                      *prometheus.Desc
	paused, pausesShared                         *prometheus.Desc
}

func newGauges(stats func() Stats) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &gauges{
		stats:      stats,
		pending:    desc("relay_queue_pending", "Messages that no relay has taken yet, by queue.", "queue"),
		ackPending: desc("relay_ack_pending", "Messages taken and not settled, sleeping ones included, by queue.", "queue"),
		circuits:   desc("relay_circuits", "Endpoints known to this process, by state of their circuit.", "state"),
		oldestDue:  desc("relay_oldest_due_seconds", "How long the oldest webhook that may be sent has been waiting."),
		inFlight:   desc("relay_in_flight", "Webhooks in this process's hands."),
		lanes:      desc("relay_lanes", "Endpoints whose events are parked, as far as this process knows."),
		parked:     desc("relay_lane_events", "Events that are parked, over all endpoints and processes, as of the last sweep."),
		putOff: desc("relay_put_off",
			"Webhooks of endpoints that are not to be called now, which this process moves to their lanes as soon as it has a hand free."),
		paused: desc("relay_pauses",
			"Endpoints that no process is to call now, by the process that said so (this, other), as far as this process knows.", "by"),
		pausesShared: desc("relay_pauses_shared",
			"1 while processes tell each other of paused endpoints; 0 while each goes by what it knows itself."),
		stalled: desc("relay_stalled_seconds", "How long webhooks have been waiting while nothing moved; 0 while all is well."),
		blocked: desc("relay_moves_blocked_seconds",
			"How long a stream has taken nothing that relay moves to it, by stream; 0 while it does. The events wait.", "stream"),
		skew: desc("relay_clock_skew_seconds",
			"How far a server's clock is ahead of this machine's, by server (nats, postgres); negative if it is behind.", "against"),
	}
}

// Describe implements [prometheus.Collector].
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		g.pending, g.ackPending, g.circuits, g.blocked, g.skew, g.oldestDue, g.inFlight, g.lanes, g.parked, g.putOff, g.stalled,
		g.paused, g.pausesShared,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	s := g.stats()
	for queue, n := range s.Pending {
		send(g.pending, float64(n), queue)
	}
	for queue, n := range s.AckPending {
		send(g.ackPending, float64(n), queue)
	}
	for state, n := range s.Circuits {
		send(g.circuits, float64(n), state)
	}
	for by, n := range s.Paused {
		send(g.paused, float64(n), by)
	}
	shared := 0.0
	if s.PausesShared {
		shared = 1
	}
	send(g.pausesShared, shared)
	for stream, since := range s.Blocked {
		send(g.blocked, since.Seconds(), stream)
	}
	for server, ahead := range s.ClockSkew {
		send(g.skew, ahead.Seconds(), server)
	}
	send(g.oldestDue, s.OldestDue.Seconds())
	send(g.inFlight, float64(s.InFlight))
	send(g.lanes, float64(s.Lanes))
	send(g.parked, float64(s.Parked))
	send(g.putOff, float64(s.PutOff))
	send(g.stalled, s.Stalled.Seconds())
}
