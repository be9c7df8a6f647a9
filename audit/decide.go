package audit

import (
	"fmt"
	"strings"
	"time"

	"github.com/relaywebhooks/relay"
)

const (
	// dueTolerance forgives a message that comes a little before its time:
	// two clocks measured its sleep.
	dueTolerance = 50 * time.Millisecond
	// leaseMargin is waited beyond another's claim, for the same reason.
	leaseMargin = 100 * time.Millisecond
	// duplicateOf begins the reason of an event that repeats another's
	// idempotency key, and tells it from a dead one.
	duplicateOf = "duplicate of "
)

// row is what the database knows of an event, as far as a claim depends on it.
type row struct {
	generation int
	status     string
	place      relay.Place
	reason     string
	made       int // attempts in its generation
	last       int // status of the latest attempt
	streak     int // unrecorded attempts in a row

	claimed    bool
	claim      relay.AttemptID
	claimedBy  string
	claimedFor time.Duration // what is left of the claim; not positive: it has ended
	dueIn      time.Duration
}

// decision is what a claim comes to, and what is to be written for it.
type decision struct {
	claim    relay.Claim
	leftOver bool // the row's claim ended without a record: an attempt row for it
	write    bool // the row changes
	fresh    bool // it starts a new generation
	streak   int
}

// decide answers a claim under id for an event that is known already, in the
// generation that came along with its message. It is the whole truth about
// claims, and pure.
func decide(r row, generation int, id relay.AttemptID) decision {
	switch {
	case r.generation > generation:
		return refuse(r, relay.Verdict{
			Action: relay.Superseded,
			Reason: fmt.Sprintf("replayed meanwhile: generation %d is on its way", r.generation),
		})
	case r.claimed && r.claim == id:
		return grant(r, id, false) // its own commit, whose answer was lost
	case r.claimed && r.claimedFor > 0:
		return refuse(r, relay.Verdict{
			Action: relay.Wait, After: r.claimedFor + leaseMargin,
			Reason: "claimed by " + r.claimedBy,
		})
	case r.generation < generation:
		return grant(r, id, true)
	case terminal(r.status):
		return refuse(r, settled(r))
	case r.claimed && r.streak+1 >= relay.MaxUnrecorded:
		return poison(r)
	case r.dueIn > dueTolerance && !r.claimed:
		return refuse(r, relay.Verdict{Action: relay.Wait, After: r.dueIn, Reason: "not due yet", Place: r.place})
	}
	return grant(r, id, false)
}

func refuse(r row, v relay.Verdict) decision {
	return decision{claim: relay.Claim{Made: r.made, Last: r.last, Verdict: v}}
}

func grant(r row, id relay.AttemptID, fresh bool) decision {
	d := decision{
		claim: relay.Claim{
			ID: id, Made: r.made, Last: r.last,
			Verdict: relay.Verdict{Action: relay.Send, Place: relay.InQueue},
		},
		write: true, fresh: fresh, streak: r.streak,
		leftOver: r.claimed && r.claim != id,
	}
	if d.leftOver {
		d.streak++
	}
	if fresh {
		d.claim.Made, d.streak = 0, 0
	}
	return d
}

// aside makes of a claim that would be granted one that is given back at once:
// the event is to wait with this verdict. Every other decision stands.
func (d decision) aside(v relay.Verdict) decision {
	if d.claim.Verdict.Action == relay.Send {
		d.claim.ID, d.claim.Verdict = relay.AttemptID{}, v
	}
	return d
}

// poison gives up an event whose attempts keep ending with the process that
// makes them.
func poison(r row) decision {
	d := refuse(r, relay.Verdict{
		Action: relay.Dead, Place: relay.DeadLetters,
		Reason: fmt.Sprintf("poison: %d attempts in a row ended with a dead process", r.streak+1),
	})
	d.write, d.leftOver, d.streak = true, true, r.streak+1
	return d
}

func terminal(status string) bool {
	return status == "delivered" || status == "failed" || status == "dead"
}

// settled returns the verdict that a terminal row stands for.
func settled(r row) relay.Verdict {
	v := relay.Verdict{Action: relay.Dead, Reason: r.reason, Place: r.place}
	switch {
	case r.status == "delivered":
		v.Action = relay.Delivered
	case r.status == "failed":
		v.Action = relay.Failed
	case r.place == relay.Gone && strings.HasPrefix(r.reason, duplicateOf):
		v.Action = relay.Duplicate
	}
	return v
}

// statusAfter returns the status of an event after a verdict, and false if the
// verdict is none that can be recorded.
func statusAfter(a relay.Action) (string, bool) {
	switch a {
	case relay.Delivered:
		return "delivered", true
	case relay.Retry, relay.Defer:
		return "pending", true
	case relay.Failed:
		return "failed", true
	case relay.Dead, relay.Duplicate:
		return "dead", true
	case relay.Send, relay.Wait, relay.Superseded:
	}
	return "", false
}
