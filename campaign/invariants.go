package main

import (
	"slices"
	"strings"
	"time"

	"github.com/relaywebhooks/relay/consumer"
)

// bound of the time from a kill to the last trace of what it interrupted: a
// request, and a record that waits while Postgres is away.
const causeWithin = requestTimeout + 15*time.Second

// nothingIsLost is I1: what JetStream confirmed was answered 2xx, lies among
// the dead letters, or repeats the idempotency key of an event that did.
func (c *checker) nothingIsLost() {
	letters := map[string]bool{}
	for _, l := range c.letters {
		letters[l.key] = true
	}
	for _, e := range c.acked {
		v := c.accepted(e)
		switch {
		case v == nil:
			c.wrong("I1", e.ID, "lost: no row tells of message %d", e.Seq)
		case v.status == "delivered":
			if !c.answered2xx(e.ID) {
				c.wrong("I1", e.ID, "recorded as delivered, and never answered 2xx")
			}
		case v.place == "dead letters":
			if !letters[v.key] {
				c.wrong("I1", e.ID, "dead, and there is no letter")
			}
		case v.status == "dead" && v.place == "gone": // a duplicate
		default:
			c.wrong("I1", e.ID, "neither delivered nor dead: %s in %s", v.status, v.place)
		}
	}
}

func (c *checker) accepted(e entry) *event {
	for _, v := range c.events[e.ID] {
		if uint64(v.seq) == e.Seq { //nolint:gosec // sequences are positive
			return v
		}
	}
	return nil
}

func (c *checker) answered2xx(id string) bool {
	for _, q := range c.requests[id] {
		if q.status/100 == 2 {
			return true
		}
	}
	return false
}

// everyRequestVerifies is I2: each request is signed, and its body and path
// are those of an event that was published.
func (c *checker) everyRequestVerifies() {
	for id, requests := range c.requests {
		intended, known := c.intended[id]
		for _, q := range requests {
			switch {
			case !known:
				c.wrong("I2", id, "request %d is of no event", q.number)
			case q.fault != "":
				c.wrong("I2", id, "request %d: %s", q.number, q.fault)
			case q.hash != intended.Hash || q.path != intended.Path:
				c.wrong("I2", id, "request %d has another body or path than was published", q.number)
			}
		}
	}
}

// everyRequestHasARow is I3.
func (c *checker) everyRequestHasARow() {
	for id, requests := range c.requests {
		for _, q := range requests {
			if q.row == nil {
				c.wrong("I3", id, "request %d has no row", q.number)
			}
		}
	}
}

// everyRowIsTrue is I4: a row with an answer tells of a request that was
// answered so, at that time.
func (c *checker) everyRowIsTrue() {
	for _, r := range c.rows {
		v := c.byKey[r.key]
		switch {
		case v == nil:
			c.wrong("I4", "", "row %s is of no event", r.attempt)
		case r.kind == "response" && r.request == nil:
			c.wrong("I4", v.id, "row %s (status %d) tells of no request", r.attempt, r.status)
		case r.success != (r.kind == "response" && r.status/100 == 2):
			c.wrong("I4", v.id, "row %s: success is %v for status %d", r.attempt, r.success, r.status)
		}
	}
}

// everyEventEnds is I5: nothing is left on the streams, and each event that
// was taken off them has come to an end in its row.
func (c *checker) everyEventEnds() {
	for _, stream := range []string{consumer.StreamQueue, consumer.StreamLater} {
		if n := c.left[stream]; n > 0 {
			c.wrong("I5", "", "%d messages are left on %s", n, stream)
		}
	}
	for _, v := range c.evidence.events {
		if !v.terminal() || v.claimed {
			c.wrong("I5", v.id, "its row has not ended: %s in %s, claimed: %v", v.status, v.place, v.claimed)
		}
	}
}

