package consumer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// parking gathers the copies that go to lanes. What comes while one batch is
// being stored makes up the next one: one answer of the server, and one sync of
// its disk, for all of them. It is safe for concurrent use.
type parking struct {
	turn chan struct{} // who could put something in stores what waits

	mu      sync.Mutex
	waiting []*parked
}

// parked is one copy on its way.
type parked struct {
	to     *nats.Msg
	stored chan error // the answer: one, which nobody need wait for
}

func newParking() *parking { return &parking{turn: make(chan struct{}, 1)} }

// park stores a copy in its lane, together with others, and only then
// acknowledges the original, as move does.
func (c *Consumer) park(ctx context.Context, m message, to *nats.Msg) error {
	if err := c.storeTogether(ctx, to); err != nil {
		// One that the server refuses must not keep out the others, and of an answer
		// that was lost nothing is known: each is tried alone.
		for _, name := range []string{jetstreamext.BatchIDHeader, jetstreamext.BatchSeqHeader, jetstreamext.BatchCommitHeader} {
			to.Header.Del(name)
		}
		return c.move(ctx, m, to)
	}
	c.At(AfterMove)
	return c.ack(ctx, m)
}

// storeTogether returns when the copy is stored, by whoever stores the batch
// that it is in. An error means that nothing is known of it.
func (c *Consumer) storeTogether(ctx context.Context, to *nats.Msg) error {
	p, q := c.parking, &parked{to: to, stored: make(chan error, 1)}
	p.mu.Lock()
	p.waiting = append(p.waiting, q)
	p.mu.Unlock()
	select {
	case err := <-q.stored:
		return err
	case p.turn <- struct{}{}:
	}
	defer func() { <-p.turn }()
	for {
		select {
		case err := <-q.stored:
			return err
		default:
		}
		batch := p.next()
		faults := c.storeParked(ctx, batch)
		for i, q := range batch {
			q.stored <- faults[i]
		}
	}
}

// next takes what waits, as much as fits a batch.
func (p *parking) next() []*parked {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, bytes := 0, 0
	for ; n < len(p.waiting) && n < maxBatch; n++ {
		if bytes += len(p.waiting[n].to.Data); n > 0 && bytes > laneBytes {
			break
		}
	}
	batch := p.waiting[:n:n]
	if p.waiting = p.waiting[n:]; len(p.waiting) == 0 {
		p.waiting = nil
	}
	return batch
}

// storeParked stores copies and says what came of each.
func (c *Consumer) storeParked(ctx context.Context, batch []*parked) []error {
	if err := c.moves.begin(StreamLater, time.Now()); err != nil {
		return slices.Repeat([]error{err}, len(batch))
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	copies := make([]*nats.Msg, len(batch))
	for i, q := range batch {
		copies[i] = q.to
	}
	faults := c.together.publish(ctx, c.js, copies)
	if errors.Join(faults...) != nil {
		c.moves.unknown(StreamLater)
		return faults
	}
	return slices.Repeat([]error{c.noteMove(ctx, StreamLater, nil)}, len(batch))
}
