package policy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/relaywebhooks/relay"
)

// Sharing is how a set and those of other processes agree on which endpoints are
// paused, and on who calls one first when its pause is over. Its methods are safe
// for concurrent use and call no method of a set.
type Sharing interface {
	// Paused tells the others of a pause that began here. It does not wait.
	Paused(p relay.Pause)
	// Resumed tells them that an endpoint is well, if it was paused by this
	// process. It does not wait.
	Resumed(endpointKey string)
	// Ended tells them that somebody ended the pause of an endpoint, whichever
	// process began it. It does not wait.
	Ended(endpointKey string)
	// Lease asks to be the only process that probes p.Key, until p.Until. True
	// is also the answer of one that cannot ask the others. It is called only
	// before a probe, and may wait for a short time.
	Lease(ctx context.Context, p relay.Pause) bool
}

// Share makes the set agree with other processes. It is called before the first
// [Set.Do], or never: then the set goes by what it knows itself.
func (s *Set) Share(with Sharing) { s.pauses.sharing = with }

// Pause makes the set refuse an endpoint that another process has paused, as if
// its own circuit were open or the endpoint had asked it for rest. The local
// circuit stays as it is. After a pause by a circuit or a probe, the next call
// is a probe, which needs a lease. A pause that somebody ended wakes the endpoint
// here, too; see [Set.Wake].
func (s *Set) Pause(p relay.Pause) {
	s.pauses.put(p)
	if p.Kind == relay.PauseOver {
		s.wake(p.Key)
	}
}

// Resume ends what [Set.Pause] began. If another process found that the endpoint
// is well, this one's circuit is closed, too.
func (s *Set) Resume(endpointKey string, well bool) {
	s.pauses.drop(endpointKey)
	if !well {
		return
	}
	s.mu.RLock()
	e := s.endpoints[endpointKey]
	s.mu.RUnlock()
	if e == nil {
		return
	}
	e.mu.Lock()
	c := e.parts.circuit
	e.mu.Unlock()
	if c != nil {
		c.close() // it reports, so with no lock held
	}
}

// pauses are those of other processes. While there are none, they cost a call
// one look at a counter.
type pauses struct {
	sharing Sharing // nil: no other process is known
	n       atomic.Int64
	byKey   sync.Map // of string to *relay.Pause
}

func (p *pauses) look(key string) *relay.Pause {
	if p.n.Load() == 0 {
		return nil
	}
	v, _ := p.byKey.Load(key)
	found, _ := v.(*relay.Pause)
	return found
}

func (p *pauses) put(next relay.Pause) {
	if _, had := p.byKey.Swap(next.Key, &next); !had {
		p.n.Add(1)
	}
}

func (p *pauses) drop(key string) {
	if _, had := p.byKey.LoadAndDelete(key); had {
		p.n.Add(-1)
	}
}

// rest is how long the endpoint is not to be called because of another process,
// and whether the next call needs a lease. A probe may end at any moment, so
// nobody waits for the whole of its lease.
func (p *pauses) rest(key string, now time.Time) (rest time.Duration, leased bool) {
	found := p.look(key)
	if found == nil {
		return 0, false
	}
	rest = max(found.Until.Sub(now), 0)
	if found.Kind == relay.PauseProbe {
		rest = min(rest, probeWait)
	}
	return rest, found.Kind != relay.PauseThrottle
}

// errElsewhere is the outcome of a call that would have been a probe, while
// another process makes one.
var errElsewhere = errors.New("another process probes the endpoint")

// lease sees that no other process calls the endpoint beside this one, where the
// next call is a probe. It returns errElsewhere if one does. The caller holds
// c.mu, which is released while others are asked.
func (c *circuit) lease(ctx context.Context) error {
	shared := c.endpoint.pauses
	if shared.sharing == nil {
		return nil
	}
	pause := shared.look(c.endpoint.key)
	if !c.probes(pause) {
		return nil
	}
	now := time.Now()
	if pause != nil && now.Before(pause.Until) {
		return errElsewhere
	}
	want := relay.Pause{Key: c.endpoint.key, Kind: relay.PauseProbe, Openings: c.opened}
	if pause != nil {
		want.Openings = max(want.Openings, pause.Openings)
	}
	c.mu.Unlock()
	timeout := c.endpoint.timeout()
	want.Until = now.Add(timeout + min(timeout/2, leaseMargin))
	granted := shared.sharing.Lease(ctx, want)
	if !granted { // so that those behind do not ask, too
		shared.put(relay.Pause{Key: want.Key, Kind: relay.PauseProbe, Until: now.Add(probeWait), Openings: want.Openings})
	}
	c.mu.Lock()
	if !granted {
		return errElsewhere
	}
	c.leased(want.Openings)
	return nil
}

// leaseMargin is the most by which a lease is longer than the endpoint's timeout.
const leaseMargin = 10 * time.Second

// probes reports whether the next call would be a probe. The caller holds c.mu.
func (c *circuit) probes(pause *relay.Pause) bool {
	switch c.state {
	case Open:
		return c.breaker.RemainingDelay() <= 0
	case HalfOpen:
		return c.probing < c.options.Probes
	case Closed:
	}
	return pause != nil && pause.Kind != relay.PauseThrottle
}

// leased makes the next call a probe, also where it was another process whose
// circuit opened. The caller holds c.mu.
func (c *circuit) leased(openings int) {
	shared, key := c.endpoint.pauses, c.endpoint.key
	if c.state == Closed && shared.look(key) == nil {
		shared.sharing.Resumed(key) // another call has just found that it is well
		return
	}
	shared.drop(key)
	c.opened = max(c.opened, openings)
	if c.state == Closed {
		c.breaker.HalfOpen()
	}
}

// close closes the circuit because another process found that the endpoint is
// well, which the others know.
func (c *circuit) close() {
	c.mu.Lock()
	defer c.unlock()
	if c.retired || c.state == Closed {
		return
	}
	c.quiet = true
	c.breaker.Close()
	c.quiet = false
}

// share tells other processes of a change of the circuit. The caller holds no
// lock.
func (e *endpoint) share(c change) {
	with := e.pauses.sharing
	if with == nil || c.quiet {
		return
	}
	switch c.state {
	case Open:
		with.Paused(relay.Pause{Key: e.key, Kind: relay.PauseCircuit, Until: c.until, Openings: c.openings})
	case Closed:
		with.Resumed(e.key)
	case HalfOpen:
	}
}

func (e *endpoint) timeout() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.built.timeout
}
