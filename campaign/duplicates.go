package main

import (
	"slices"
	"strings"
	"time"
)

// causeWithin bounds the time from a kill to the last trace of what it
// interrupted: a request, and a record that waits while Postgres is away.
const causeWithin = requestTimeout + 15*time.Second

// unheardWithin is how long after a fault of the receiver's cable its effect
// on an exchange lasts: as long as an exchange.
const unheardWithin = requestTimeout + answerSlack

// duplicatesHaveACause is I6. A request that is answered 2xx has one of three
// rows: a success, of which an event has one; an unrecorded one, which belongs
// to a process that was killed or paused while it could have been in flight;
// or an error, because the answer did not get through to relay. So all that is
// answered 2xx twice was interrupted by one of these, and no SIGTERM, no fault
// of NATS and none of Postgres makes a duplicate: where there is one, the
// faults of its time are named.
func (c *checker) duplicatesHaveACause() {
	for _, v := range c.evidence.events {
		if successes := v.count(func(r *row) bool { return r.success }); successes > 1 {
			c.wrong("I6", v.id, "%d rows of one event say success, around %s", successes, c.faultsOf(v.rows[len(v.rows)-1].started))
		}
	}
	perCause := map[int]int{}
	for _, r := range c.rows {
		switch {
		case r.kind == "unrecorded":
			cause, found := c.causeOf(r)
			if !found {
				c.wrong("I6", c.idOf(r), "row %s is unrecorded, and its process was neither killed nor paused: %s",
					r.attempt, c.faultsOf(r.started))
				continue
			}
			perCause[cause]++
		case r.request != nil && c.unexcused(r.request, r):
			c.wrong("I6", c.idOf(r), "row %s is an error (%s), and the request was answered %d: nothing was between them but %s",
				r.attempt, r.class, r.request.status, c.faultsOf(r.started))
		}
	}
	for cause, n := range perCause {
		if n > mostInFlight {
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

// faultsOf names the faults that can be felt at a moment.
func (c *checker) faultsOf(at time.Time) string {
	var names []string
	for _, f := range c.faultsNear(at) {
		names = append(names, f.name)
	}
	if len(names) == 0 {
		return "no fault"
	}
	return strings.Join(names, ", ")
}

// keptFromHearing finds why relay did not hear an answer that was given: a
// fault of the cable between them, a process that stood still, or a machine
// that had no time for anyone until the exchange had none left.
func (c *checker) keptFromHearing(r *row) bool {
	meanwhile := func(from, to time.Time) bool {
		return from.Before(r.started.Add(r.took+clockSlack)) && to.Add(unheardWithin).After(r.started)
	}
	if c.skewed[r.worker] {
		return true
	}
	for _, f := range c.faults {
		if strings.HasSuffix(f.name, "-receiver") && meanwhile(f.from, f.to) {
			return true
		}
	}
	for _, e := range c.history {
		switch {
		case e.What == sayPaused && e.Worker == r.worker && meanwhile(e.At, e.until()):
			return true
		case e.What == sayLag && r.ranOut() && meanwhile(e.At.Add(-requestTimeout), e.At):
			return true
		}
	}
	return false
}

// ranOut: the exchange had no more time, of its own or of its claim.
func (r *row) ranOut() bool {
	return r.class == "timeout" && r.took >= requestTimeout || r.class == "canceled"
}

// until is when a pause ends; of other entries, when they are.
func (e entry) until() time.Time { return e.At.Add(time.Duration(e.Millis) * time.Millisecond) }

// causeOf finds the kill or pause that interrupted an attempt, as its place in
// the history.
func (c *checker) causeOf(r *row) (int, bool) {
	for i, e := range c.history {
		if e.Worker != r.worker || e.What != sayGone && e.What != sayPaused {
			continue
		}
		if c.skewed[r.worker] || !r.started.After(e.until().Add(clockSlack)) && e.At.Sub(r.started) < causeWithin && c.outlasted(e, r) {
			return i, true
		}
	}
	return c.handedOver(r)
}

// outlasted reports whether a pause lasted until the claim of an attempt had
// run out, or Postgres answered nobody meanwhile: else the process could still
// record what it had done. A kill outlasts everything.
func (c *checker) outlasted(pause entry, r *row) bool {
	expired := r.started.Add(ackWait - requestTimeout)
	return pause.What == sayGone || pause.until().After(expired) || c.during(r, span.holdsUpRecords)
}

// holdsUpRecords: Postgres is away, or answers late or with errors.
func (s span) holdsUpRecords() bool {
	return s.keepsPostgresAway() || strings.HasPrefix(s.name, "pg-") || s.name == "commit-unknown"
}

func (s span) keepsPostgresAway() bool { return strings.Contains(s.name, "postgres") }

// during reports whether there was such a fault while the claim of an attempt
// lasted.
func (c *checker) during(r *row, which func(span) bool) bool {
	return slices.ContainsFunc(c.faults, func(f span) bool {
		return which(f) && f.from.Before(r.started.Add(ackWait)) && f.to.After(r.started)
	})
}

// handedOver finds the other cause: a process that was paused had the same
// message in hand, and when it went on, Postgres was away for so long that the
// one which made the attempt could not record it within its claim. That is two
// faults at once; neither makes a duplicate alone.
func (c *checker) handedOver(r *row) (int, bool) {
	if !c.during(r, span.keepsPostgresAway) {
		return 0, false
	}
	for i, e := range c.history {
		if e.What == sayPaused && e.At.Before(r.started) && r.started.Sub(e.At) < 2*ackWait+time.Duration(e.Millis)*time.Millisecond {
			return i, true
		}
	}
	return 0, false
}
