package main

import "time"

const (
	// clockSlack is what the clocks of two processes of one machine, and the
	// rounding of Postgres, may differ by.
	clockSlack = 5 * time.Millisecond
	// answerSlack is how much longer than the row says an exchange may look
	// from the receiver's side.
	answerSlack = 100 * time.Millisecond
)

// match finds, for each webhook id, which row tells of which request: an
// assignment that covers every row with an answer and every request, if there
// is one. What it leaves over breaks I3 or I4.
func (c *checker) match() {
	for id, requests := range c.requests {
		var rows []*row
		for _, v := range c.events[id] {
			rows = append(rows, v.rows...)
		}
		m := matching{c: c, requests: requests, rows: rows}
		for _, r := range rows {
			if r.kind == "response" {
				m.seekRequest(r, map[*request]bool{})
			}
		}
		m.likely = true
		m.coverRequests()
		m.likely = false
		m.coverRequests()
	}
}

// matching is a bipartite matching that grows by augmenting paths, which never
// uncover what is covered.
type matching struct {
	c        *checker
	requests []*request
	rows     []*row
	likely   bool // leave out what needs an answer that got lost for no reason
}

func (m matching) coverRequests() {
	for _, q := range m.requests {
		if q.row == nil {
			m.seekRow(q, map[*row]bool{})
		}
	}
}

func (m matching) seekRequest(r *row, seen map[*request]bool) bool {
	for _, q := range m.requests {
		if seen[q] || !m.c.fits(q, r) {
			continue
		}
		seen[q] = true
		if q.row == nil || m.seekRequest(q.row, seen) {
			q.row, r.request = r, q
			return true
		}
	}
	return false
}

func (m matching) seekRow(q *request, seen map[*row]bool) bool {
	for _, r := range m.rows {
		if seen[r] || !m.c.fits(q, r) || m.likely && m.c.unexcused(q, r) {
			continue
		}
		seen[r] = true
		if r.request == nil || m.seekRow(r.request, seen) {
			q.row, r.request = r, q
			return true
		}
	}
	return false
}

// unexcused says whether a row, if it told of a request, would say that relay
// did not hear an answer which nothing kept from it.
func (c *checker) unexcused(q *request, r *row) bool {
	return r.kind == "error" && q.status/100 == 2 && !c.keptFromHearing(r)
}

// fits says whether a row may tell of a request.
func (c *checker) fits(q *request, r *row) bool {
	timed := !c.skewed[r.worker]
	if timed && q.at.Before(r.started.Add(-clockSlack)) {
		return false
	}
	switch r.kind {
	case "response":
		return r.status == q.status && (!timed || q.at.Before(r.started.Add(r.took+answerSlack)))
	case "error":
		// A request that was held up in a cable arrives after relay gave it up.
		return !timed || q.at.Before(r.started.Add(r.took+10*time.Second))
	}
	return r.kind == "unrecorded"
}
