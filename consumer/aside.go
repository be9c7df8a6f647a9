package consumer

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/relaywebhooks/relay"
)

// A sick endpoint may have a hundred thousand events in the queue before those
// of a healthy one. They are set aside as fast as the broker gives them out:
// without a claim, and on places of their own, so that no slot waits for them.
// A few sleep where they are, which costs no write at all. The others go to
// their endpoint's lane, recorded and moved by a number of hands; the rest is
// put off, neither acknowledged nor kept alive nor held in memory, and asked
// back as soon as a hand is free.
//
// Nobody waits for what is set aside, and each move costs Postgres a row and
// the broker two syncs of its disk. So there are only a few hands while events
// of healthy endpoints come. All hands are there when none come: relay has
// nothing better to do then, or they are stuck behind what must be moved.
const (
	// allHands is how many events are moved at a time at most: enough for the
	// server to have something to do while an answer is under way. What was put
	// off is asked back for them only every handTick, so that it does not keep out
	// what comes for the first time, behind which healthy events may be.
	allHands = 512
	// fewHands is how many while healthy events come. They begin in step, every
	// moveTick: a batch, and then rest. With more, healthy events wait longer for
	// the disk and the processor; with fewer, the queue stays long for longer.
	// While new events are put off, for growsFor each, there are someHands, so that
	// it does not grow for ever.
	fewHands  = 4
	someHands = 16
	growsFor  = time.Second
	// healthyFor is how long after a healthy event another one is expected.
	healthyFor = 500 * time.Millisecond
	// crowdedAt is the part of MaxAckPending from which on more has to be moved
	// than is put off: healthy events wait until there is room again. It counts
	// for pressedFor after an event was put off that had not been before.
	crowdedAt  = 0.8
	pressedFor = 100 * time.Millisecond
	// putOffFor is how much of AckWait a message that was put off is known for;
	// after that the server brings it back by itself.
	putOffFor = 0.8
	// renewFrom is how much of putOffFor goes by before the server is told to wait
	// longer, renewMost of them every moveTick. Else it would bring back all of a
	// queue in one moment, and healthy events would wait for that one.
	renewFrom = 0.5
	renewMost = 150
	// sickFrom is how many of one endpoint's are put off, among stepFrom in all, when
	// no more of them go to sleep: each that wakes has the server look through all.
	sickFrom = 100
)

