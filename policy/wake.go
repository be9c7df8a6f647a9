package policy

import (
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/relaywebhooks/relay"
)

// Wake ends an endpoint's rest, because somebody knows that it is well: a
// throttled one may be called at once, and an open circuit is half-open, so that
// the next calls are its probes. If they fail it opens again. An endpoint that
// does not rest, or is not known, is left alone. Other processes that share their
// pauses with this one do the same.
func (s *Set) Wake(endpointKey string) {
	if p := s.pauses.look(endpointKey); p != nil {
		s.pauses.put(relay.Pause{Key: endpointKey, Kind: relay.PauseOver, Until: time.Now(), Openings: p.Openings})
	}
	s.wake(endpointKey)
	if with := s.pauses.sharing; with != nil {
		with.Ended(endpointKey)
	}
}

// wake is Wake for this process alone.
func (s *Set) wake(endpointKey string) {
	s.mu.RLock()
	e := s.endpoints[endpointKey]
	s.mu.RUnlock()
	if e == nil {
		return
	}
	e.mu.Lock()
	e.throttle.until = time.Time{}
	circuit := e.parts.circuit
	e.mu.Unlock()
	if circuit != nil { // it reports, so with no lock held
		circuit.wake()
	}
}

// wake lets probes through an open circuit.
func (c *circuit) wake() {
	c.mu.Lock()
	defer c.unlock()
	if !c.retired && c.breaker.State() == circuitbreaker.OpenState {
		c.due = time.Now()
		c.breaker.HalfOpen()
	}
}
