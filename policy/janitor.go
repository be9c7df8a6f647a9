package policy

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Run forgets endpoints that nobody calls, until ctx ends. It returns nil.
func (s *Set) Run(ctx context.Context) error {
	for {
		timer := time.NewTimer(max(s.options.Load().Idle/4, time.Second))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
			s.forgetIdle()
		}
	}
}

// forgetIdle looks at the endpoints one after the other, so that no call waits
// for the whole sweep.
func (s *Set) forgetIdle() {
	idle, now := s.options.Load().Idle, time.Now()
	s.mu.RLock()
	all := slices.Collect(maps.Values(s.endpoints))
	s.mu.RUnlock()
	for _, e := range all {
		e.mu.Lock()
		found := e.idle(now, idle)
		e.mu.Unlock()
		if found {
			s.forget(e, now, idle)
		}
	}
}

// forget looks once more, now that no call can join.
func (s *Set) forget(e *endpoint, now time.Time, idle time.Duration) {
	s.mu.Lock()
	e.mu.Lock()
	e.gone = e.idle(now, idle)
	if e.gone {
		delete(s.endpoints, e.key)
	}
	c, gone := e.parts.circuit, e.gone
	e.mu.Unlock()
	s.mu.Unlock()
	if gone {
		c.retire() // it reports, so with no lock held
	}
}

// idle reports whether the endpoint may be forgotten: nobody has called it for
// long enough, and it does not rest. A circuit that is not closed is worth
// keeping for longer, but not for ever: endpoints that die and are never called
// again must not pile up. The caller holds e.mu.
func (e *endpoint) idle(now time.Time, idle time.Duration) bool {
	if e.inFlight > 0 || e.parts.circuit == nil || e.throttle.until.After(now) {
		return false
	}
	rest, closed := e.parts.circuit.rest()
	if !closed {
		idle *= 6
	}
	return rest == 0 && now.Sub(e.lastUsed) >= idle
}
