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
// call, and one that is not known only while another process has paused it or all of
// [Options.SlowCalls] are used up. It is safe for concurrent use.
func (s *Set) Refuses(ep relay.Endpoint) (relay.Verdict, bool) {
	s.mu.RLock()
	e := s.endpoints[ep.Key]
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
	if _, noRoom := s.flights.look(nil, nil, o.SlowCalls, now); noRoom != nil {
		return deferred(Busy, noRoom.Error(), slowWait+time.Duration(random()*float64(slowWait))), true
	}
	return relay.Verdict{}, false
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
	full, noRoom := e.flights.look(&e.load, e.parts.slots, want.options.SlowCalls, now)
	switch {
	case full:
		return deferred(Busy, "", e.estimate(now, busyWait, 0)), true
	case noRoom != nil:
		return deferred(Busy, noRoom.Error(), e.estimate(now, slowWait, noRoom.atATime())), true
	case e.parts.pacer == nil:
		return relay.Verdict{}, false
	}
	if delay, free := e.parts.pacer.look(now); !free {
		return deferred(RateLimited, "", e.estimate(now, delay, 0)), true
	}
	return relay.Verdict{}, false
}

// estimate is turn for those that Refuses refused. The caller holds e.mu.
func (e *endpoint) estimate(now time.Time, earliest time.Duration, atATime int) time.Duration {
	return e.line.take(now, min(earliest, longestTurn), e.spacing(atATime), random())
}