// duplicatesHaveACause is I6: an event has one success in its rows, and an
// unrecorded row belongs to a process that was killed or paused while it could
// have been in flight. So a request that is answered 2xx twice was interrupted
// by one of these, and no other fault makes a duplicate.
func (c *checker) duplicatesHaveACause() {
	for _, v := range c.evidence.events {
		if successes := v.count(func(r *row) bool { return r.success }); successes > 1 {
			c.wrong("I6", v.id, "%d rows of one event say success", successes)
		}
	}
	perKill := map[int]int{}
	for _, r := range c.rows {
		if r.kind != "unrecorded" {
			continue
		}
		cause, found := c.causeOf(r)
		if !found {
			c.wrong("I6", c.idOf(r), "row %s is unrecorded, and its process was neither killed nor paused", r.attempt)
			continue
		}
		perKill[cause]++
	}
	for cause, n := range perKill {
		if n > 2*slots {
			c.wrong("I6", "", "%d unrecorded attempts of %s, more than can have been in flight", n, c.history[cause].Worker)
		}
	}
}

func (c *checker) idOf(r *row) string {
	if v := c.byKey[r.key]; v != nil {
		return v.id
	}
	return ""
}

// causeOf finds the kill or pause that interrupted an attempt, as its place in
// the history.
func (c *checker) causeOf(r *row) (int, bool) {
	for i, e := range c.history {
		if e.Worker != r.worker || e.What != sayGone && e.What != sayPaused {
			continue
		}
		until := e.At.Add(time.Duration(e.Millis) * time.Millisecond)
		if c.skewed[r.worker] || !r.started.After(until.Add(clockSlack)) && e.At.Sub(r.started) < causeWithin {
			return i, true
		}
	}
	return c.handedOver(r)
}

// handedOver finds the other cause: a process that was paused had the same
// message in hand, and when it went on, Postgres was away for so long that the
// one which made the attempt could not record it within its claim. That is two
// faults at once; neither makes a duplicate alone.
func (c *checker) handedOver(r *row) (int, bool) {
	away := slices.ContainsFunc(c.faults, func(f span) bool {
		return strings.Contains(f.name, "postgres") && f.from.Before(r.started.Add(ackWait)) && f.to.After(r.started)
	})
	for i, e := range c.history {
		if e.What == sayPaused && away && e.At.Before(r.started) && r.started.Sub(e.At) < 2*ackWait+time.Duration(e.Millis)*time.Millisecond {
			return i, true
		}
	}
	return 0, false
}

// lettersAreTheDead is I7: the dead letters are the events that are recorded
// as dead, one each.
func (c *checker) lettersAreTheDead() {
	seen := map[string]int{}
	for _, l := range c.letters {
		seen[l.key]++
		v := c.byKey[l.key]
		if v == nil || v.place != "dead letters" || v.status == "delivered" {
			c.wrong("I7", l.id, "there is a letter of %s, which is not dead: generation %q, buried %s, replayed %q",
				l.key, l.generation, l.buried, l.replayed)
		}
	}
	for key, n := range seen {
		if n > 1 {
			c.wrong("I7", "", "%d letters of %s", n, key)
		}
	}
	for _, v := range c.evidence.events {
		if v.place == "dead letters" && seen[v.key] == 0 {
			c.wrong("I7", v.id, "dead, and there is no letter of %s", v.key)
		}
	}
}

// dueTolerance is how much before its time relay may try again.
const dueTolerance = 50 * time.Millisecond

// noTryIsEarly is I8: between a failed attempt and the next one lies the
// planned wait, whatever happened meanwhile.
func (c *checker) noTryIsEarly() {
	for _, v := range c.evidence.events {
		for i := 1; i < len(v.rows); i++ {
			a, b := v.rows[i-1], v.rows[i]
			planned := a.kind == "response" || a.kind == "error" && a.class == "timeout"
			if !planned || a.success || a.generation != b.generation || a.number > len(schedule) || c.skewed[a.worker] || c.skewed[b.worker] {
				continue
			}
			least := time.Duration(float64(schedule[a.number-1])*(1-jitter)) - dueTolerance - clockSlack
			if gap := b.started.Sub(a.started.Add(a.took)); gap < least {
				c.wrong("I8", v.id, "attempt %d came %v after attempt %d, want at least %v", b.number, gap, a.number, least)
			}
		}
	}
}
