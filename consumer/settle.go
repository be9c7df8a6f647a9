package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
)

// Point names a moment on a webhook's way at which a test may crash.
type Point string

// The points, in the order of the way.
const (
	AfterClaim   Point = "after-claim"
	AfterSend    Point = "after-send"
	BeforeRecord Point = "before-record"
	AfterRecord  Point = "after-record"
	AfterMove    Point = "after-move" // the copy or letter is stored, the message not yet acknowledged
	BeforeAck    Point = "before-ack"
	AfterAck     Point = "after-ack"
)

const (
	// settleTries bounds how often a move or an acknowledgement is tried
	// before the message is left to its AckWait; the claim makes that safe.
	settleTries   = 3
	settleTimeout = 5 * time.Second
	// maxReason bounds the reason in the header of a dead letter.
	maxReason = 4 << 10
)

// settle carries out a recorded verdict on its message. Whatever fails here is
// left: the message comes again, and the claim says what was decided.
func (c *Consumer) settle(ctx context.Context, m message, w relay.Webhook, claim relay.Claim, v relay.Verdict) {
	var err error
	switch v.Place {
	case relay.Asleep:
		c.At(BeforeAck)
		err = c.putToSleep(m, v.After)
	case relay.Scheduled:
		err = c.move(ctx, m, c.schedule(m, w, v.After))
	case relay.Parked:
		err = c.park(ctx, m, copyOf(subjectParked+w.EndpointKey, m.Headers(), m.Data(), m.metaOf(w)))
		c.lanes.wake(w.EndpointKey)
	case relay.DeadLetters:
		err = c.bury(ctx, m, w, letter(m, w, claim, v))
	case relay.Gone:
		err = c.end(ctx, m, w, v)
	default: // recorded as waiting in the queue: let it come again
		err = c.putToSleep(m, minSleep)
	}
	if err == nil {
		return
	}
	c.left(w, "settle: "+string(v.Place), err)
	if v.Place == relay.Scheduled || v.Place == relay.Parked || v.Place == relay.DeadLetters {
		c.wait(ctx, m, w, v) // what was decided stands in the record, and is carried out later
	}
}

// ack acknowledges and waits for the server to say that it knows: with a work
// queue such an acknowledgement survives kill -9 of the server.
func (c *Consumer) ack(ctx context.Context, m message) error {
	c.inStep()
	c.At(BeforeAck)
	err := attemptTimes(ctx, m.DoubleAck)
	c.At(AfterAck)
	return err
}

// move stores a copy elsewhere, waits until it is stored, and only then
// acknowledges the original. A crash in between leaves both; the claim makes
// the second harmless.
func (c *Consumer) move(ctx context.Context, m message, to *nats.Msg) error {
	err := c.store(ctx, StreamLater, func(ctx context.Context) error {
		_, err := c.js.PublishMsg(ctx, to)
		return err
	})
	if err != nil {
		return fmt.Errorf("publish to %s: %w", to.Subject, err)
	}
	c.At(AfterMove)
	return c.ack(ctx, m)
}

func attemptTimes(ctx context.Context, do func(context.Context) error) error {
	var err error
	for range settleTries {
		once, cancel := context.WithTimeout(ctx, settleTimeout)
		err = do(once)
		cancel()
		if err == nil || ctx.Err() != nil || errors.Is(err, nats.ErrPermissionViolation) {
			return err
		}
		pause(ctx, 100*time.Millisecond)
	}
	return err
}

// metaOf is what the copies of a message carry.
func (m message) metaOf(w relay.Webhook) meta {
	next := m.meta
	next.id, next.fromLane = w.ID, false
	return next
}

// schedule makes the message that JetStream will turn into a due one. Its
// schedules have whole seconds: rounding up keeps the copy from coming early.
// One generation of an event has one schedule: the subject names it, and a
// second replaces the first. One that arrives late from a process that was cut
// off must not replace that of a newer generation.
func (c *Consumer) schedule(m message, w relay.Webhook, after time.Duration) *nats.Msg {
	at := time.Now().Add(after + time.Second - 1).UTC().Truncate(time.Second)
	keep := m.metaOf(w)
	keep.fromLane = m.fromLane
	out := copyOf(scheduleSubject(w), m.Headers(), m.Data(), keep)
	out.Header.Set("Nats-Schedule", "@at "+at.Format(time.RFC3339))
	out.Header.Set("Nats-Schedule-Target", subjectDue+w.EndpointKey)
	return out
}

func scheduleSubject(w relay.Webhook) string {
	subject := subjectLater + w.EndpointKey + "." + w.Key.String()
	if w.Generation > 0 {
		subject += "." + strconv.Itoa(w.Generation)
	}
	return subject
}

// letter makes a dead letter: the producer's body and headers as they were,
// why it died, and the webhook id, so that publishing it again by hand keeps
// the id.
func letter(m message, w relay.Webhook, claim relay.Claim, v relay.Verdict) *nats.Msg {
	keep := m.metaOf(w)
	keep.letter, keep.bury = "", ""
	out := copyOf(subjectDead+w.EndpointKey+"."+w.Key.String(), fitting(m.Headers()), m.Data(), keep)
	h := out.Header
	h.Set(metaEndpoint, w.EndpointKey)
	h.Set(metaStatus, v.Action.String())
	h.Set(metaReason, headerSafe(v.Reason, maxReason))
	h.Set(metaAttempts, strconv.Itoa(claim.Made))
	h.Set(metaLastStatus, strconv.Itoa(claim.Last))
	h.Set(metaBuried, time.Now().UTC().Format(time.RFC3339))
	if _, named := canonical(h)[http.CanonicalHeaderKey(headerID)]; !named {
		h.Set(headerID, w.ID)
	}
	return out
}

// fitting keeps as many headers as a letter has room for, the small ones first:
// JetStream takes 64 KiB of them, relay's own included. Only those of a message
// that has more than relay accepts do not all fit.
func fitting(h nats.Header) nats.Header {
	const room = 48 << 10
	size := func(name string) int { return fieldBytes(name, h[name]) }
	names := sortedKeys(h)
	slices.SortStableFunc(names, func(a, b string) int { return size(a) - size(b) })
	kept, total := nats.Header{}, 0
	for _, name := range names {
		if total += size(name); total <= room {
			kept[name] = h[name]
		}
	}
	return kept
}

// headerSafe makes text fit for a header: one line, valid UTF-8, bounded.
func headerSafe(s string, most int) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "�")), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// invalidReason puts all faults of a message into one line.
func invalidReason(fault error) string {
	return headerSafe("invalid: "+strings.ReplaceAll(fault.Error(), "\n", "; "), maxReason)
}
