package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// settingsAreInForce holds each request to a registered endpoint against what was
// written about it: there is a state of no more than effectWithin before, or of a
// time in which its process could hear of nothing, by which the request was to be
// made as it was. It breaks "held" where all such states say that the endpoint is
// called by nobody, "settings" where none has the settings that it was made by, and
// "signed" where none has the secrets.
//
// Of several attempts of an event it may not be certain which one a request was: it
// breaks nothing if it was in order as one of them.
func (c *checker) settingsAreInForce() {
	blind := c.blindness()
	for id, requests := range c.requests {
		for _, q := range requests {
			if !isRegistered(q.path) || q.row == nil || c.skewed[q.row.worker] || q.fault != "" {
				continue // by a false clock nothing can be said; the rest is broken in another way
			}
			if broken, what := c.inOrder(q, q.row, blind); broken != "" && !c.inOrderAsAnother(id, q, blind) {
				c.wrong(broken, id, "request %d: %s", q.number, what)
			}
		}
	}
}

// inOrderAsAnother reports whether a request is in order as another attempt that it
// may have been.
func (c *checker) inOrderAsAnother(id string, q *request, blind []span) bool {
	for _, v := range c.events[id] {
		for _, r := range v.rows {
			if r == q.row || !c.fits(q, r) || r.kind == "response" && r.request != q { // an answer was matched for sure
				continue
			}
			if broken, _ := c.inOrder(q, r, blind); broken == "" || c.skewed[r.worker] {
				return true
			}
		}
	}
	return false
}

// inOrder says what a request breaks as the attempt of a row; "" if nothing.
func (c *checker) inOrder(q *request, r *row, blind []span) (invariant, what string) {
	began, sent := r.started, r.started
	if r.kind == "unrecorded" {
		sent = q.at // it began when it was claimed, and was sent some time later
	}
	from := knownSince(began, blind)
	if invariant, what = broken(q, c.inForce(r, from, sent), from, sent); invariant != "" {
		what = fmt.Sprintf("%v after what could be known: %s", began.Sub(from).Round(time.Millisecond), what)
	}
	return invariant, what
}

// inForce are the states of an attempt's endpoint from a moment until it was sent.
func (c *checker) inForce(r *row, from, sent time.Time) (found []state) {
	v := c.byKey[r.key]
	if v == nil {
		return nil // I4 tells
	}
	states := c.states[v.endpoint]
	for i, s := range states {
		if s.at.After(sent.Add(clockSlack)) || i+1 < len(states) && states[i+1].at.Before(from) {
			continue
		}
		found = append(found, s)
	}
	return found
}

// broken says what a request breaks if none of some states explains it.
func broken(q *request, states []state, from, sent time.Time) (invariant, what string) {
	invariant, what = "held", "its endpoint was held"
	if len(states) == 0 {
		return "settings", "it was not sent as one of a registered endpoint"
	}
	for _, s := range states {
		switch {
		case s.held:
		case s.version != q.version:
			if invariant == "held" {
				invariant, what = "settings", "it was made by the settings "+q.version
			}
		case s.signs(strings.Fields(q.keys), from, sent):
			return "", ""
		default:
			invariant, what = "signed", "it was signed with "+q.keys
		}
	}
	return invariant, what
}

// signs reports whether a process that went by a state at some moment of a time may
// have signed with these secrets: with all that were not over at its end, and with
// none that was over at its beginning.
func (s state) signs(keys []string, from, to time.Time) bool {
	var may []string
	for _, k := range s.secrets {
		if (k.until.IsZero() || k.until.After(to)) && !slices.Contains(keys, k.print) {
			return false
		}
		if k.until.IsZero() || k.until.After(from) {
			may = append(may, k.print)
		}
	}
	return !slices.ContainsFunc(keys, func(k string) bool { return !slices.Contains(may, k) })
}

// blindness are the times in which a process may hear of nothing, and claim and send
// the moment they end: Postgres does not answer it, it stands still, or the machine
// has no time for it.
func (c *checker) blindness() (blind []span) {
	for _, f := range c.faults {
		if f.holdsUpRecords() || strings.HasPrefix(f.name, "pause-relay") {
			blind = append(blind, f)
		}
	}
	for _, e := range c.history {
		if e.What == sayLag {
			blind = append(blind, span{name: e.What, from: e.At.Add(-time.Duration(e.Millis) * time.Millisecond), to: e.At})
		}
	}
	return blind
}

