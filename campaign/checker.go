package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// violation is an invariant that does not hold, of one event or of all.
type violation struct {
	Invariant string   `json:"invariant"`
	ID        string   `json:"id,omitempty"` // the webhook's
	What      string   `json:"what"`
	Story     []string `json:"story,omitempty"` // what happened to it
}

// verdict is what the checker found, and the figures of the run.
type verdict struct {
	circumstances
	counts
	Faults     map[string]int `json:"faults"` // by name
	Figures    []figure       `json:"figures"`
	Violations []violation    `json:"violations"`
}

// counts are what can be added up over many runs.
type counts struct {
	Events      int `json:"events"`
	Requests    int `json:"requests"`
	Rows        int `json:"rows"`
	Kills       int `json:"kills"`       // kills and pauses of a relay
	Interrupted int `json:"interrupted"` // attempts, by these: the unrecorded rows
	Duplicates  int `json:"duplicates"`  // requests answered 2xx of an event that had been answered 2xx
	Healed      int `json:"healed"`      // heals with enough time after them to show that relay works again
	SlowestHeal int `json:"slowest_ms"`  // of these
}

// figure is one line of the table of a run.
type figure struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// checker holds the evidence against the invariants.
type checker struct {
	*evidence
	intended map[string]entry // by id
	requests map[string][]*request
	events   map[string][]*event // by id
	byKey    map[string]*event
	acked    []entry
	faults   []span
	slowest  time.Duration // until each relay worked again, after a heal that had time to show it
	verdict  verdict
}

// span is a fault from its injection to its heal.
type span struct {
	name     string
	from, to time.Time
}

// check holds everything against the invariants of a campaign.
func (e *evidence) check() verdict {
	c := &checker{
		evidence: e, intended: map[string]entry{}, requests: map[string][]*request{},
		events: map[string][]*event{}, byKey: map[string]*event{},
		verdict: verdict{Faults: map[string]int{}},
	}
	c.sort()
	c.match()
	for _, hold := range []func(){
		c.nothingIsLost, c.everyRequestVerifies, c.everyRequestHasARow, c.everyRowIsTrue, c.everyEventEnds,
		c.duplicatesHaveACause, c.lettersAreTheDead, c.noTryIsEarly, c.everythingDrains, c.healthyStayFast,
		c.nothingLeaks, c.attemptsAreCounted, c.nothingIsRefused, c.lanesDrain, c.readinessTells, c.workResumes,
		c.everythingTookPart, c.settingsAreInForce, c.rotationsOverlap, c.heldIsKept,
	} {
		hold()
	}
	c.figures()
	return c.verdict
}

// sort puts the history and the tables in order.
func (c *checker) sort() {
	byNumber, open := map[int]*request{}, map[int]int{}
	for _, e := range c.history {
		switch e.What {
		case sayIntend:
			c.intended[e.ID] = e
		case sayAcked:
			c.acked = append(c.acked, e)
		case sayRequest:
			r := &request{id: e.ID, path: e.Path, hash: e.Hash, fault: e.Note, keys: e.Keys, version: e.Name, number: e.Number, at: e.At}
			c.requests[e.ID], byNumber[e.Number] = append(c.requests[e.ID], r), r
		case sayAnswer:
			byNumber[e.Number].status = e.Status
		case sayStepped:
			c.skewed[e.Worker] = true
		case sayFault:
			open[e.Number] = len(c.faults)
			c.faults = append(c.faults, span{name: e.Name, from: e.At})
			c.verdict.Faults[e.Name]++
		case sayHeal:
			c.faults[open[e.Number]].to = e.At
		}
	}
	for _, v := range c.evidence.events {
		c.events[v.id], c.byKey[v.key] = append(c.events[v.id], v), v
	}
	for _, r := range c.rows {
		if v := c.byKey[r.key]; v != nil {
			v.rows = append(v.rows, r)
		}
	}
	c.verdict.Events = len(c.acked)
}

// wrong notes a violation, with the story of the event.
func (c *checker) wrong(invariant, id, format string, a ...any) {
	v := violation{Invariant: invariant, ID: id, What: fmt.Sprintf(format, a...)}
	if id != "" {
		v.Story = c.story(id)
	}
	c.verdict.Violations = append(c.verdict.Violations, v)
}

// story is a list of things that happened, each with its time.
type story []moment

type moment struct {
	at   time.Time
	text string
}

func (s *story) add(at time.Time, format string, a ...any) {
	*s = append(*s, moment{at, fmt.Sprintf(format, a...)})
}

func (s *story) told(began time.Time) (lines []string) {
	slices.SortStableFunc(*s, func(a, b moment) int { return a.at.Compare(b.at) })
	for _, l := range *s {
		lines = append(lines, fmt.Sprintf("%8.3f s  %s", l.at.Sub(began).Seconds(), strings.TrimRight(l.text, " ")))
	}
	return lines
}

// addFaults puts in what was done to relay around that time.
func (c *checker) addFaults(lines *story) {
	if len(*lines) == 0 {
		return
	}
	first, last := (*lines)[0].at, (*lines)[0].at
	for _, l := range *lines {
		first = minTime(first, l.at)
		if l.at.After(last) {
			last = l.at
		}
	}
	for _, e := range c.history {
		switch e.What {
		case sayFault, sayHeal, sayGone, sayPaused, sayEnded, sayStart:
			if e.At.After(first.Add(-5*time.Second)) && e.At.Before(last.Add(5*time.Second)) {
				lines.add(e.At, "        %s %s %s", e.What, e.Name, e.Worker)
			}
		}
	}
}

// story tells all that is known of a webhook id, in order, with the faults of
// the time.
func (c *checker) story(id string) []string {
	var lines story
	for _, e := range c.history {
		if e.ID == id {
			lines.add(e.At, "%s number %d status %d seq %d %s", e.What, e.Number, e.Status, e.Seq, e.Note)
		}
	}
	for _, v := range c.events[id] {
		for _, r := range v.rows {
			lines.add(r.started, "row %s of %s: generation %d number %d, %s %d %s after %v, by %s",
				r.attempt, r.key, r.generation, r.number, r.kind, r.status, r.class, r.took.Round(time.Millisecond), r.worker)
		}
	}
	c.addFaults(&lines)
	told := lines.told(c.began)
	for _, v := range c.events[id] {
		told = append(told, fmt.Sprintf("row of %s: %s in %s, generation %d, %d attempts, reason %q", v.key, v.status, v.place, v.generation, v.attempts, v.reason))
	}
	return told
}
