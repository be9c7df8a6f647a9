package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/relaywebhooks/relay"
)

// call is one run of [Set.Do]. It is also the result type of all policies: an
// attempt alone does not say whether another one is left. It belongs to one
// goroutine.
type call struct {
	ctx      context.Context //nolint:containedctx // the call lives no longer than Do
	options  *Options
	settings relay.Endpoint
	webhook  relay.Webhook
	claim    relay.Claim
	send     func(context.Context) relay.Attempt

	endpoint *endpoint
	parts           // what the endpoint was built of when the call began
	began    uint64 // the throttle's era then
	flight   flight

	attempts []relay.Attempt
	latest   judgement // of the last of them
}

var (
	// errNotSent is the outcome of a send that made no request.
	errNotSent = errors.New("no request was made")
	// errTooLong is the outcome of a send that was cut off.
	errTooLong = errors.New("it took longer than its timeout")
)

// try is the innermost function: one attempt, judged. No panic leaves it,
// because failsafe-go would never give the permits back.
func (k *call) try() (*call, error) {
	ctx, cancel := context.WithTimeoutCause(k.ctx, k.options.timeout(k.settings)+grace, errTooLong)
	defer cancel()
	a := k.shielded(ctx)
	if a.Kind == "" {
		return k, errNotSent
	}
	n := len(k.attempts) + 1
	if a.Number == 0 {
		a.Number = k.claim.Made + n
	}
	if a.Generation == 0 {
		a.Generation = k.webhook.Generation
	}
	if a.ID == (relay.AttemptID{}) && n == 1 {
		a.ID = k.claim.ID // a second attempt has a claim that only send knows
	}
	k.latest = judge(a, &k.settings)
	a.Success, a.Failing = k.latest.success, k.latest.circuit == failing && !k.stopped(a)
	k.attempts = append(k.attempts, a)
	if ctx.Err() != nil && k.ctx.Err() == nil {
		return k, errTooLong
	}
	return k, nil
}

// shielded calls send and turns a panic into an attempt.
func (k *call) shielded(ctx context.Context) (a relay.Attempt) {
	started := time.Now()
	defer func() {
		if p := recover(); p != nil {
			a = relay.Attempt{
				Started: started, Took: time.Since(started),
				Kind: relay.Error, Class: "panic", Err: fmt.Sprint(p),
			}
		}
	}()
	return k.send(ctx)
}

// again reports whether the first attempt is to be tried again at once.
func (k *call) again() bool {
	return len(k.attempts) == 1 && !k.attempts[0].Success && k.attempts[0].Unanswered &&
		k.made() < k.maxAttempts() && k.ctx.Err() == nil
}

// lesson is what the try that ended with err teaches the circuit.
func (k *call) lesson(err error) lesson {
	switch {
	case errors.Is(err, errTooLong):
		return failing // even if it answered in the end
	case err != nil:
		return nothing // no request was made
	case k.again():
		return nothing // a stale connection; the second try will tell
	case k.stopped(k.last()):
		return nothing
	}
	return k.latest.circuit
}

// stopped reports whether relay, and not the endpoint, ended an attempt: it is
// stopping.
func (k *call) stopped(a relay.Attempt) bool {
	return a.Kind != relay.Response && errors.Is(k.ctx.Err(), context.Canceled)
}

func (k *call) last() relay.Attempt { return k.attempts[len(k.attempts)-1] }

// made counts the attempts of this generation, those of this call included.
func (k *call) made() int { return k.claim.Made + len(k.attempts) }

func (k *call) maxAttempts() int {
	switch {
	case k.webhook.MaxAttempts > 0:
		return k.webhook.MaxAttempts
	case k.settings.MaxAttempts > 0:
		return k.settings.MaxAttempts
	case len(k.settings.Schedule) > 0:
		return len(k.settings.Schedule) + 1
	}
	return k.options.MaxAttempts
}

func (k *call) schedule() []time.Duration {
	if len(k.settings.Schedule) > 0 {
		return k.settings.Schedule
	}
	return k.options.Schedule
}

// verdict says what becomes of the webhook after its last attempt.
func (k *call) verdict(now time.Time) relay.Verdict {
	if k.latest.success {
		return relay.Verdict{Action: relay.Delivered, Disable: k.latest.disable}
	}
	last := k.last()
	outcome := describe(last)
	switch {
	case k.latest.disable != "":
		return relay.Verdict{Action: relay.Retry, After: k.after(now), Reason: k.latest.disable, Disable: k.latest.disable}
	case !k.latest.retry:
		return relay.Verdict{Action: relay.Dead, Reason: outcome + ": " + k.latest.why}
	case k.made() >= k.maxAttempts():
		return relay.Verdict{Action: relay.Failed, Reason: k.exhausted(outcome)}
	}
	after := k.after(now)
	progress := fmt.Sprintf("attempt %d of %d: %s", k.made(), k.maxAttempts(), outcome)
	if expires := k.webhook.ExpiresAt; !expires.IsZero() && now.Add(after).After(expires) {
		return relay.Verdict{Action: relay.Dead, Reason: "expired: the next attempt would come too late; " + progress}
	}
	return relay.Verdict{Action: relay.Retry, After: after, Reason: progress}
}

// after says how long the webhook waits for its next attempt.
func (k *call) after(now time.Time) time.Duration {
	o := k.options
	planned := backoff(k.schedule(), k.made(), o.MaxBackoff)
	asked := retryAfter(k.last().Header, now, o.MaxRetryAfter)
	return wait(planned, asked, o.MaxRetryAfter, o.Jitter, random())
}

func (k *call) exhausted(outcome string) string {
	if n := k.maxAttempts(); n > 1 {
		return fmt.Sprintf("all %d attempts failed; the last: %s", n, outcome)
	}
	return "the only attempt failed: " + outcome
}
