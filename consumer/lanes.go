package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// laneTick is how often a draining lane is looked at, laneIdle how often one
	// that has no room for more. Many lanes are looked at less often, so that
	// the looks of one process stay below some hundreds a second.
	laneTick = 25 * time.Millisecond
	laneIdle = 100 * time.Millisecond
	// laneHands is how many looks are under way at a time: a lane that does
	// not answer holds up no other.
	laneHands = 8
	// laneBytes bounds what one batch takes into memory.
	laneBytes = 8 << 20
	// laneTimeout bounds one look at a lane. What is not answered by then was lost on
	// the way, as when a server dies with it in hand.
	laneTimeout = 5 * time.Second
	// headFor is how long the head of a lane that waits is taken to be the one that
	// was seen.
	headFor = time.Minute
)

// lanes brings parked events back. A lane is one subject of the stream
// WEBHOOKS_LATER, and the stream is the register of lanes: a process that has
// just started finds those that another left behind.
//
// A lane that is not empty means that its endpoint is recovering, whatever the
// local circuit says. So its head is released as a probe, and with every event
// that is settled, a few more: see ramp. What counts as under way are the
// copies on webhooks.due.<endpoint key> that are not settled yet, whichever
// process has them: an endpoint that is slow is drained slowly. When the
// circuit opens again the window falls back to one probe.
//
// What comes new for such an endpoint does not wait for the lane: it is tried
// at once, beside it, if the endpoint may be called and has room; else it goes
// behind, to the lane's end. Events have no order, and one that is new is worth
// more than one that is old.
//
// While an endpoint is held its lane rests; see rest.go. Every process looks at
// that, so that each of them knows at once when it is over.
//
// One process at a time drains a lane, under a lease that it holds in the bucket
// of pauses. Where that is away two may copy an event twice; its claim makes the
// second copy harmless.
type lanes struct {
	*Consumer
	mu      sync.Mutex
	known   map[string]*lane
	events  atomic.Uint64 // in all lanes, as the last sweep counted them
	working sync.WaitGroup
	listing sync.Mutex    // held while lanes are listed
	free    chan struct{} // hands
}

// lane is what this process remembers of one lane between two looks.
type lane struct {
	ramp  ramp      // only of the look that is under way
	fresh time.Time // the same; until then what was seen at the head has not expired

	next    time.Time // not looked at before
	busy    bool      // a look is under way
	again   bool      // something was parked since it began
	pressed time.Time // the next look does not wait for what was released until then
	state   string    // what the last look found
	held    pass      // only of the look that is under way
}

func newLanes(c *Consumer) *lanes {
	return &lanes{Consumer: c, known: map[string]*lane{}, free: make(chan struct{}, laneHands)}
}

// wake makes a lane known as soon as something is parked in it.
func (l *lanes) wake(endpointKey string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if la := l.known[endpointKey]; la != nil {
		la.again = true
		return
	}
	l.known[endpointKey] = &lane{ramp: newRamp(l.Lanes), state: LaneWaiting}
}

// drain has a lane's endpoint called again, and the lane looked at now.
func (l *lanes) drain(endpointKey string) {
	pressed := time.Now() // a look that begins as soon as the rest is over is what was asked for
	l.Policy.Wake(endpointKey)
	l.wake(endpointKey)
	l.mu.Lock()
	defer l.mu.Unlock()
	if la := l.known[endpointKey]; la != nil {
		la.next, la.pressed = time.Time{}, pressed
	}
}

