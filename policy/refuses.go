package policy

import (
	"time"

	"github.com/relaywebhooks/relay"
)

// Refuses says whether [Set.Do] would refuse a call to an endpoint now, and
// with what verdict: [relay.Defer] with the same reasons and places. It takes
// nothing, neither a slot nor a token nor a probe, so that a webhook can be set
// aside before any work was done for it. A call that it lets pass may still be
// refused, if another one comes first; and one that it refuses might be
// let pass a moment later.
//
// Verdict.After puts the refused ones one behind the other, without taking turns
// from those that Do refused: each refusal stands for one more webhook in line.
// So ask once whenever a webhook comes, not again and again.
//
// It does not refuse an endpoint whose settings have changed since its last
// call, and one that is not known only while another process has paused it, all of
// [Options.SlowCalls] or its tenant's part of them are used up, or its tenant's rate
// is. It is safe for concurrent use.
func (s *Set) Refuses(ep relay.Endpoint) (relay.Verdict, bool) {
	if ep.Held != "" {
		return held(ep), true
	}
	s.mu.RLock()
	e := s.endpoints[ep.Key]
	var t *tenant
	if e == nil {
		t = s.ofTenant(ep.Tenant)
	}
	s.mu.RUnlock()
	o, now := s.options.Load(), time.Now()
	if e != nil {
		return e.refuses(wanted(o, ep), now)
	}
	if rest, leased := s.pauses.rest(ep.Key, now); rest > 0 {
		if leased {
			return parked(rest), true
		}
		return throttled(rest, rest), true
	}
	if noRoom := s.flights.room(&load{tenant: t}, o, now); noRoom != nil {
		return deferred(Busy, noRoom.Error(), slowWait+time.Duration(random()*float64(slowWait))), true
	}
	return t.refuses(o, now)
}

// refuses answers for one endpoint. With other settings than the last call's
// everything may be different, and only a call can tell.
func (e *endpoint) refuses(want settings, now time.Time) (relay.Verdict, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.built != want {
		return relay.Verdict{}, false
	}
	if rest, why := e.resting(now); rest > 0 {
		if why == CircuitOpen {
			return parked(rest), true
		}
		return throttled(rest, e.estimate(now, rest, 0)), true
	}
	full, noRoom := e.flights.look(&e.load, e.parts.slots, want.options, now)
	switch {
	case full:
		return deferred(Busy, "", e.estimate(now, busyWait, 0)), true
	case noRoom != nil:
		return deferred(Busy, noRoom.Error(), e.estimate(now, slowWait, noRoom.atATime())), true
	case e.parts.pacer == nil:
		return e.load.tenant.refuses(want.options, now)
	}
	if delay, free := e.parts.pacer.look(now); !free {
		return deferred(RateLimited, "", e.estimate(now, delay, 0)), true
	}
	return e.load.tenant.refuses(want.options, now)
}

// estimate is turn for those that Refuses refused. The caller holds e.mu.
func (e *endpoint) estimate(now time.Time, earliest time.Duration, atATime int) time.Duration {
	return e.line.take(now, min(earliest, longestTurn), e.spacing(atATime), random())
}
