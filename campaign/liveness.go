package main

import (
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	drainBound  = 30 * time.Second // after the last heal, everything has ended
	resumeBound = 5 * time.Second  // after a server is back, requests flow
)

// laneBound is how long after its endpoint is well a lane is empty, at most. It is
// what each thing takes that may lie between, by the intervals of relay and of the
// campaign, with room for each of them to happen once: other faults go on.
const laneBound = requestTimeout + // a request that hangs when the endpoint becomes well has to end,
	longestRest + // and the rest that it leads to;
	laneLease + sweepEach + // who drained the lane was killed: its lease ends, and another sweep finds the lane;
	laneAnswer + time.Second + // a question to JetStream is lost with its answer, and asked again;
	laneProbe + // the first that was released waits in dead hands or fails whatever happens: one more is tried;
	laneGrowth // then each that is settled makes room for two.

const (
	longestRest = 4 * time.Second  // 503 doubles it from a second on, so after an outage of three seconds
	laneLease   = 6 * time.Second  // consumer.laneLease
	laneAnswer  = 5 * time.Second  // consumer.laneTimeout
	laneProbe   = 10 * time.Second // consumer.probeAfter
	laneGrowth  = 2 * time.Second  // a few hundred events, in nine rounds
)

// everythingDrains is I9: when load and faults have ended, so does all work,
// in time; and after each fault requests flow again in time.
func (c *checker) everythingDrains() {
	ebb, drained := c.first(sayEbb), c.first(sayDrained)
	switch took := drained.At.Sub(ebb.At); {
	case drained.Note != "":
		c.wrong("I9", "", "not drained: %s", drained.Note)
	case took > drainBound:
		c.wrong("I9", "", "draining took %v, want at most %v", took, drainBound)
	}
	for _, f := range c.faults {
		if after := c.flowsAfter(f.to, ebb.At); after > resumeBound {
			c.wrong("I9", "", "no request for %v after the heal of %s at %.1f s", after, f.name, f.to.Sub(c.began).Seconds())
		}
	}
	c.everyRelayWorks()
}

// flowsAfter is the time from a moment to the next request, unless the load
// ends or another fault begins before the bound.
func (c *checker) flowsAfter(from, end time.Time) time.Duration {
	for _, f := range c.faults {
		if f.from.After(from) && f.from.Before(end) {
			end = f.from
		}
	}
	for _, e := range c.history {
		if e.What == sayRequest && e.At.After(from) {
			end = minTime(end, e.At)
			break
		}
	}
	return end.Sub(from)
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (c *checker) first(what string) entry {
	for _, e := range c.history {
		if e.What == what {
			return e
		}
	}
	return entry{}
}

// healthyStayFast is I10: while other endpoints are sick, the healthy ones'
// webhooks come as fast as without any fault, up to twice the time and a
// hundred milliseconds for the noise of a small machine.
func (c *checker) healthyStayFast() {
	calm, sick := c.latencies()
	if len(calm) < 150 || len(sick) < 100 {
		return
	}
	if base, under := quantile(calm, 0.99), quantile(sick, 0.99); under > 2*base+100*time.Millisecond {
		c.wrong("I10", "", "while others were sick, healthy endpoints waited %v at p99; %v without a fault", under, base)
	}
}

// latencies are the times from confirmation to first request, for endpoints
// where nothing ever fails: far from any fault, and during outages of others.
func (c *checker) latencies() (calm, sick []time.Duration) {
	late := c.lateAround()
	for _, e := range c.acked {
		requests := c.requests[e.ID]
		if len(requests) == 0 || !strings.HasPrefix(c.intended[e.ID].Path, "/fine/") {
			continue
		}
		if late(e.At, requests[0].at) {
			continue // that tells of the machine
		}
		took := max(0, requests[0].at.Sub(e.At))
		switch near := c.faultsNear(e.At); {
		case len(near) == 0:
			calm = append(calm, took)
		case len(near) == 1 && strings.HasPrefix(near[0].name, "outage-") && e.At.After(near[0].from) && e.At.Before(near[0].to):
			sick = append(sick, took)
		}
	}
	return calm, sick
}

// lateAround returns whether the machine had no time for the campaign itself in
// a span of time, or shortly before it.
func (c *checker) lateAround() func(from, to time.Time) bool {
	var lags []entry
	for _, e := range c.history {
		if e.What == sayLag {
			lags = append(lags, e)
		}
	}
	return func(from, to time.Time) bool {
		return slices.ContainsFunc(lags, func(e entry) bool {
			return e.At.After(from.Add(-time.Second)) && e.At.Add(-time.Duration(e.Millis)*time.Millisecond).Before(to)
		})
	}
}

// faultsNear are the faults that can still be felt at a moment.
func (c *checker) faultsNear(at time.Time) (near []span) {
	for _, f := range c.faults {
		if at.After(f.from.Add(-requestTimeout)) && at.Before(f.to.Add(ackWait+requestTimeout)) {
			near = append(near, f)
		}
	}
	return near
}

func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[min(len(ds)-1, int(q*float64(len(ds))))]
}