// run drains lanes until ctx ends.
func (l *lanes) run(ctx context.Context) {
	defer l.working.Wait()
	tick := time.NewTicker(laneTick)
	defer tick.Stop()
	var swept time.Time
	for ctx.Err() == nil {
		if time.Since(swept) >= l.Sweep {
			swept = time.Now()
			l.list(ctx)
		}
		for key, la := range l.due() {
			l.look(ctx, key, la)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// look waits for a free hand, which looks at one lane.
func (l *lanes) look(ctx context.Context, key string, la *lane) {
	select {
	case l.free <- struct{}{}:
	case <-ctx.Done():
		return
	}
	l.working.Go(func() {
		defer func() { <-l.free }()
		began := time.Now()
		wait, state, err := l.step(ctx, key, la)
		l.report("drain lane "+key, err)
		l.looked(key, la, began.Add(wait), state)
	})
}

// looked notes what a look at a lane found. One that is empty is forgotten.
func (l *lanes) looked(key string, la *lane, next time.Time, state string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if state == laneEmpty && !la.again {
		delete(l.known, key)
		return
	}
	if state == laneEmpty {
		state, next = LaneWaiting, time.Time{}
	}
	if !la.next.IsZero() { // else somebody wants it to be looked at once more
		la.next = next
	}
	la.busy, la.again, la.state = false, false, state
}

func (l *lanes) report(step string, err error) {
	_, known := errors.AsType[Refusal](err) // that a stream refuses everything was said when it began
	if err != nil && !known && !errors.Is(err, context.Canceled) {
		l.log.Warn().Err(err).Msg(step)
	}
}

// list has the lanes listed beside the looks at them, unless that is under way: a
// listing that is never answered holds up no lane.
func (l *lanes) list(ctx context.Context) {
	if !l.listing.TryLock() {
		return
	}
	l.working.Go(func() {
		defer l.listing.Unlock()
		l.report("list lanes", l.find(ctx))
	})
}

// find lists the lanes that are not empty.
func (l *lanes) find(ctx context.Context) error {
	counts, err := l.subjectCounts(ctx, subjectParked+">")
	if err != nil {
		return err
	}
	events := uint64(0)
	for subject, n := range counts {
		events += n
		l.wake(strings.TrimPrefix(subject, subjectParked))
	}
	l.events.Store(events)
	l.forgetEmptied(counts)
	return nil
}

// subjectCounts counts the messages of WEBHOOKS_LATER by subject.
func (c *Consumer) subjectCounts(ctx context.Context, filter string) (map[string]uint64, error) {
	state, err := c.laterState(ctx, filter)
	return state.Subjects, err
}

// laterState is the state of WEBHOOKS_LATER, with what it has of some subjects.
func (c *Consumer) laterState(ctx context.Context, filter string) (jetstream.StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	info, err := c.later.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return jetstream.StreamState{}, fmt.Errorf("count %s: %w", filter, err)
	}
	return info.State, nil
}

// due returns the lanes that want to be looked at now, and counts them as being
// looked at.
func (l *lanes) due() map[string]*lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, due := time.Now(), map[string]*lane{}
	for key, la := range l.known {
		released := la.state == LaneHeld && l.heldBy(key) == ""
		if !la.busy && (released || !now.Before(la.next)) {
			if la.pressed.After(la.ramp.probe.Add(-probeAfter)) {
				la.ramp.probe = time.Time{}
			}
			la.busy, la.pressed, la.next = true, time.Time{}, now
			due[key] = la
		}
	}
	return due
}

// step looks at one lane and releases as much of it as its endpoint may take.
// It says when to look again, and the lane's state.
func (l *lanes) step(ctx context.Context, key string, la *lane) (wait time.Duration, state string, err error) {
	r := &la.ramp
	if l.heldBy(key) != "" {
		r.restart()
		return l.passEach(), LaneHeld, l.lookThrough(ctx, key, &la.held)
	}
	if la.state == LaneHeld {
		l.Policy.Wake(key) // who ends a hold knows that the endpoint is well
	}
	if rest := l.Policy.Rest(key); rest > 0 {
		r.rested()
		return min(rest, l.Sweep), LaneWaiting, l.giveUp(ctx, key, la)
	}
	if l.Pauses != nil {
		if here, elsewhere := l.Pauses.drains(ctx, key); elsewhere {
			return l.Sweep, laneEmpty, nil // the next sweep finds what is left of it
		} else if !here {
			r.restart()
			return laneIdle, LaneWaiting, nil
		}
	}
	c, err := l.copies(ctx, key, r.asleep)
	if err != nil {
		return time.Second, LaneWaiting, err
	}
	now := time.Now()
	n := r.room(c, now)
	if n == 0 {
		return max(laneIdle, l.tick()), stateOf(r), nil
	}
	taken, err := l.release(ctx, key, n, nil)
	if err != nil {
		return time.Second, LaneWaiting, err
	}
	r.released(taken, now)
	if taken == 0 {
		if l.Pauses != nil {
			l.Pauses.drained(key)
		}
		return l.Sweep, laneEmpty, nil
	}
	return l.tick(), stateOf(r), nil
}

// copies counts what was brought back of a lane and is not settled. Those up to a
// sequence are asleep. The server knows without looking, so a question that is not
// answered soon is lost, and is asked again.
func (l *lanes) copies(ctx context.Context, key string, asleep uint64) (copies, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	subject := subjectDue + key
	state, err := l.laterState(ctx, subject)
	if err != nil {
		return copies{}, err
	}
	c := copies{waiting: state.Subjects[subject], last: state.LastSeq}
	c.awake = c.waiting
	if c.waiting > 0 && asleep > 0 {
		c.awake, err = l.countFrom(ctx, subject, asleep+1)
	}
	if kept := l.tails[StreamLater].keeps(subject); kept > asleep && kept <= c.last && c.awake > 0 {
		c.awake-- // it is delivered
	}
	return c, err
}

// tick is how long a lane that drains waits for its next look.
func (l *lanes) tick() time.Duration {
	return min(laneTick*time.Duration(1+l.size()/10), time.Second)
}

// The states of a lane.
const (
	LaneWaiting  = "waiting"  // its endpoint rests
	LaneProbing  = "probing"  // a few events show whether the endpoint is well
	LaneDraining = "draining" // it is, and the lane is on its way
	LaneHeld     = "held"     // somebody paused or disabled its endpoint
	laneEmpty    = ""
)

func stateOf(r *ramp) string {
	if r.probing() {
		return LaneProbing
	}
	return LaneDraining
}

// giveUp releases what has expired at the head of a lane: burying it needs no
// endpoint. It looks at one event before it reads more, and remembers when that
// expires: of a thousand lanes, each look at what has days left is felt.
func (l *lanes) giveUp(ctx context.Context, key string, la *lane) error {
	now := time.Now()
	if now.Before(la.fresh) {
		return nil
	}
	la.fresh = now.Add(headFor)
	taken, err := l.release(ctx, key, 1, func(raw *jetstream.RawStreamMsg) bool {
		if expires := l.expiry(key, raw); !expires.IsZero() && expires.Before(la.fresh) {
			la.fresh = expires
		}
		return !now.Before(la.fresh)
	})
	if taken == 1 && err == nil {
		_, err = l.release(ctx, key, maxBatch, func(raw *jetstream.RawStreamMsg) bool { return l.expired(key, raw) })
	}
	return err
}

// state is what this process knows of a lane.
func (l *lanes) state(endpointKey string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if la := l.known[endpointKey]; la != nil && la.state != laneEmpty {
		return la.state
	}
	return LaneWaiting
}

// size is the number of lanes that this process knows.
func (l *lanes) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.known)
}
