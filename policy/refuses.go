package policy

import (
	"time"

	"golang.org/x/time/rate"

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
// It does not refuse an endpoint that is not known, nor one whose settings have
// changed since its last call. It is safe for concurrent use.
func (s *Set) Refuses(ep relay.Endpoint) (relay.Verdict, bool) {
	s.mu.RLock()
	e := s.endpoints[ep.Key]
	s.mu.RUnlock()
	if e == nil {
		return relay.Verdict{}, false
	}
	return e.refuses(wanted(s.options.Load(), ep), time.Now())
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
		return throttled(rest, e.estimate(now, rest)), true
	}
	if e.parts.slots.full() {
		return deferred(Busy, "", e.estimate(now, busyWait)), true
	}
	if wait := tokenIn(e.parts.limiter, now); wait > 0 {
		return deferred(RateLimited, "", e.estimate(now, wait)), true
	}
	return relay.Verdict{}, false
}

// estimate is turn for those that Refuses refused. The caller holds e.mu.
func (e *endpoint) estimate(now time.Time, earliest time.Duration) time.Duration {
	return e.line.take(now, min(earliest, longestTurn), e.spacing(), random())
}

// tokenIn returns how long it takes until a limiter has a token. It takes none.
func tokenIn(l *rate.Limiter, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	missing := max(1-l.TokensAt(now), 0)
	// At the lowest rates that takes longer than a Duration holds.
	return time.Duration(min(missing/float64(l.Limit())*float64(time.Second), float64(longestTurn)))
}