// knownSince is since when a process must have heard of all that was written before:
// for effectWithin before a moment, in which it could.
func knownSince(at time.Time, blind []span) time.Time {
	since := at.Add(-effectWithin)
	for longer := true; longer; {
		longer = false
		for _, f := range blind {
			before := f.from.Add(-effectWithin)
			if f.from.Before(at) && (f.to.IsZero() || f.to.After(since)) && before.Before(since) {
				since, longer = before, true
			}
		}
	}
	return since
}

// rotationsOverlap: what a new secret takes the place of signs yet for as long as
// was asked for, to the second, counted from when relay was asked: some time before
// it was written.
func (c *checker) rotationsOverlap() {
	blind := c.blindness()
	for key, states := range c.states {
		for i := 1; i < len(states); i++ {
			was, now := states[i-1].newest(), states[i]
			if now.newest() == was {
				continue
			}
			least := minTime(knownSince(now.at, blind), c.askedToRotate(now.at)).Add(overlap - time.Second)
			if !slices.ContainsFunc(now.secrets, func(k signing) bool { return k.print == was && k.until.After(least) }) {
				c.wrong("signed", "", "secret %s of %s was replaced at %.1f s, and does not sign for another %v",
					was, key, now.at.Sub(c.began).Seconds(), overlap)
			}
		}
	}
}

// askedToRotate is when the operator began to ask for a rotation that was written at
// a moment; that moment if nobody did. One that is written late, by a database that
// has just come back, overlaps by that much less.
func (c *checker) askedToRotate(at time.Time) time.Time {
	from := at
	for _, e := range c.history {
		if began := e.At.Add(-time.Duration(e.Millis) * time.Millisecond); e.What == sayAsked && e.Name == "rotate" && !began.After(at) && !e.At.Before(at) {
			from = minTime(from, began)
		}
	}
	return from
}

// newest is the secret that signs without an end.
func (s state) newest() string {
	if len(s.secrets) == 0 {
		return ""
	}
	return s.secrets[0].print
}

// heldIsKept: of what is meant for a registered endpoint nothing dies, however often
// it was held and whatever it answered meanwhile.
func (c *checker) heldIsKept() {
	for _, e := range c.acked {
		if !isRegistered(c.intended[e.ID].Path) {
			continue
		}
		if v := c.accepted(e); v != nil && v.status == "dead" {
			c.wrong("kept", e.ID, "dead: %s", v.reason)
		}
	}
}

// aHold names a span in which an endpoint was held.
const aHold = "hold"

// holds are the times in which an endpoint was held.
func holds(states []state) (times []span) {
	for _, s := range states {
		n := len(times)
		switch open := n > 0 && times[n-1].to.IsZero(); {
		case s.held && !open:
			times = append(times, span{name: aHold, from: s.at})
		case !s.held && open:
			times[n-1].to = s.at
		}
	}
	return times
}

// operated counts what was done to the registered endpoints, and what of it showed.
type operated struct{ holds, rotations, changes, gone, requests int }

func (c *checker) operated() (n operated) {
	for _, states := range c.states {
		n.holds += len(holds(states))
		n.rotations += turns(states, state.newest)
		n.changes += turns(states, func(s state) string { return s.version })
	}
	for _, requests := range c.requests {
		for _, q := range requests {
			if isRegistered(q.path) {
				n.requests++
			}
			if isRegistered(q.path) && q.status == http.StatusGone {
				n.gone++
			}
		}
	}
	return n
}

// turns counts how often something about an endpoint changed.
func turns(states []state, what func(state) string) (n int) {
	for i := 1; i < len(states); i++ {
		if what(states[i]) != what(states[i-1]) {
			n++
		}
	}
	return n
}

// operatorTookPart is what [checker.everythingTookPart] asks of the registered
// endpoints, where there are any.
func (c *checker) operatorTookPart() {
	if len(c.states) == 0 {
		return
	}
	n := c.operated()
	for what, times := range map[string]int{
		"held": n.holds, "given a new secret": n.rotations, "changed": n.changes, "gone": n.gone, "called": n.requests,
	} {
		if times == 0 {
			c.wrong("part", "", "no registered endpoint was %s", what)
		}
	}
}
