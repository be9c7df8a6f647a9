package policy

import (
	"context"
	"errors"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/common"
	"github.com/failsafe-go/failsafe-go/policy"

	"github.com/relaywebhooks/relay"
)

// Why a call was refused: every reason of a deferral begins with one of these,
// and may go on after a colon.
const (
	Held        = "held" // somebody paused or disabled the endpoint
	CircuitOpen = "circuit open"
	Busy        = "endpoint busy"         // all its slots are taken
	RateLimited = "rate limited"          // its rate is used up
	Throttled   = "throttled by endpoint" // it asked for rest
	Stopping    = "relay is stopping"
)

// undelivered is the error of a call after which the webhook is not delivered.
// Its verdict says how much later to come back, if at all.
type undelivered struct{ relay.Verdict }

func (u *undelivered) Error() string { return u.Reason }

// redeliver is a policy of one call. Where a retry policy would sleep and try
// again, it answers [undelivered]: try again later, or never.
type redeliver struct {
	policy.BaseExecutor[*call]
	call    *call
	verdict relay.Verdict
}

var _ policy.Executor[*call] = &redeliver{}

func newRedeliver(k *call) *redeliver {
	r := &redeliver{call: k}
	r.Executor = r
	return r
}

// ToExecutor makes redeliver a failsafe.Policy.
func (r *redeliver) ToExecutor(*call) any { return r }

// PreExecute refuses the call while its endpoint rests, before it takes a slot, and
// while another webhook would be the better probe.
func (r *redeliver) PreExecute(policy.ExecutionInternal[*call]) *common.PolicyResult[*call] {
	now := time.Now()
	rest, why := r.call.endpoint.rest(now)
	if rest <= 0 && r.call.claim.Made > 0 {
		rest, why = r.call.endpoint.yields(now), CircuitOpen
	}
	if rest <= 0 {
		return nil
	}
	if why == CircuitOpen {
		return refusal(&undelivered{parked(rest)})
	}
	after := r.call.endpoint.turn(now, rest, 0)
	return refusal(&undelivered{throttled(rest, after)})
}

// IsFailure judges the call as a whole. The attempts that were made decide, not
// err: failsafe-go puts an error in the place of an answer when the context
// ended in between.
func (r *redeliver) IsFailure(_ *call, err error) bool {
	if len(r.call.attempts) > 0 {
		r.verdict = r.call.verdict(time.Now())
	} else {
		r.verdict = r.call.refused(err)
	}
	return r.verdict.Action != relay.Delivered
}

// OnFailure puts the verdict in the place of the inner error.
func (r *redeliver) OnFailure(
	_ policy.ExecutionInternal[*call], result *common.PolicyResult[*call],
) *common.PolicyResult[*call] {
	result = result.WithDone(true, false)
	result.Error = &undelivered{r.verdict}
	return result
}

// refused says what becomes of a webhook that an inner policy refused.
func (k *call) refused(err error) relay.Verdict {
	now := time.Now()
	if p, ok := errors.AsType[*paced](err); ok {
		if p.tenant {
			return deferred(RateLimited, tenantRate, k.endpoint.load.tenant.turn(now, p.delay))
		}
		return deferred(RateLimited, "", k.endpoint.turn(now, p.delay, 0))
	}
	if full, ok := errors.AsType[*crowded](err); ok {
		return deferred(Busy, full.Error(), k.endpoint.turn(now, slowWait, full.atATime()))
	}
	switch {
	case errors.Is(err, circuitbreaker.ErrOpen), errors.Is(err, errElsewhere):
		rest, _ := k.endpoint.rest(now)
		return parked(max(rest, probeWait))
	case errors.Is(err, bulkhead.ErrFull):
		return deferred(Busy, "", k.endpoint.turn(now, busyWait, 0))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return deferred(Stopping, "", stopWait)
	}
	return deferred(Stopping, err.Error(), stopWait) // send made no request
}

// busyWait is the shortest deferral when all slots are taken.
const busyWait = 50 * time.Millisecond

// slowWait is the shortest deferral of a call for which the slow endpoints
// leave no room.
const slowWait = time.Second

func deferred(reason, detail string, after time.Duration) relay.Verdict {
	if detail != "" {
		reason += ": " + detail
	}
	return relay.Verdict{Action: relay.Defer, After: after, Reason: reason, Place: relay.Asleep}
}

// held has no After: nobody knows how long it takes.
func held(ep relay.Endpoint) relay.Verdict {
	return relay.Verdict{Action: relay.Defer, Reason: Held + ": " + ep.Held, Place: relay.Parked}
}

func parked(rest time.Duration) relay.Verdict {
	v := deferred(CircuitOpen, "next probe in "+rest.Round(time.Second).String(), rest)
	v.Place = relay.Parked
	return v
}

func throttled(rest, after time.Duration) relay.Verdict {
	return deferred(Throttled, "for "+rest.Round(time.Second).String(), after)
}

func refusal(err error) *common.PolicyResult[*call] {
	return &common.PolicyResult[*call]{Error: err, Done: true}
}