// refused reports whether an event's endpoint cannot be called now, before
// anything is asked of Postgres, and where the event waits meanwhile.
func (c *Consumer) refused(m message, w relay.Webhook, ep relay.Endpoint, fault error) (relay.Verdict, bool) {
	now := time.Now()
	if fault != nil || m.bury != "" || expired(w, now) || w.ScheduledAt.After(now) {
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
		_ = c.putToSleep(m, v.After) // it fails with the connection
		return
	}
	m.release()
	if !c.asides.take(w.EndpointKey, m.Reply(), m.delivered == 1) {
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

// What JetStream takes for a negative acknowledgement without a delay, and for a
// sign that a message is being worked on.
var (
	nak        = []byte("-NAK")
	inProgress = []byte("+WPI")
)

// asides counts the hands that set events aside, and knows the messages that
// none was free for. It is safe for concurrent use.
type asides struct {
	nowFunc func() time.Time
	keep    time.Duration // how long what was put off is known

	mu      sync.Mutex
	busy    int       // hands
	asked   time.Time // when something was asked back
	healthy time.Time // when an event came that was not refused
	grown   time.Time // when an event was put off for the first time
	pressed time.Time // when one was although it is crowded
	crowded bool
	out     int                 // messages that are out, as the server last said
	putOff  []putOff            // the oldest first
	of      map[string]*backlog // by endpoint
}

// putOff is a message that waits for a hand, as little of it as can be.
type putOff struct {
	reply string
	at    time.Time
	of    *backlog
}

// backlog is how many events of an endpoint are put off.
type backlog struct {
	endpointKey string
	n           int
}

func newAsides(ackWait time.Duration) *asides {
	return &asides{
		nowFunc: time.Now, keep: time.Duration(putOffFor * float64(ackWait)), of: map[string]*backlog{},
	}
}

// goesOn notes that an event was not refused: more like it may come, and are not
// to wait for what is set aside.
func (a *asides) goesOn() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.healthy = a.nowFunc()
}

// polled takes in how many messages of a consumer are pending, of how many that
// may be.
func (a *asides) polled(ackPending, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.out, a.crowded = ackPending, float64(ackPending) >= crowdedAt*float64(most)
}

// hands is how many events may be moved at a time. The caller holds the lock.
func (a *asides) hands(now time.Time) int {
	switch {
	case now.Sub(a.healthy) >= healthyFor, now.Sub(a.pressed) < pressedFor:
		return allHands
	case now.Sub(a.grown) < growsFor:
		return someHands
	}
	return fewHands
}

// take gives a message for an endpoint a hand, or puts it off and reports false.
func (a *asides) take(endpointKey, reply string, first bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.nowFunc()
	if a.busy < a.hands(now) {
		a.busy++
		return true
	}
	if first {
		a.grown = now
	}
	if first && a.crowded {
		a.pressed = now
	}
	of := a.of[endpointKey]
	if of == nil {
		of = &backlog{endpointKey: endpointKey}
		a.of[endpointKey] = of
	}
	of.n++
	a.putOff = append(a.putOff, putOff{reply: reply, at: now, of: of})
	return false
}

// drop takes the oldest ones out. The caller holds the lock.
func (a *asides) drop(n int) []putOff {
	dropped := a.putOff[:n:n]
	for _, p := range dropped {
		if p.of.n--; p.of.n == 0 {
			delete(a.of, p.of.endpointKey)
		}
	}
	if a.putOff = a.putOff[n:]; len(a.putOff) == 0 {
		a.putOff = nil
	}
	return dropped
}

// many reports whether so many are put off that the server takes long to look
// through them. The caller holds the lock.
func (a *asides) many() bool { return len(a.putOff) >= stepFrom }

// manyOut reports the same of all messages that are out, asleep ones as well.
func (a *asides) manyOut() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.many() || a.out >= stepFrom
}

// sick reports whether many are put off, and so many of an endpoint's that no more of
// those shall sleep.
func (a *asides) sick(endpointKey string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.of[endpointKey]
	return a.many() && of != nil && of.n >= sickFrom
}

func (a *asides) free() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy--
}

// size is how many messages are put off.
func (a *asides) size() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(a.nowFunc())
	return len(a.putOff)
}

// due takes as many of those that were put off as there are free hands, or all
// of them.
func (a *asides) due(all bool) []putOff {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.nowFunc()
	a.forget(now)
	hands := a.hands(now)
	n := max(0, min(hands-a.busy, len(a.putOff)))
	switch {
	case all:
		n = len(a.putOff)
	case n == 0 || hands == allHands && now.Sub(a.asked) < handTick:
		return nil
	}
	a.asked = now
	return a.drop(n)
}

// renew takes some of those that were put off long ago, which are known for as long
// again.
func (a *asides) renew() []putOff {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.nowFunc()
	a.forget(now)
	n := 0
	for n < min(renewMost, len(a.putOff)) && now.Sub(a.putOff[n].at) >= time.Duration(renewFrom*float64(a.keep)) {
		n++
	}
	old := slices.Clone(a.putOff[:n])
	for i := range old {
		old[i].at = now
	}
	a.putOff = append(a.putOff[n:], old...)
	return old
}

// forget drops what the server has brought back by now.
func (a *asides) forget(now time.Time) {
	n := 0
	for n < len(a.putOff) && now.Sub(a.putOff[n].at) > a.keep {
		n++
	}
	if n > 0 {
		a.drop(n)
	}
}

// askBack has the server deliver again what was put off, as far as there are
// hands for it.
func (c *Consumer) askBack(all bool) {
	for _, p := range c.asides.due(all) {
		_ = c.Conn.Publish(p.reply, nak) // if it is lost, AckWait brings the message back
	}
}

// waitLonger has the server wait for what was put off.
func (c *Consumer) waitLonger() {
	for _, p := range c.asides.renew() {
		_ = c.Conn.Publish(p.reply, inProgress) // if it is lost, AckWait brings the message back
	}
}
