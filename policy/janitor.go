package policy

import (
	"context"
	"maps"
	"slices"
	"time"
)

const (
	// many is from how many endpoints on those of which there is nothing to
	// remember are forgotten after soonIdle: each takes about a kilobyte.
	many     = 10_000
	soonIdle = 2 * time.Second
	// lookEach is how often it is looked whether there are so many.
	lookEach = time.Second
)

// Run forgets endpoints that nobody calls, until ctx ends. It returns nil.
func (s *Set) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEach)
	defer tick.Stop()
	swept := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if time.Since(swept) >= max(s.options.Load().Idle/4, lookEach) || s.known() > many {
			s.forgetIdle()
			swept = time.Now()
		}
	}
}

func (s *Set) known() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.endpoints)
}

// forgetIdle looks at the endpoints one after the other, so that no call waits
// for the whole sweep.
func (s *Set) forgetIdle() {
	now := time.Now()
	s.mu.RLock()
	all := slices.Collect(maps.Values(s.endpoints))
	s.mu.RUnlock()
	p := patient{idle: s.options.Load().Idle}
	if p.soon = p.idle; len(all) > many {
		p.soon = min(p.idle, soonIdle)
	}
	for _, e := range all {
		e.mu.Lock()
		found := e.idle(now, p)
		e.mu.Unlock()
		if found {
			s.forget(e, now, p)
		}
	}
	s.forgetTenants(now)
}

// forget looks once more, now that no call can join.
func (s *Set) forget(e *endpoint, now time.Time, p patient) {
	s.mu.Lock()
	e.mu.Lock()
	e.gone = e.idle(now, p)
	if e.gone {
		delete(s.endpoints, e.key)
		e.load.tenant.endpoints--
	}
	c, gone := e.parts.circuit, e.gone
	e.mu.Unlock()
	s.mu.Unlock()
	if gone {
		c.retire() // it reports, so with no lock held
	}
}

// patient is how long an endpoint that nobody calls is remembered: soon if there
// is nothing to remember of it.
type patient struct{ idle, soon time.Duration }

// idle reports whether the endpoint may be forgotten: nobody has called it for
// long enough, and it does not rest. A circuit that is not closed is worth
// keeping for longer, but not for ever: endpoints that die and are never called
// again must not pile up. The caller holds e.mu.
func (e *endpoint) idle(now time.Time, p patient) bool {
	if e.inFlight > 0 || e.parts.circuit == nil || e.throttle.until.After(now) {
		return false
	}
	rest, closed := e.parts.circuit.rest()
	idle := p.idle
	switch {
	case !closed:
		idle *= 6
	case e.plain(now):
		idle = p.soon
	}
	return rest == 0 && now.Sub(e.lastUsed) >= idle
}

// plain reports whether the endpoint is, for all that is known, like one that
// was never called: quick, well, not in need of a rest, without a rate and with
// nobody in line. The caller holds e.mu.
func (e *endpoint) plain(now time.Time) bool {
	return e.took <= slowAfter && e.throttle.times == 0 && !e.throttle.noted && e.parts.pacer == nil &&
		!e.turns.next.After(now) && !e.line.next.After(now) && e.parts.circuit.clean()
}
