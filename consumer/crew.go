package consumer

import (
	"sync"
	"sync/atomic"
)

// crew are the goroutines that see messages through. Who is done with one stays
// for the next: the stack of a new goroutine grows to what a webhook needs by
// being copied again and again, and that took as long as reading the message
// does. The garbage collector shrinks the stacks of those that only wait. It is
// safe for concurrent use.
type crew struct {
	working *sync.WaitGroup
	stop    <-chan struct{} // from then on nobody stays
	most    int64           // as many stay
	waiting atomic.Int64
	next    chan func()
}

func newCrew(working *sync.WaitGroup, stop <-chan struct{}, most int) *crew {
	return &crew{working: working, stop: stop, most: int64(most), next: make(chan func())}
}

// do has somebody do the work, at once.
func (c *crew) do(work func()) {
	select {
	case c.next <- work:
	default:
		c.working.Go(func() { c.stay(work) })
	}
}

func (c *crew) stay(work func()) {
	for {
		work()
		if work = c.another(); work == nil {
			return
		}
	}
}

// another waits for more work. It returns nil if enough others wait, or at the
// end.
func (c *crew) another() func() {
	defer c.waiting.Add(-1)
	if c.waiting.Add(1) > c.most {
		return nil
	}
	select {
	case work := <-c.next:
		return work
	case <-c.stop:
		return nil
	}
}
