package consumer

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// nats-server keeps one list of all messages of a consumer that are out: in hand,
// asleep or put off. When the first of them is due it looks through the whole list
// (2.15.2, checkPending): 5 ms for 100,000, in which it gives out nothing. Two things
// keep it from that: each NakWithDelay has it wait for 10 ms more, and where the list
// is long, an acknowledgement that comes meanwhile has it begin again 100 ms later.
// With one or the other every few milliseconds nothing wakes, until there is a gap by
// chance. Then all that was due by then comes in one moment, before what is new, and
// goes to sleep in one moment again: of a thousand sick endpoints up to 1,100 events
// in 20 ms, behind which healthy ones waited for 40.
//
// So what goes to sleep does so in step, every moveTick, and so does what is
// acknowledged while many are out. Between two steps the server gets through.
const (
	moveTick = 20 * time.Millisecond
	// stepFrom is how many are out when acknowledgements are in step too: the server
	// looks at a list of 1,024 without a pause.
	stepFrom = 1000
)

// steps are what waits for the next step. It is safe for concurrent use.
type steps struct {
	mu       sync.Mutex
	next     chan struct{} // closed at the next one
	sleepers []sleeper
	over     bool // nobody steps any more
}

// sleeper is a message that goes to sleep, as little of it as can be.
type sleeper struct {
	reply string
	after time.Duration
}

func newSteps() *steps { return &steps{next: make(chan struct{})} }

// wait returns at the next step.
func (s *steps) wait() {
	s.mu.Lock()
	next := s.next
	s.mu.Unlock()
	late := time.NewTimer(2 * moveTick) // at the end nobody steps
	defer late.Stop()
	select {
	case <-next:
	case <-late.C:
	}
}

// add has a message go to sleep at the next step, or reports false if there is none.
func (s *steps) add(reply string, after time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.sleepers = append(s.sleepers, sleeper{reply: reply, after: after})
	}
	return !s.over
}

// step lets those go on who wait, and returns what goes to sleep.
func (s *steps) step(last bool) []sleeper {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.next)
	sleepers := s.sleepers
	s.next, s.sleepers, s.over = make(chan struct{}), nil, last
	return sleepers
}

// inStep waits for the next step while many messages are out.
func (c *Consumer) inStep() {
	if c.asides.manyOut() {
		c.steps.wait()
	}
}

// putToSleep has the server deliver a message again after a time, and up to moveTick
// more. If that is lost, AckWait brings the message back.
func (c *Consumer) putToSleep(m message, after time.Duration) error {
	if c.steps.add(m.Reply(), after) {
		return nil
	}
	return m.NakWithDelay(after)
}

// step tells the server what goes to sleep.
func (c *Consumer) step(last bool) {
	for _, s := range c.steps.step(last) {
		_ = c.Conn.Publish(s.reply, fmt.Appendf(nil, `%s {"delay": %d}`, nak, s.after.Nanoseconds())) // if it is lost, AckWait brings the message back
	}
}

// bringBack has everything take its steps, and asks back what was put off as hands
// become free, until ctx ends.
func (c *Consumer) bringBack(ctx context.Context) {
	// All processes step at the same times of the clock, so that what they share has
	// its rest between two steps.
	pause(ctx, time.Until(time.Now().Truncate(moveTick).Add(moveTick)))
	tick := time.NewTicker(moveTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.step(true)
			c.askBack(true) // for another process
			return
		case <-tick.C:
			c.step(false)
			c.askBack(false)
			c.waitLonger()
		}
	}
}
