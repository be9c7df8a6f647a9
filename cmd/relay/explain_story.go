package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

// tell writes an event's story: how it came, what was tried, where it is now and
// what happens next.
func (e explained) tell(w io.Writer, now time.Time) {
	fmt.Fprintf(w, "%s is %s\n\n", e.WebhookID, e.headline())
	line := func(at time.Time, format string, a ...any) {
		fmt.Fprintf(w, "  %s  %s\n", at.UTC().Format(stamp), fmt.Sprintf(format, a...))
	}
	line(e.AcceptedAt, "accepted as message %d of the queue (event %s)", e.Seq, e.EventKey)
	more(w, "%s %s", e.Method, e.target())
	if e.Tenant != "" {
		more(w, "of tenant %s", show(e.Tenant))
	}
	if !e.ScheduledAt.IsZero() {
		more(w, "not before %s", e.ScheduledAt.UTC().Format(stamp))
	}
	generation := 0
	for _, a := range e.History {
		if a.Generation != generation {
			generation = a.Generation
			fmt.Fprintf(w, "  %*s  replayed, for the %d. time\n", len(stamp), "", generation)
		}
		line(a.StartedAt, "%s", a.line())
		if a.Answer != "" && !a.Success {
			more(w, "answered %s", show(strings.TrimSpace(a.Answer)))
		}
	}
	if e.ended() {
		line(e.EndedAt, "%s", e.ending())
	}
	for _, next := range e.next(now) {
		more(w, "%s", next)
	}
}

const stamp = "2006-01-02 15:04:05.000Z"

// more writes a line that belongs to the one above.
func more(w io.Writer, format string, a ...any) {
	fmt.Fprintf(w, "  %*s  %s\n", len(stamp), "", fmt.Sprintf(format, a...))
}

func (e explained) target() string {
	switch {
	case e.Endpoint == "":
		return e.URL
	case e.URL == "":
		return "to the endpoint " + e.Endpoint
	default:
		return e.URL + ", the registered endpoint " + e.Endpoint
	}
}

// ended reports whether nothing more happens by itself.
func (e explained) ended() bool {
	return e.Status == "delivered" || e.Status == "failed" || e.Status == "dead"
}

// headline says the state in a few words.
func (e explained) headline() string {
	switch {
	case e.Status == "dead" && e.Place == string(relay.Gone):
		return "a duplicate: " + e.Reason
	case e.Status == "failed" || e.Status == "dead":
		return e.Status + ": " + e.Reason
	case e.Status == "delivered":
		return "delivered"
	case e.Status == "processing":
		return "being sent at this moment"
	case e.Attempts > 0:
		return e.Status + ", after " + plural(e.Attempts, "attempt")
	default:
		return e.Status + ", not attempted yet"
	}
}

func (e explained) ending() string {
	switch {
	case e.Status == "delivered":
		return "delivered, " + formatDuration(e.EndedAt.Sub(e.AcceptedAt).Round(time.Millisecond)) + " after its acceptance"
	case e.Place == string(relay.Gone):
		return "acknowledged and not sent: " + e.Reason
	default:
		return "given up: " + e.Reason
	}
}

// next says where the event is, what it waits for and what will be.
func (e explained) next(now time.Time) []string {
	switch {
	case e.Status == "delivered", e.Status == "dead" && e.Place == string(relay.Gone):
		return nil
	case e.Status == "failed" || e.Status == "dead":
		return []string{
			"its letter, with its sequence: nats stream get WEBHOOKS_DEAD -S webhooks.dead." + e.EndpointKey + "." + e.EventKey,
			"to send it again: relay replay <sequence>",
			"to send all letters of its endpoint again: relay replay " + e.EndpointKey,
		}
	case e.Status == "processing":
		return []string{"an attempt is under way in " + e.ClaimedBy + "; if that process is dead, another goes on " + until(now, e.ClaimedUntil)}
	}
	lines := []string{e.waits(now)}
	if e.Reason != "" {
		lines = append(lines, "because: "+e.Reason)
	}
	if e.Circuit != "closed" && e.Place != string(relay.Parked) {
		lines = append(lines, "the endpoint's circuit is "+strings.ReplaceAll(e.Circuit, "_", "-"))
	}
	if !e.ExpiresAt.IsZero() {
		lines = append(lines, "given up if not delivered by "+e.ExpiresAt.UTC().Format(stamp))
	}
	return lines
}

func (e explained) waits(now time.Time) string {
	attempt := "attempt " + strconv.Itoa(e.Attempts+1)
	if e.MaxAttempts > 0 {
		attempt += " of " + strconv.Itoa(e.MaxAttempts)
	}
	switch relay.Place(e.Place) {
	case relay.Asleep:
		return "asleep: " + attempt + " comes " + until(now, e.NextDue)
	case relay.Scheduled:
		return "scheduled: " + attempt + " comes " + until(now, e.NextDue)
	case relay.Parked:
		line := "parked, because the endpoint's circuit is " + strings.ReplaceAll(e.Circuit, "_", "-")
		if strings.HasPrefix(e.Reason, policy.Held+": ") {
			line = "parked until somebody resumes or enables the endpoint; then " + attempt + " comes at once"
		} else if e.Circuit == "closed" {
			line = "parked until now; the circuit is closed again, so " + attempt + " comes soon"
		} else if !e.CircuitUntil.IsZero() {
			line += "; a probe is sent " + until(now, e.CircuitUntil)
		}
		return line
	case relay.InQueue, relay.DeadLetters, relay.Gone:
	}
	return "in the queue: " + attempt + " comes as soon as a relay has room"
}

// until says a moment that is to come.
func until(now, at time.Time) string {
	switch {
	case at.IsZero():
		return "soon"
	case !at.After(now):
		return "now"
	default:
		return "in " + formatDuration(at.Sub(now).Round(time.Second)) + ", at " + at.UTC().Format("15:04:05Z")
	}
}

// line is one attempt on one line.
func (a attempted) line() string {
	took := fmt.Sprintf(" in %.0f ms", a.TookMS)
	switch relay.Kind(a.Kind) {
	case relay.Response:
		return fmt.Sprintf("attempt %d: %d %s%s", a.Number, a.Status, http.StatusText(a.Status), took)
	case relay.Blocked:
		return fmt.Sprintf("attempt %d: not sent, %s", a.Number, a.Error)
	case relay.Unrecorded:
		return "an attempt that nobody recorded: " + a.Worker + " died; the request may or may not have been sent"
	case relay.Error:
	}
	return fmt.Sprintf("attempt %d: no answer (%s)%s: %s", a.Number, a.Class, took, a.Error)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}
