package consumer

import (
	"context"
	"sync"
	"time"
)

// A server keeps a stream in blocks: files, each with a buffer of 256 KiB at
// least while it is in use and for ten seconds after. When the newest block
// loses its last message, the server begins another one; and while an older
// message waits in the stream, it keeps the block that is empty, for what it
// says of messages that were removed. A queue in which something sleeps, and
// whose other events are delivered as they come, would make a block of each
// event: of 200 in a second 1,000 files and 500 MB in a minute, and every one
// makes the others slower.
//
// So the newest message of a queue is acknowledged only when a newer one has
// come, or after a while. It is recorded as delivered by then. If relay dies
// before, the message comes again, and its claim says that nothing is to be done.

// tailFor is how long the newest message is kept when none comes after it.
const tailFor = 500 * time.Millisecond

// tail is the newest message of one stream that came to this process. It is
// safe for concurrent use.
type tail struct {
	mu     sync.Mutex
	newest uint64
	kept   *message // delivered, and not yet acknowledged; nil: none
	since  time.Time
}

// came takes in that a message came, and returns the one that was kept until
// then, or nil.
func (t *tail) came(seq uint64) *message {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq <= t.newest {
		return nil
	}
	kept := t.kept
	t.newest, t.kept = seq, nil
	return kept
}

// keep keeps a message if it is still the newest, and reports whether it does.
func (t *tail) keep(m message) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.seq != t.newest {
		return false
	}
	t.kept, t.since = &m, time.Now()
	return true
}

// keeps returns the sequence of the message that is kept if it has this subject, or 0.
func (t *tail) keeps(subject string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept == nil || t.kept.Subject() != subject {
		return 0
	}
	return t.kept.seq
}

// before returns the message that has been kept since a time or longer, or nil.
func (t *tail) before(at time.Time) *message {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept == nil || t.since.After(at) {
		return nil
	}
	kept := t.kept
	t.kept = nil
	return kept
}

// newer acknowledges the message that was kept until this one came.
func (c *Consumer) newer(ctx context.Context, m message) {
	c.ackLate(ctx, c.tails[m.stream].came(m.seq))
}

// letGo acknowledges the messages that have been kept since a time or longer.
func (c *Consumer) letGo(ctx context.Context, since time.Time) {
	for _, t := range c.tails {
		c.ackLate(ctx, t.before(since))
	}
}

func (c *Consumer) ackLate(ctx context.Context, kept *message) {
	if kept == nil {
		return
	}
	c.working.Go(func() {
		defer c.survive(kept)
		_ = c.ack(ctx, *kept) // if it is lost, AckWait brings the message back
	})
}
