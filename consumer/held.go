package consumer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// slowAfter is when a request is called slow. It gives its slot back then:
	// endpoints that hang must not take the slots of those that answer.
	slowAfter = 250 * time.Millisecond
	// handTick is how often the messages in hand are looked at.
	handTick = 100 * time.Millisecond
)

// hand is what relay knows of one message in hand.
type hand struct {
	room     *slots
	released atomic.Bool
	sending  atomic.Int64 // when its request went out, in Unix ns; 0 if none is under way
	slow     bool         // held's: it gave its slot back because its request is slow
}

// release gives the slot back. It may be called again.
func (h *hand) release() {
	if !h.released.Swap(true) {
		h.room.free()
	}
}

// sends marks the time in which a request is under way; call the answer at its
// end.
func (h *hand) sends() func() {
	h.sending.Store(time.Now().UnixNano())
	return func() { h.sending.Store(0) }
}

// held is the set of messages in hand. One goroutine keeps all of them alive:
// AckWait counts from the delivery to this process. It is safe for concurrent
// use.
type held struct {
	mu   sync.Mutex
	msgs map[jetstream.Msg]*hand
	slow int // those that gave their slot back to quicker ones
	most int // as many may
}

func newHeld(slow int) *held { return &held{msgs: map[jetstream.Msg]*hand{}, most: slow} }

func (h *held) add(m jetstream.Msg, room *slots) *hand {
	h.mu.Lock()
	defer h.mu.Unlock()
	in := &hand{room: room}
	h.msgs[m] = in
	return in
}

func (h *held) remove(m jetstream.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if in := h.msgs[m]; in != nil && in.slow {
		h.slow--
	}
	delete(h.msgs, m)
}

// yield has slow requests give their slots back, as many as may at a time.
func (h *held) yield(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, in := range h.msgs {
		began := in.sending.Load()
		if h.slow >= h.most {
			return
		}
		if began == 0 || in.slow || now.UnixNano()-began < int64(slowAfter) {
			continue
		}
		in.slow = true
		h.slow++
		in.release()
	}
}

// keepAlive tells the server that the held messages are being worked on, until
// ctx ends. While the connection is down nats.go buffers or drops these; the
// claim in Postgres then keeps others from making the same attempt.
func (h *held) keepAlive(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, m := range h.all() {
				_ = m.InProgress() // the next beat tries again
			}
		}
	}
}

func (h *held) all() []jetstream.Msg {
	h.mu.Lock()
	defer h.mu.Unlock()
	msgs := make([]jetstream.Msg, 0, len(h.msgs))
	for m := range h.msgs {
		msgs = append(msgs, m)
	}
	return msgs
}

// makeRoom sees to it that slow requests keep no slot and the last message of a
// queue is not kept for longer than they must, until ctx ends.
func (c *Consumer) makeRoom(ctx, work context.Context) {
	tick := time.NewTicker(handTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.held.yield(time.Now())
			c.letGo(work, time.Now().Add(-tailFor))
		}
	}
}
