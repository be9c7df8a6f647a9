package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// A pull waits this long for messages. It is short because a pull cannot be
	// called back: what the server has sent in answer to one that was abandoned
	// would wait for its AckWait. So stopping waits for the pulls to end, and a
	// pull that a restarted server has forgotten is over within twice the time.
	pullWait = time.Second
	// A pull for a few messages costs as much as one for many, so a busy worker
	// gathers slots for this long.
	gather = 3 * time.Millisecond
	// After a failed pull, or while Postgres is out of reach.
	fetchPause = 500 * time.Millisecond
)

// fetch pulls from one durable consumer until ctx ends: never more than there
// are free slots, because a message ages from the moment it is delivered to
// this process, and what is held is what a crash would delay. No message waits
// for another; all are handled on the context work.
func (c *Consumer) fetch(ctx, work context.Context, from jetstream.Consumer) {
	q := &queue{from: from, room: newSlots(c.Slots), crew: newCrew(&c.working, ctx.Done(), c.Slots)}
	stop := context.AfterFunc(ctx, q.room.close)
	defer stop()
	for {
		n, ok := q.room.take()
		if !ok {
			return
		}
		if !c.mayFetch(ctx) {
			q.room.giveBack(n)
			pause(ctx, fetchPause)
			continue
		}
		c.working.Go(func() { c.receive(ctx, work, q, n) })
	}
}

// queue is one durable consumer, the room for what comes from it, and who sees to
// that.
type queue struct {
	from jetstream.Consumer
	room *slots
	crew *crew
}

// mayFetch reports whether the audit log can take a record. It says so when that
// changes, once for both queues.
func (c *Consumer) mayFetch(ctx context.Context) bool {
	err := c.Log.Ready(ctx)
	switch was := c.halted.Swap(err != nil); {
	case err != nil && !was:
		c.log.Warn().Err(err).Msg("taking no webhooks until the audit log can record them")
	case err == nil && was:
		c.log.Info().Msg("the audit log answers again; taking webhooks")
	}
	return err == nil
}

// receive pulls up to n messages, has each handled, and gives back the slots
// that it did not need. What arrives after ctx has ended goes straight back to
// the queue, for another process.
func (c *Consumer) receive(ctx, work context.Context, q *queue, n int) {
	err := c.pull(q.from.CachedInfo(), n, func(m jetstream.Msg) {
		if ctx.Err() != nil {
			_ = m.Nak() // if it is lost, AckWait brings the message back
			return
		}
		n--
		q.room.fill()
		h := c.held.add(m, q.room)
		c.inFlight.Add(1)
		q.crew.do(func() {
			defer h.release()
			defer c.inFlight.Add(-1)
			defer c.held.remove(m)
			defer c.survive(m)
			c.handle(work, m, h)
		})
	})
	if err != nil {
		c.log.Warn().Err(err).Msg("pull ended early")
		pause(ctx, fetchPause) // before the next one, which may end as soon: nobody may be there to answer
	}
	q.room.giveBack(n)
}

// slots counts the webhooks that may be worked on at once. A slot is free,
// asked for (a pull for it is under way) or busy. It is safe for concurrent
// use.
type slots struct {
	mu      sync.Mutex
	changed *sync.Cond
	all     int
	idle    int // free
	asked   int // promised to a pull that has not filled them
	closed  bool
}

func newSlots(n int) *slots {
	s := &slots{all: n, idle: n}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// take waits until a pull is worth its while and returns how many messages to
// ask for: all that are free, as soon as the pulls under way have room for
// less than a quarter. So a quiet worker does not pile up pulls for a single
// message each; and neither does a busy one, which gathers what comes free
// within a moment. It reports false when closed.
func (s *slots) take() (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed && (s.idle == 0 || s.asked > s.all/4) {
		s.changed.Wait()
	}
	if s.idle < s.all/8 {
		s.mu.Unlock()
		time.Sleep(gather)
		s.mu.Lock()
	}
	n := s.idle
	s.idle, s.asked = 0, s.asked+n
	return n, !s.closed
}

func (s *slots) move(idle, asked int) {
	s.mu.Lock()
	s.idle += idle
	s.asked += asked
	s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *slots) giveBack(n int) { s.move(n, -n) } // a pull ended with n unfilled
func (s *slots) fill()          { s.move(0, -1) } // a message arrived
func (s *slots) free()          { s.move(1, 0) }  // its handler is done

func (s *slots) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.changed.Broadcast()
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
