package audit

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/relaywebhooks/relay"
)

// maxBatchBytes bounds what one batch carries of foreign bytes: a message to
// Postgres must fit its memory and ours. One call alone may be larger.
const maxBatchBytes = 8 << 20

// call is one caller's request and, when it is answered, the answer.
type call[T, R any] struct {
	key     relay.Key
	weight  int // bytes
	in      T
	reduced bool // in was refused, and nothing foreign is left in it
	out     R
	err     error
	done    chan struct{}
	ended   atomic.Bool // answered, or its caller has left: whichever came first
}

// committer writes the requests of many callers in batches: what queued while
// one batch was being written is the next one. What cannot be written because
// somebody else locked its row goes on in a lane of its own, aside.
type committer[T, R any] struct {
	kind string // for Options.Observe
	name string // for the health
	log  *Log

	// write puts a batch, sorted by key, into the database and fills in the
	// calls' out. It may be repeated after any error.
	write func(context.Context, []*call[T, R]) error
	// reduce takes everything foreign out of a request that was refused.
	reduce func(*T, error)
	// locked returns the calls of a batch, by their index, that have to wait
	// for a lock of another session's on one of these rows. It waits for none.
	locked func(context.Context, []*call[T, R], lockable) ([]int, error)
	// abandoned is told of an answer that nobody waited for. If it is set,
	// requests whose callers left before they were begun are dropped.
	abandoned func(T, R)
	// apart is what lies at least between the beginnings of two batches, so that
	// what nobody waits for with haste is written with more of its kind.
	apart time.Duration

	aside  *committer[T, R] // of the lane aside: itself
	began  time.Time        // when its batch was begun
	heldUp bool             // some of its batch was set aside

	mu      sync.Mutex
	queue   []*call[T, R]
	writing int // calls in its batch
	closed  bool
	wake    chan struct{}
}

func newCommitter[T, R any](kind string, l *Log) *committer[T, R] {
	return &committer[T, R]{kind: kind, name: kind, log: l, wake: make(chan struct{}, 1)}
}

// do queues a request and waits for its answer.
func (c *committer[T, R]) do(ctx context.Context, key relay.Key, weight int, in T) (R, error) {
	q := &call[T, R]{key: key, weight: weight, in: in, done: make(chan struct{})}
	if !c.add(q) {
		return q.out, ErrClosed
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		if q.ended.CompareAndSwap(false, true) {
			var none R
			return none, context.Cause(ctx)
		}
		<-q.done
	}
	return q.out, q.err
}

// add queues a call and reports whether somebody will answer it.
func (c *committer[T, R]) add(q *call[T, R]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.queue = append(c.queue, q)
	select {
	case c.wake <- struct{}{}:
	default: // it is awake
	}
	return true
}

// run writes batches until stop ends and nothing waits any more. When work
// ends, all that still wait get an error.
func (c *committer[T, R]) run(stop, work context.Context) {
	c.aside = c.laneAside()
	ended, end := context.WithCancel(work)
	var aside sync.WaitGroup
	aside.Go(func() { c.aside.loop(ended, work) })
	c.loop(stop, work)
	end()
	aside.Wait()
}

func (c *committer[T, R]) loop(stop, work context.Context) {
	for wait := minBackoff; ; {
		if early := time.Until(c.began.Add(c.apart)); early > 0 {
			pause(work, early)
		}
		batch := c.next()
		if len(batch) == 0 {
			if c.close(stop) {
				return
			}
			select {
			case <-c.wake:
			case <-stop.Done():
			}
			continue
		}
		c.began, c.heldUp = time.Now(), false
		c.settle(work, c.passable(work, batch))
		if c.aside != c || !c.heldUp {
			wait = minBackoff
			continue
		}
		pause(work, wait) // what was set aside is back in this queue
		wait = min(2*wait, maxBackoff)
	}
}

// close closes the committer if it shall stop and nothing waits.
func (c *committer[T, R]) close(stop context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = stop.Err() != nil && len(c.queue) == 0
	return c.closed
}

// finish answers the calls of a batch that is committed.
func (c *committer[T, R]) finish(batch []*call[T, R]) {
	c.log.o.Observe(c.kind, len(batch), time.Since(c.began))
	for _, q := range batch {
		c.answer(q)
	}
}

// fail answers calls with an error.
func (c *committer[T, R]) fail(err error, calls ...*call[T, R]) {
	for _, q := range calls {
		q.err = err
		c.answer(q)
	}
}

func (c *committer[T, R]) answer(q *call[T, R]) {
	heard := q.ended.CompareAndSwap(false, true)
	close(q.done)
	if !heard && q.err == nil && c.abandoned != nil {
		c.abandoned(q.in, q.out)
	}
}

// next takes the next batch off the queue, sorted by key so that processes
// lock rows in one order. Of each event it takes one call: a batch is one
// statement, which sees a row only once. All are of one day, that of the call
// which has waited longest: a day is a table of its own.
func (c *committer[T, R]) next() []*call[T, R] {
	c.mu.Lock()
	defer c.mu.Unlock()
	var batch, held []*call[T, R]
	taken := make(map[relay.Key]struct{}, min(len(c.queue), c.log.o.MaxBatch))
	bytes, i := 0, 0
	for ; i < len(c.queue) && len(batch) < c.log.o.MaxBatch; i++ {
		q := c.queue[i]
		if c.abandoned != nil && q.ended.Load() {
			continue
		}
		if len(batch) > 0 && bytes+q.weight > maxBatchBytes {
			break
		}
		_, twice := taken[q.key]
		if twice || len(batch) > 0 && !day(q.key).Equal(day(batch[0].key)) {
			held = append(held, q)
			continue
		}
		taken[q.key] = struct{}{}
		bytes += q.weight
		batch = append(batch, q)
	}
	c.queue = append(held, c.queue[i:]...)
	c.writing = len(batch)
	slices.SortFunc(batch, func(a, b *call[T, R]) int { return compareKeys(a.key, b.key) })
	return batch
}

func compareKeys(a, b relay.Key) int {
	if c := a.Time.Compare(b.Time); c != 0 {
		return c
	}
	switch {
	case a.Seq < b.Seq:
		return -1
	case a.Seq > b.Seq:
		return 1
	}
	return 0
}
