package policy

import (
	"strings"
	"sync"
	"time"

	"github.com/relaywebhooks/relay"
)

// TenantOptions bound what the endpoints of one tenant get together.
type TenantOptions struct {
	// Rate is how many calls a second may be made to them. Defaults to no limit.
	Rate float64

	// Burst is how many of these may be made at once. Defaults to one second's
	// worth.
	Burst int

	// Share is the part of [Options.SlowCalls] that they may have in flight, once
	// half of all are. Defaults to an equal share, with the other tenants, of that
	// half.
	Share float64
}

// tenant is what a set knows about the endpoints of one tenant together. What
// belongs to none is a tenant without a name.
type tenant struct {
	name      string
	endpoints int // that the set knows; guarded by its lock

	slow, calls int // slow endpoints with calls in flight, and these calls; guarded by the flights' lock

	mu    sync.Mutex
	built TenantOptions
	pacer *pacer
	turns turns // of those that Do refused
	line  turns // of those that Refuses did
}

// paces returns the tenant's tokens, nil if it has no rate.
func (t *tenant) paces(o *Options) *pacer {
	want := o.tenant(t.name)
	if !(want.Rate > 0) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.built != want {
		t.built, t.turns, t.line = want, turns{}, turns{}
		t.pacer = newPacer(want.Rate, want.Burst, t.pacer)
	}
	return t.pacer
}

// turn returns when a call should come back that the rate refused: at least
// earliest, and behind those of all the tenant's endpoints that were refused
// before it.
func (t *tenant) turn(now time.Time, earliest time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.turns.take(now, min(earliest, longestTurn), period(t.built.Rate), random())
}

// refuses is the tenant's part of [Set.Refuses].
func (t *tenant) refuses(o *Options, now time.Time) (relay.Verdict, bool) {
	p := t.paces(o)
	if p == nil {
		return relay.Verdict{}, false
	}
	delay, free := p.look(now)
	if free {
		return relay.Verdict{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return deferred(RateLimited, tenantRate, t.line.take(now, min(delay, longestTurn), period(t.built.Rate), random())), true
}

// tenantRate is the detail of a deferral by the tenant's rate.
const tenantRate = "its tenant's rate is used up"

// idle reports whether there is nothing to remember. The caller holds the set's
// lock.
func (t *tenant) idle(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.endpoints == 0 && !t.turns.next.After(now) && !t.line.next.After(now) && (t.pacer == nil || t.pacer.full(now))
}

// count takes an endpoint into account that is slow and has calls in flight, or
// takes it out. It returns by how many the tenants with such endpoints change.
// The caller holds the flights' lock.
func (t *tenant) count(calls, sign int) int {
	before := t.slow
	t.slow += sign
	t.calls += sign * calls
	switch {
	case before == 0:
		return 1
	case t.slow == 0:
		return -1
	}
	return 0
}

// ofTenant returns what is known about a tenant, which may be nothing yet. The
// caller holds the set's lock.
func (s *Set) ofTenant(name string) *tenant {
	t := s.tenants[name]
	if t == nil {
		t = &tenant{name: strings.Clone(name)} // not the message that it was cut from
	}
	return t
}

// forgetTenants forgets those whose endpoints are all forgotten and who have
// their whole burst.
func (s *Set) forgetTenants(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, t := range s.tenants {
		if t.idle(now) {
			delete(s.tenants, name)
		}
	}
	s.flights.known(len(s.tenants))
}