// nothingLeaks is I11: a process that worked through the campaign holds no
// more than it did when it was warm, and ends in order.
func (c *checker) nothingLeaks() {
	warm := map[string]entry{}
	for _, e := range c.history {
		switch {
		case e.What == sayUsage && e.Name == "warm":
			warm[e.Worker] = e
		case e.What == sayUsage:
			w, known := warm[e.Worker]
			if known && (e.Seq > w.Seq+60 || e.Number > w.Number+40 || e.Millis > 2*w.Millis+100) {
				c.wrong("I11", "", "%s: %d goroutines, %d descriptors, %d MiB when warm; %d, %d, %d when drained",
					e.Worker, w.Seq, w.Number, w.Millis, e.Seq, e.Number, e.Millis)
			}
		case e.What == sayEnded && e.Status != 0:
			c.wrong("I11", "", "%s ended with status %d", e.Worker, e.Status)
		}
	}
}

// attemptsAreCounted is I12.
func (c *checker) attemptsAreCounted() {
	for _, v := range c.evidence.events {
		if made := v.count(func(r *row) bool { return r.kind != "unrecorded" }); made != v.attempts {
			c.wrong("I12", v.id, "%d attempts counted, %d in rows", v.attempts, made)
		}
	}
}

// nothingIsRefused is I13: every row has its day's partition, and relay's log
// tells of nothing that must not be: no race, no panic.
func (c *checker) nothingIsRefused() {
	if c.strange > 0 {
		c.wrong("I13", "", "%d default partitions", c.strange)
	}
	for _, e := range c.history {
		if e.What == sayTrouble {
			c.wrong("I13", "", "%s: %s", e.Name, e.Note)
		}
	}
}

// lanesDrain: no lane is non-empty 30 s after its endpoint is well.
func (c *checker) lanesDrain() {
	since, seen := map[string]time.Time{}, map[string]bool{}
	for _, e := range c.history {
		switch {
		case e.What != sayLane:
		case e.Name == "all": // a new look at the lanes: those not seen in the last one were empty
			maps.DeleteFunc(since, func(key string, _ time.Time) bool { return !seen[key] })
			clear(seen)
		default:
			seen[e.Name] = true
			since[e.Name] = c.calmSince(e.Name, since[e.Name], e.At)
			if e.At.Sub(since[e.Name]) > laneBound {
				c.wrong("lanes", "", "lane %s has %d events %v after the last outage", e.Name, e.Seq, e.At.Sub(since[e.Name]))
				return
			}
		}
	}
}

// calmSince is the later of two moments: when a lane was first seen (zero:
// only now), and when the last fault or hold ended that can keep it from draining.
func (c *checker) calmSince(lane string, seen, now time.Time) time.Time {
	if seen.IsZero() {
		return now
	}
	for _, f := range append(holds(c.states[lane]), c.faults...) {
		if !f.stopsLanes() && !f.splits() || f.from.After(now) {
			continue
		}
		if seen = laterOf(seen, f.to); f.to.After(now) || f.to.IsZero() {
			seen = now
		}
	}
	return seen
}

// stopsLanes: an endpoint is sick, or out of reach, or a server is away for long.
func (s span) stopsLanes() bool {
	return s.name == aHold || strings.HasSuffix(s.name, "-away") || strings.HasPrefix(s.name, "outage-") || strings.HasSuffix(s.name, "-receiver") || s.name == "disk-full-nats"
}

// splits: in a cluster, a server that leads is lost, or they do not all hear each
// other. Until the next leader is there, up to nine seconds later, nobody can bring
// anything back, and in these campaigns the next split has come by then.
func (s span) splits() bool {
	return strings.HasPrefix(s.name, "partition-") || strings.HasSuffix(s.name, "-leader")
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// workResumes: what a killed process had in hand is tried again by another one
// within AckWait and a second, unless another fault is in its way.
func (c *checker) workResumes() {
	for _, v := range c.evidence.events {
		for i, r := range v.rows {
			if r.kind != "unrecorded" || i+1 == len(v.rows) || c.skewed[v.rows[i+1].worker] || c.mayRest(v.id) {
				continue
			}
			cause, found := c.causeOf(r)
			if !found || c.history[cause].What != sayGone || len(c.faultsNear(c.history[cause].At)) > 1 {
				continue
			}
			killed := c.history[cause].At
			if after := v.rows[i+1].started.Sub(killed); after > ackWait+time.Second {
				c.wrong("resume", v.id, "tried again %v after its process was killed", after)
			}
		}
	}
}

// mayRest: the endpoint of an event is sick at times, or held.
func (c *checker) mayRest(id string) bool {
	path := c.intended[id].Path
	return strings.HasPrefix(path, "/sick/") || isRegistered(path)
}

// fullCampaign is how many faults make a campaign in which everything must
// have taken part.
const fullCampaign = 20

// everythingTookPart: a full campaign parked, scheduled, buried and replayed
// events; one that did not would prove less than it says.
func (c *checker) everythingTookPart() {
	if len(c.faults) < fullCampaign {
		return
	}
	replayed := c.countEvents(func(e *event) bool { return e.generation > 0 })
	for what, n := range map[string]int{
		"parked": int(min(c.largestLane(), 1)), "scheduled": c.scheduled(), "buried": len(c.letters), "replayed": replayed,
	} {
		if n == 0 {
			c.wrong("part", "", "no event was %s", what)
		}
	}
	c.operatorTookPart()
}
