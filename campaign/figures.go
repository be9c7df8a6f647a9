package main

import (
	"fmt"
	"time"
)

func (v *verdict) add(name, format string, a ...any) {
	v.Figures = append(v.Figures, figure{name, fmt.Sprintf(format, a...)})
}

// figures counts what happened.
func (c *checker) figures() {
	v := &c.verdict
	c.count()
	v.add("events confirmed", "%d (%d scheduled, %d replayed)", len(c.acked), c.scheduled(),
		c.countEvents(func(e *event) bool { return e.generation > 0 }))
	v.add("faults", "%d", len(c.faults))
	unheard, twice := c.countAnswered()
	v.add("requests", "%d", v.Requests)
	kinds := map[string]int{}
	for _, r := range c.rows {
		kinds[r.kind]++
	}
	v.add("rows", "%d response, %d error, %d unrecorded", kinds["response"], kinds["error"], kinds["unrecorded"])
	status := func(s string) int { return c.countEvents(func(e *event) bool { return e.status == s }) }
	v.add("ended", "%d delivered, %d failed, %d dead; %d letters", status("delivered"), status("failed"), status("dead"), len(c.letters))
	v.add("answered 2xx again", "%d", v.Duplicates)
	v.add("answered 2xx, unheard by relay", "%d", unheard)
	v.add("answered 2xx, unrecorded", "%d", twice)
	v.add("relay kills and pauses", "%d, interrupting %d attempts, at most %d each", c.kills(), kinds["unrecorded"], c.mostPerKill())
	v.add("largest lane", "%d events", c.largestLane())
	n := c.operated()
	v.add("registered endpoints", "%d requests; %d holds, %d answers 410, %d rotations, %d changes", n.requests, n.holds, n.gone, n.rotations, n.changes)
	calm, sick := c.latencies()
	v.add("acceptance to request", "p50 %v p99 %v calm, p99 %v beside sick endpoints",
		quantile(calm, 0.5).Round(time.Millisecond), quantile(calm, 0.99).Round(time.Millisecond), quantile(sick, 0.99).Round(time.Millisecond))
	v.add("healed, with 5 s to show it", "%d; longest %v until every relay worked", v.Healed, c.slowest.Round(time.Millisecond))
	v.add("the machine was late", "%d times by more than %v, at most %v", c.lags(), lagSlack, c.longestLag())
	v.add("draining", "%v", c.first(sayDrained).At.Sub(c.first(sayEbb).At).Round(time.Millisecond))
}

// count fills in what can be added up.
func (c *checker) count() {
	v := &c.verdict
	v.Rows, v.Kills, v.SlowestHeal = len(c.rows), c.kills(), int(c.slowest.Milliseconds())
	for _, r := range c.rows {
		if r.kind == "unrecorded" {
			v.Interrupted++
		}
	}
	for _, requests := range c.requests {
		v.Requests += len(requests)
		answered := 0
		for _, q := range requests {
			if q.status/100 == 2 {
				answered++
			}
		}
		v.Duplicates += max(0, answered-1)
	}
}

func (c *checker) scheduled() (n int) {
	for id := range c.intended {
		if planOf(id) == planLate {
			n++
		}
	}
	return n
}

func (c *checker) countEvents(which func(*event) bool) (n int) {
	for _, v := range c.evidence.events {
		if which(v) {
			n++
		}
	}
	return n
}

// countAnswered counts the requests whose 2xx relay never heard, and those
// answered 2xx of which relay knows only that they may have been made.
func (c *checker) countAnswered() (unheard, unrecorded int) {
	for _, requests := range c.requests {
		for _, q := range requests {
			switch {
			case q.row == nil || q.status/100 != 2:
			case q.row.kind == "error":
				unheard++
			case q.row.kind == "unrecorded":
				unrecorded++
			}
		}
	}
	return unheard, unrecorded
}

func (c *checker) kills() (n int) {
	for _, e := range c.history {
		if e.What == sayGone || e.What == sayPaused {
			n++
		}
	}
	return n
}

func (c *checker) lags() (n int) {
	for _, e := range c.history {
		if e.What == sayLag {
			n++
		}
	}
	return n
}

func (c *checker) longestLag() (longest time.Duration) {
	for _, e := range c.history {
		if e.What == sayLag {
			longest = max(longest, time.Duration(e.Millis)*time.Millisecond)
		}
	}
	return longest
}

func (c *checker) mostPerKill() (most int) {
	per := map[int]int{}
	for _, r := range c.rows {
		if r.kind != "unrecorded" {
			continue
		}
		if cause, found := c.causeOf(r); found {
			per[cause]++
			most = max(most, per[cause])
		}
	}
	return most
}

func (c *checker) largestLane() (most uint64) {
	for _, e := range c.history {
		if e.What == sayLane && e.Name != "all" {
			most = max(most, e.Seq)
		}
	}
	return most
}
