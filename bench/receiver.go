package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
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

	server *http.Server
	ended  chan struct{}
	url    string
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
	r := &receiver{o: o, began: time.Now(), events: events, seen: make([]seen, len(events)), ended: make(chan struct{})}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("bench: start the receiver: %w", err)
	}
	r.url = "http://" + l.Addr().String()
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(r.ended)
		_ = r.server.Serve(l) // until stop closes it
	}()
	return r, nil
}

func (r *receiver) stop() {
	_ = r.server.Close()
	<-r.ended
}

// since is the time of the run, never 0.
func (r *receiver) since() int64 { return max(1, int64(time.Since(r.began))) }

// ServeHTTP notes a request and answers as the event's kind says.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := r.since()
	index, err := strconv.Atoi(req.URL.RawQuery)
	if err != nil || index < 0 || index >= len(r.events) || !strings.HasSuffix(req.URL.Path, r.o.run) {
		r.strange.Add(1)
		w.WriteHeader(http.StatusGone) // of an earlier run: it shall not come again
		return
	}
	e, s := &r.events[index], &r.seen[index]
	r.requests.Add(1)
	s.requests.Add(1)
	if s.answered.Load() != 0 {
		s.again.Add(1)
	}
	s.arrived.CompareAndSwap(0, now)
	switch r.now(e, now) {
	default: // 200
	case Slow:
		wait(req.Context(), r.o.Slow)
	case Fail:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case Limit:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case Hang:
		_, _ = io.Copy(io.Discard, req.Body) // only then the server notices that the client has left
		<-req.Context().Done()
		return
	}
	r.well(e, s)
}

// now is how the endpoint of an event behaves at this time of the run.
func (r *receiver) now(e *event, at int64) Kind {
	switch {
	case e.part == queued && r.healed.Load():
		return Healthy
	case e.kind == Flap && time.Duration(at)/r.o.FlapEvery%2 == 0:
		return Fail
	case e.kind == Flap:
		return Healthy
	}
	return e.kind
}

// well counts an event that is answered 200 as soon as the handler returns.
func (r *receiver) well(e *event, s *seen) {
	if !s.answered.CompareAndSwap(0, r.since()) {
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
