package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// receiver is all endpoints of a run. It shares the machine with what is
// measured, so it does as little as can be: it notes the time of an event's
// first request in a slice, by the number in the URL, and answers.
type receiver struct {
	o      Options
	began  time.Time
	events []event
	seen   []seen

	requests  atomic.Int64 // all of them
	delivered atomic.Int64 // events that were answered 2xx
	arrived   atomic.Int64 // of these, those of the load that the run waits for
	recovered atomic.Int64 // of these, those that were queued first
	strange   atomic.Int64 // requests that belong to no event of this run
	healed    atomic.Bool  // what was queued first is healthy from now on

	listener net.Listener
	serving  sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	url      string
}

// seen is what is known about one event. Times are nanoseconds since the run
// began, 0 for never.
type seen struct {
	arrived  atomic.Int64 // first request
	answered atomic.Int64 // first 2xx
	requests atomic.Int32
	again    atomic.Int32 // requests after the first 2xx
}

// startReceiver listens and serves until stop is called.
func startReceiver(ctx context.Context, o Options, events []event) (*receiver, error) {
	r := &receiver{
		o: o, began: time.Now(), events: events, seen: make([]seen, len(events)),
		conns: map[net.Conn]struct{}{},
	}
	var err error
	if r.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", o.Listen); err != nil {
		return nil, fmt.Errorf("bench: start the receiver: %w", err)
	}
	r.url = "http://" + r.listener.Addr().String()
	r.serving.Go(r.accept)
	return r, nil
}

// accept takes connections until the listener is closed.
func (r *receiver) accept() {
	for {
		c, err := r.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a peer that has left already, or too many files: the next may do
		}
		r.serving.Go(func() {
			defer c.Close() //nolint:errcheck // whoever is at the other end has closed it, or will see it
			if !r.add(c) {
				return
			}
			defer r.remove(c)
			r.serve(c)
		})
	}
}

// add keeps a connection for stop to close; false means that it is too late.
func (r *receiver) add(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *receiver) remove(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

// stop closes the listener and all connections, and waits for those who served
// them.
func (r *receiver) stop() {
	_ = r.listener.Close()
	r.mu.Lock()
	for c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
	r.mu.Unlock()
	r.serving.Wait()
}

// since is the time of the run, never 0.
func (r *receiver) since() int64 { return max(1, int64(time.Since(r.began))) }

// take notes a request and says which event it is of, with which status to
// answer it, and after how long; less than 0 is never.
func (r *receiver) take(path, query string) (index, status int, delay time.Duration) {
	now := r.since()
	index, err := strconv.Atoi(query)
	if err != nil || index < 0 || index >= len(r.events) || !strings.HasSuffix(path, r.o.run) {
		r.strange.Add(1)
		return 0, http.StatusGone, 0 // of an earlier run: it shall not come again
	}
	e, s := &r.events[index], &r.seen[index]
	r.requests.Add(1)
	s.requests.Add(1)
	if s.answered.Load() != 0 {
		s.again.Add(1)
	}
	s.arrived.CompareAndSwap(0, now)
	switch r.now(e, now) {
	case Fail:
		return index, http.StatusInternalServerError, 0
	case Limit:
		return index, http.StatusTooManyRequests, 0
	case Hang:
		return index, 0, -1
	case Slow:
		return index, http.StatusOK, r.o.Slow
	case Healthy, Flap, Refuse:
	}
	return index, http.StatusOK, 0
}

// now is how the endpoint of an event behaves at this time of the run.
func (r *receiver) now(e *event, at int64) Kind {
	switch {
	case e.part == queued && r.healed.Load():
		return r.o.HealedAs
	case e.kind == Flap && time.Duration(at)/r.o.FlapEvery%2 == 0:
		return Fail
	case e.kind == Flap:
		return Healthy
	}
	return e.kind
}

// well counts an event that is answered 200 now.
func (r *receiver) well(index int) {
	e := &r.events[index]
	if !r.seen[index].answered.CompareAndSwap(0, r.since()) {
		return
	}
	r.delivered.Add(1)
	switch {
	case e.part == load && e.kind.awaited():
		r.arrived.Add(1)
	case e.part == queued:
		r.recovered.Add(1)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
