package main

import (
	"slices"
	"strings"
	"time"
)

// tellBound is how long a server must be away for relay to have to say so.
const tellBound = 3500 * time.Millisecond

// life is the time in which a relay process worked.
type life struct{ from, to time.Time }

// everyRelayWorks is the other part of I9: where a heal is followed by enough
// time without a fault, each relay process makes attempts again within the
// bound, not only one of them.
func (c *checker) everyRelayWorks() {
	lives, starts := c.lives(), map[string][]time.Time{}
	for _, r := range c.rows {
		starts[r.worker] = append(starts[r.worker], r.started)
	}
	for _, f := range c.faults {
		end := f.to.Add(resumeBound)
		if f.to.IsZero() || c.nextTrouble(f.to).Before(end) {
			continue
		}
		c.verdict.Healed++
		for worker, l := range lives {
			if !l.from.After(f.to) && (l.to.IsZero() || l.to.After(end)) && !c.skewed[worker] {
				c.worksAgain(worker, f, starts[worker])
			}
		}
	}
}

// worksAgain holds the attempts of a process, in order, against the bound.
func (c *checker) worksAgain(worker string, f span, attempts []time.Time) {
	i, _ := slices.BinarySearchFunc(attempts, f.to, time.Time.Compare)
	if i == len(attempts) || attempts[i].After(f.to.Add(resumeBound)) {
		c.wrong("I9", "", "%s made no attempt for %v after the heal of %s at %.1f s",
			worker, resumeBound, f.name, f.to.Sub(c.began).Seconds())
		return
	}
	c.slowest = max(c.slowest, attempts[i].Sub(f.to))
}

// lives are the times in which each process worked, by worker.
func (c *checker) lives() map[string]life {
	lives := map[string]life{}
	for _, e := range c.history {
		l := lives[e.Worker]
		switch e.What {
		case sayStart:
			l.from = e.At
		case sayGone, sayEnded:
			l.to = e.At
		default:
			continue
		}
		lives[e.Worker] = l
	}
	return lives
}

// nextTrouble is when the next fault begins after a moment, or the load ends.
func (c *checker) nextTrouble(after time.Time) time.Time {
	next := c.first(sayEbb).At
	for _, f := range c.faults {
		if f.from.After(after) {
			next = minTime(next, f.from)
		}
	}
	return next
}

// readinessTells: while NATS or Postgres was away for long enough to be
// noticed, /readyz of a relay said so, and the gauge beside it.
func (c *checker) readinessTells() {
	for _, f := range c.faults {
		nats := !c.cluster && slices.Contains([]string{"kill-nats", "stop-nats", "nats-away"}, f.name)
		postgres := slices.Contains([]string{"kill-postgres", "stop-postgres", "postgres-away"}, f.name)
		if !nats && !postgres || f.to.Sub(f.from) < tellBound {
			continue
		}
		at := f.from.Sub(c.began).Seconds()
		if !c.toldUnready(f) {
			c.wrong("ready", "", "/readyz said nothing of %s at %.1f s", f.name, at)
		}
		server := "nats"
		if postgres {
			server = "postgres"
		}
		if c.gauged() && !c.toldByGauge(f, server) {
			c.wrong("ready", "", "relay_ready said nothing of %s at %.1f s", f.name, at)
		}
	}
}

func (c *checker) toldUnready(f span) bool {
	ready := true
	for _, e := range c.history {
		if e.What != sayReady || e.At.After(f.to) {
			continue
		}
		if ready = e.Status == 200; !ready && e.At.After(f.from) {
			return true
		}
	}
	return !ready
}

// gauged reports whether all relays of this campaign have the gauge. Older ones
// have not.
func (c *checker) gauged() bool {
	return !slices.ContainsFunc(c.history, func(e entry) bool { return e.What == sayGauge && e.Number == 0 })
}

// toldByGauge reports whether the gauge of a server was 0 while it was away.
func (c *checker) toldByGauge(f span, server string) bool {
	for _, e := range c.history {
		if e.What == sayGauge && e.At.After(f.from) && e.At.Before(f.to) && slices.Contains(strings.Fields(e.Note), server) {
			return true
		}
	}
	return false
}
