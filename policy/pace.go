package policy

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/common"
	"golang.org/x/time/rate"

	"github.com/relaywebhooks/relay"
)

// pace is the policy that holds an endpoint's rate. It refuses a call that
// comes too early and says how much. Only the last moments before a token it
// lets a few calls wait for it: deferred calls come back a little late, each by
// another time, and a token that nobody waits for is lost to a low rate.
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
	pacer := p.call.pacer
	if pacer == nil {
		return inner
	}
	return func(exec failsafe.Execution[*call]) *common.PolicyResult[*call] {
		delay, taken := pacer.take()
		if !taken {
			return refusal(&paced{delay})
		}
		if delay > 0 {
			if err := pacer.wait(exec.Context(), delay); err != nil {
				return refusal(err) // relay is stopping; the token is lost
			}
		}
		return inner(exec)
	}
}

// pacer keeps an endpoint's tokens. It gives none out that has to be given
// back, because x/time/rate takes back less than it gave when another one has
// come in between.
type pacer struct {
	mu      sync.Mutex
	limiter *rate.Limiter
	waiting int
}

// maxPaced is how many calls may wait for a token of one endpoint.
const maxPaced = 4

// newPacer returns the pacer for an endpoint's rate, nil if it has none; old is
// adjusted and keeps its tokens.
func newPacer(ep relay.Endpoint, old *pacer) *pacer {
	if !(ep.Rate > 0) || math.IsInf(ep.Rate, 1) {
		return nil
	}
	if old == nil {
		return &pacer{limiter: rate.NewLimiter(rate.Limit(ep.Rate), burst(ep))}
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	old.limiter.SetLimit(rate.Limit(ep.Rate))
	old.limiter.SetBurst(burst(ep))
	return old
}

// burst is one second's worth if the endpoint does not say.
func burst(ep relay.Endpoint) int {
	return positive(ep.Burst, int(min(max(math.Ceil(ep.Rate), 1), math.MaxInt32)))
}

// take takes a token that may be used after delay, for which the caller then
// has to wait. If it takes none, the next one comes after delay.
func (p *pacer) take() (delay time.Duration, taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	delay = p.tokenIn(now)
	if !p.soon(delay) {
		return delay, false
	}
	p.limiter.ReserveN(now, 1)
	if delay > 0 {
		p.waiting++
	}
	return delay, true
}

func (p *pacer) wait(ctx context.Context, delay time.Duration) error {
	defer func() {
		p.mu.Lock()
		p.waiting--
		p.mu.Unlock()
	}()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// look is take without taking.
func (p *pacer) look(now time.Time) (delay time.Duration, free bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delay = p.tokenIn(now)
	return delay, p.soon(delay)
}

func (p *pacer) soon(delay time.Duration) bool {
	return delay == 0 || delay <= patience && p.waiting < maxPaced
}

// tokenIn returns how long it takes until there is a token.
func (p *pacer) tokenIn(now time.Time) time.Duration {
	missing := max(1-p.limiter.TokensAt(now), 0)
	// At the lowest rates that takes longer than a Duration holds.
	return time.Duration(min(missing/float64(p.limiter.Limit())*float64(time.Second), float64(longestTurn)))
}
