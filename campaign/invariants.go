package main

import (
	"net/http"
	"time"

	"github.com/relaywebhooks/relay/consumer"
)

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
// planned wait, whatever happened meanwhile. After 410 there is none: a registered
// endpoint is held until somebody enables it.
func (c *checker) noTryIsEarly() {
	for _, v := range c.evidence.events {
		for i := 1; i < len(v.rows); i++ {
			a, b := v.rows[i-1], v.rows[i]
			planned := a.kind == "response" && a.status != http.StatusGone || a.kind == "error" && a.class == "timeout"
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
