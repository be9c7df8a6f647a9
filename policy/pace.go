package policy

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/common"
	"golang.org/x/time/rate"
)

// pace is the policy that holds an endpoint's rate and its tenant's. It refuses a
// call that comes too early and says how much. Only the last moments before a
// token it lets a few calls wait for it: deferred calls come back a little late,
// each by another time, and a token that nobody waits for is lost to a low rate.
type pace struct{ call *call }

// paced is the error of a call that came too early.
type paced struct {
	delay  time.Duration
	tenant bool // it was the tenant's rate
}

func (*paced) Error() string { return RateLimited }

// ToExecutor makes pace a failsafe.Policy.
func (p pace) ToExecutor(*call) any { return p }

// Apply takes a token, or refuses the call.
func (p pace) Apply(
	inner func(failsafe.Execution[*call]) *common.PolicyResult[*call],
) func(failsafe.Execution[*call]) *common.PolicyResult[*call] {
	k := p.call
	need := tokens{endpoint: k.pacer, tenant: k.endpoint.load.tenant.paces(k.options)}
	if need == (tokens{}) {
		return inner
	}
	return func(exec failsafe.Execution[*call]) *common.PolicyResult[*call] {
		delay, late := need.take()
		if late != nil {
			return refusal(late)
		}
		if delay > 0 {
			if err := standBy(exec.Context(), delay); err != nil {
				return refusal(err) // relay is stopping; the tokens are lost
			}
		}
		return inner(exec)
	}
}

// tokens are where one call's tokens come from. Nil is no limit.
type tokens struct{ endpoint, tenant *pacer }

// take takes a token of each, or none. The tokens may be used after delay, for
// which the caller then has to wait.
func (n tokens) take() (delay time.Duration, late *paced) {
	if n.tenant == nil {
		return n.endpoint.take(time.Now())
	}
	n.tenant.mu.Lock()
	defer n.tenant.mu.Unlock()
	now := time.Now()
	shared := n.tenant.tokenIn(now)
	if !n.tenant.soon(now, shared) {
		return 0, &paced{delay: shared, tenant: true}
	}
	if n.endpoint != nil {
		if delay, late = n.endpoint.take(now); late != nil {
			return 0, late
		}
	}
	n.tenant.reserve(now, shared)
	return max(delay, shared), nil
}

// pacer keeps the tokens of an endpoint, or of a tenant. It gives none out that
// has to be given back, because x/time/rate takes back less than it gave when
// another one has come in between.
type pacer struct {
	mu      sync.Mutex
	limiter *rate.Limiter
	waiting []time.Time // until when calls wait for their tokens
}

// maxPaced is how many calls may wait for a token at a time.
const maxPaced = 4

// newPacer returns the pacer for a rate, nil if there is none; old is adjusted
// and keeps its tokens. A burst of 0 is one second's worth.
func newPacer(limit float64, burst int, old *pacer) *pacer {
	if !(limit > 0) || math.IsInf(limit, 1) {
		return nil
	}
	burst = positive(burst, int(min(max(math.Ceil(limit), 1), math.MaxInt32)))
	if old == nil {
		return &pacer{limiter: rate.NewLimiter(rate.Limit(limit), burst)}
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	old.limiter.SetLimit(rate.Limit(limit))
	old.limiter.SetBurst(burst)
	return old
}

// take takes a token that may be used after delay, for which the caller then
// has to wait. If it takes none, the error says after how long the next one comes.
func (p *pacer) take(now time.Time) (delay time.Duration, late *paced) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delay = p.tokenIn(now)
	if !p.soon(now, delay) {
		return 0, &paced{delay: delay}
	}
	p.reserve(now, delay)
	return delay, nil
}

// reserve takes a token that comes after delay. The caller holds the lock.
func (p *pacer) reserve(now time.Time, delay time.Duration) {
	p.limiter.ReserveN(now, 1)
	if delay > 0 {
		p.waiting = append(p.waiting, now.Add(delay))
	}
}

// standBy waits for a token, or until ctx ends.
func standBy(ctx context.Context, delay time.Duration) error {
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
	return delay, p.soon(now, delay)
}

// soon reports whether a call may wait for a token that comes after delay. The
// caller holds the lock.
func (p *pacer) soon(now time.Time, delay time.Duration) bool {
	if delay == 0 {
		return true
	}
	for len(p.waiting) > 0 && !p.waiting[0].After(now) {
		p.waiting = p.waiting[1:]
	}
	return delay <= patience && len(p.waiting) < maxPaced
}

// full reports whether all tokens are there.
func (p *pacer) full(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limiter.TokensAt(now) >= float64(p.limiter.Burst())
}

// tokenIn returns how long it takes until there is a token. The caller holds the
// lock.
func (p *pacer) tokenIn(now time.Time) time.Duration {
	missing := max(1-p.limiter.TokensAt(now), 0)
	// At the lowest rates that takes longer than a Duration holds.
	return time.Duration(min(missing/float64(p.limiter.Limit())*float64(time.Second), float64(longestTurn)))
}
