package policy

import (
	"math"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/common"
	"golang.org/x/time/rate"

	"github.com/relaywebhooks/relay"
)

// pace is the policy that holds an endpoint's rate. It never waits: it says how
// long the wait would be.
type pace struct{ call *call }

// paced is the error of a call that came too early.
type paced struct{ delay time.Duration }

func (*paced) Error() string { return RateLimited }

// ToExecutor makes pace a failsafe.Policy.
func (p pace) ToExecutor(*call) any { return p }

// Apply takes a token, or refuses the call.
func (p pace) Apply(
	inner func(failsafe.Execution[*call]) *common.PolicyResult[*call],
) func(failsafe.Execution[*call]) *common.PolicyResult[*call] {
	if p.call.limiter == nil {
		return inner
	}
	return func(exec failsafe.Execution[*call]) *common.PolicyResult[*call] {
		now := time.Now()
		token := p.call.limiter.ReserveN(now, 1)
		if delay := token.DelayFrom(now); delay > 0 {
			token.CancelAt(now)
			return refusal(&paced{delay})
		}
		return inner(exec)
	}
}

// limiter returns the limiter for an endpoint's rate, nil if it has none; old
// is adjusted and keeps its tokens.
func limiter(ep relay.Endpoint, old *rate.Limiter) *rate.Limiter {
	if !(ep.Rate > 0) || math.IsInf(ep.Rate, 1) {
		return nil
	}
	if old == nil {
		return rate.NewLimiter(rate.Limit(ep.Rate), burst(ep))
	}
	old.SetLimit(rate.Limit(ep.Rate))
	old.SetBurst(burst(ep))
	return old
}

// burst is one second's worth if the endpoint does not say.
func burst(ep relay.Endpoint) int {
	return positive(ep.Burst, int(min(max(math.Ceil(ep.Rate), 1), math.MaxInt32)))
}

// turns hands out moments at which refused calls should come back, so that they
// come one after the other and not all at once. It promises nothing: who comes
// back may be refused again.
type turns struct{ next time.Time }

// longestQueue is how far ahead turns are handed out in order. Beyond it they
// are drawn by lot.
const longestQueue = 5 * time.Minute

// longestTurn bounds a deferral, whatever the rate.
const longestTurn = 24 * time.Hour

// take returns how long to wait: at least earliest, and spacing after the one
// before. It is exact, because a turn that comes late costs an endpoint with a
// low rate a part of it. The lot r is at least 0 and less than 1.
func (t *turns) take(now time.Time, earliest, spacing time.Duration, r float64) time.Duration {
	turn := now.Add(earliest)
	if t.next.After(turn) {
		turn = t.next
	}
	queued := turn.Sub(now) - earliest
	if queued+spacing > longestQueue {
		return earliest + time.Duration(r*float64(longestQueue))
	}
	t.next = turn.Add(spacing)
	return earliest + queued
}
