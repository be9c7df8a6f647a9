package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
)

// A sick endpoint may have a hundred thousand events in the queue before those
// of a healthy one. They are set aside as fast as the broker gives them out:
// without a claim, and on places of their own, so that no slot waits for them.
// A few sleep where they are, which costs no write at all. The others go to
// their endpoint's lane, recorded and moved by as many hands as asideHands; the
// rest is put off, neither acknowledged nor kept alive nor held in memory, and
// asked back as soon as a hand is free.
const (
	// asideHands is how many events are moved at a time: enough for the server
	// to have something to do while an answer is under way.
	asideHands = 512
	// putOffFor is how much of AckWait a message that was put off is known for;
	// after that the server brings it back by itself.
	putOffFor = 0.8
)

// refused reports whether an event's endpoint cannot be called now, before
// anything is asked of Postgres, and where the event waits meanwhile.
func (c *Consumer) refused(m message, w relay.Webhook, ep relay.Endpoint, fault error) (relay.Verdict, bool) {
	now := time.Now()
	if fault != nil || m.bury != "" || !now.Before(w.ExpiresAt) || w.ScheduledAt.After(now) {
		return relay.Verdict{}, false // it is decided without a call
	}
	v, no := c.Policy.Refuses(ep)
	if !no {
		return relay.Verdict{}, false
	}
	v = c.shelve(m, w, v)
	return v, v.Place == relay.Asleep || v.Place == relay.Parked // a schedule has a time, which a claim records
}

// setAside sees to an event that was refused: it sleeps in the queue, or is
// recorded and parked.
func (c *Consumer) setAside(ctx context.Context, m message, w relay.Webhook, v relay.Verdict) {
	if v.Place == relay.Asleep {
		_ = m.NakWithDelay(v.After) // if it is lost, AckWait brings the message back
		return
	}
	m.release()
	if !c.asides.take(m.Msg) {
		return
	}
	defer c.asides.free()
	claim, err := c.Log.SetAside(ctx, w, v)
	if err != nil {
		c.left(w, "set aside", err)
		return
	}
	if claim.Verdict.Action == relay.Defer {
		c.tell(w, nil, claim.Verdict)
		c.settle(ctx, m, w, claim, claim.Verdict)
		return
	}
	c.settle(ctx, m, w, claim, c.shelve(m, w, claim.Verdict))
}

// nak is what JetStream takes for a negative acknowledgement without a delay.
var nak = []byte("-NAK")

// asides counts the hands that set events aside, and knows the messages that
// none was free for. It is safe for concurrent use.
type asides struct {
	mu     sync.Mutex
	hands  int // free ones
	keep   time.Duration
	putOff []putOff // the oldest first
}

// putOff is a message that waits for a hand, as little of it as can be.
type putOff struct {
	reply string
	at    time.Time
}

func newAsides(ackWait time.Duration) *asides {
	return &asides{hands: asideHands, keep: time.Duration(putOffFor * float64(ackWait))}
}

// take gives a message a hand, or puts it off and reports false.
func (a *asides) take(m jetstream.Msg) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hands == 0 {
		a.putOff = append(a.putOff, putOff{reply: m.Reply(), at: time.Now()})
		return false
	}
	a.hands--
	return true
}

func (a *asides) free() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hands++
}

// size is how many messages are put off.
func (a *asides) size() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.putOff)
}

// due takes as many of those that were put off as there are free hands, or all
// of them.
func (a *asides) due(all bool) []putOff {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.putOff) > 0 && time.Since(a.putOff[0].at) > a.keep {
		a.putOff = a.putOff[1:] // the server has brought it back
	}
	n := min(a.hands, len(a.putOff))
	if all {
		n = len(a.putOff)
	}
	due := a.putOff[:n:n]
	if a.putOff = a.putOff[n:]; len(a.putOff) == 0 {
		a.putOff = nil
	}
	return due
}

// askBack has the server deliver again what was put off, as far as there are
// hands for it.
func (c *Consumer) askBack(all bool) {
	for _, p := range c.asides.due(all) {
		_ = c.Conn.Publish(p.reply, nak) // if it is lost, AckWait brings the message back
	}
}
