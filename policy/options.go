package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/relaywebhooks/relay"
)

// Options are the defaults for endpoints that have no settings of their own,
// and the bounds for all. The zero value works.
type Options struct {
	// MaxAttempts is how many attempts a webhook gets, if neither it nor its
	// endpoint says. Defaults to one more than Schedule is long: 5.
	MaxAttempts int

	// Schedule is how long to wait before the 2nd, 3rd, … attempt. Beyond its
	// end the last wait doubles. Defaults to 1, 2, 4 and 8 minutes.
	Schedule []time.Duration

	// Jitter is by what share a wait may be longer or shorter, so that those
	// who failed together do not come back together. Never shorter than a
	// Retry-After. Defaults to 0.1; negative means none.
	Jitter float64

	// MaxBackoff bounds the doubling beyond the schedule. Defaults to 24 hours.
	MaxBackoff time.Duration

	// MaxRetryAfter bounds how far an endpoint can put off an attempt with
	// Retry-After. Defaults to 24 hours.
	MaxRetryAfter time.Duration

	// MaxThrottle bounds how long an endpoint rests after it answered 429, 502,
	// 503 or 504 with Retry-After; the webhook itself waits as long as it was
	// asked to. Defaults to 5 minutes.
	MaxThrottle time.Duration

	// Timeout is that of one exchange, for endpoints that have none. Send
	// holds it; policy cancels what takes longer still. Defaults to 30 seconds.
	Timeout time.Duration

	// Concurrency is how many calls may be in flight to one endpoint, for
	// endpoints that do not say. Defaults to 64.
	Concurrency int

	// SlowCalls is how many calls may be in flight to slow endpoints and to
	// those that have not completed a call yet. An endpoint is slow while its
	// calls take longer than 250 ms, smoothed, or one of them has been in
	// flight for longer. From half of SlowCalls on, these endpoints share that
	// half equally, and each of them may have at least one call; tenants share
	// it first, and each divides its part among its endpoints. The last eighth
	// is left to endpoints that have not completed a call yet. Once all
	// are used up, only quick endpoints are called. Defaults to 1024.
	SlowCalls int

	// Tenant bounds what the endpoints of each tenant get together, and Tenants
	// those of some, by name; what is zero there is as in Tenant. Nothing here
	// bounds what belongs to no tenant, except that it shares alike with tenants.
	Tenant  TenantOptions
	Tenants map[string]TenantOptions

	// Idle is how long an endpoint that nobody calls is remembered. One whose
	// circuit is not closed is remembered six times as long. While there are
	// more than 10,000, those that are quick and well and have no rate are
	// forgotten after two seconds. Defaults to 10 minutes.
	Idle time.Duration

	// Circuit are the thresholds of every circuit.
	Circuit CircuitOptions

	// OnCircuit, if set, is told of every change of a circuit, one after the
	// other for each endpoint and with no lock held. It runs within a call,
	// so it should return soon, and it must not panic.
	OnCircuit func(Circuit)
}

// CircuitOptions say when a circuit opens and closes.
type CircuitOptions struct {
	// Failures among the last Executions attempts open the circuit. Default to
	// 5 of 10.
	Failures, Executions int

	// Delay is how long it stays open before it lets probes through. Defaults
	// to 30 seconds.
	Delay time.Duration

	// MaxDelay, if longer than Delay, makes the delay double each time a probe
	// fails, up to this. Defaults to a constant delay, so that a recovery is
	// noticed within it.
	MaxDelay time.Duration

	// DelayJitter is by what share the delay may be longer or shorter. Defaults
	// to 0.1; negative means none.
	DelayJitter float64

	// Probes is how many calls a half-open circuit lets through at a time, and
	// how many have to succeed to close it. One failure opens it again.
	// Defaults to 1.
	Probes int
}

// Validate names every option that is out of bounds, joined. A Set replaces
// what is out of bounds by its default.
func (o Options) Validate() error {
	var faults []error
	check := func(ok bool, name string, got any, want string) {
		if !ok {
			faults = append(faults, fmt.Errorf("policy: %s is %v: want %s", name, got, want))
		}
	}
	check(o.MaxAttempts >= 0 && o.MaxAttempts <= relay.MaxMaxAttempts, "max attempts", o.MaxAttempts,
		fmt.Sprintf("0 to %d", relay.MaxMaxAttempts))
	for i, d := range o.Schedule {
		check(d >= 0, fmt.Sprintf("schedule wait %d", i+1), d, "0 or more")
	}
	check(o.Jitter < 1, "jitter", o.Jitter, "less than 1")
	check(o.MaxBackoff >= 0, "max backoff", o.MaxBackoff, "0 or more")
	check(o.MaxRetryAfter >= 0, "max Retry-After", o.MaxRetryAfter, "0 or more")
	check(o.MaxThrottle >= 0, "max throttle", o.MaxThrottle, "0 or more")
	check(o.Timeout >= 0, "timeout", o.Timeout, "0 or more")
	check(o.Concurrency >= 0, "concurrency", o.Concurrency, "0 or more")
	check(o.SlowCalls >= 0, "slow calls", o.SlowCalls, "0 or more")
	check(o.Idle >= 0, "idle", o.Idle, "0 or more")
	for _, t := range append(slices.Collect(maps.Values(o.Tenants)), o.Tenant) {
		check(t.Rate >= 0, "a tenant's rate", t.Rate, "0 or more")
		check(t.Burst >= 0, "a tenant's burst", t.Burst, "0 or more")
		check(t.Share >= 0 && t.Share <= 1, "a tenant's share", t.Share, "0 to 1")
	}
	c := o.Circuit
	check(c.Failures >= 0, "circuit failures", c.Failures, "0 or more")
	check(c.Executions == 0 || c.Executions >= c.Failures, "circuit executions", c.Executions, "at least the failures")
	check(c.Delay >= 0, "circuit delay", c.Delay, "0 or more")
	check(c.MaxDelay >= 0, "circuit max delay", c.MaxDelay, "0 or more")
	check(c.DelayJitter < 1, "circuit delay jitter", c.DelayJitter, "less than 1")
	check(c.Probes >= 0, "circuit probes", c.Probes, "0 or more")
	return errors.Join(faults...)
}

// StandardSchedule returns waits as Standard Webhooks recommends them: quick at
// first, and ten attempts over three days, also where jitter of a tenth makes every
// wait shorter. Every call returns a new slice. It is not the default: an event that
// nobody takes would stand in the queue for days before anybody is told.
func StandardSchedule() []time.Duration {
	const hour = time.Hour
	return []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * hour, 6 * hour, 12 * hour, 16 * hour, 20 * hour, 24 * hour,
	}
}

func (o Options) withDefaults() Options {
	if len(o.Schedule) == 0 {
		o.Schedule = []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute}
	}
	o.MaxAttempts = positive(o.MaxAttempts, len(o.Schedule)+1)
	o.Jitter = share(o.Jitter)
	o.MaxBackoff = min(positive(o.MaxBackoff, 24*time.Hour), relay.MaxExpiry)
	o.MaxRetryAfter = min(positive(o.MaxRetryAfter, 24*time.Hour), relay.MaxExpiry)
	o.MaxThrottle = positive(o.MaxThrottle, 5*time.Minute)
	o.Timeout = positive(o.Timeout, 30*time.Second)
	o.Concurrency = positive(o.Concurrency, 64)
	o.SlowCalls = positive(o.SlowCalls, 1024)
	o.Idle = positive(o.Idle, 10*time.Minute)
	o.Tenants = maps.Clone(o.Tenants)
	o.Circuit.Failures = positive(o.Circuit.Failures, 5)
	o.Circuit.Executions = max(positive(o.Circuit.Executions, 10), o.Circuit.Failures)
	o.Circuit.Delay = positive(o.Circuit.Delay, 30*time.Second)
	o.Circuit.MaxDelay = max(o.Circuit.MaxDelay, o.Circuit.Delay)
	o.Circuit.DelayJitter = share(o.Circuit.DelayJitter)
	o.Circuit.Probes = positive(o.Circuit.Probes, 1)
	return o
}

func positive[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// share reads a jitter: 0 is the default, negative is none.
func share(j float64) float64 {
	switch {
	case j < 0:
		return 0
	case j == 0 || j >= 1 || math.IsNaN(j):
		return 0.1
	}
	return j
}

// tenant returns what holds for a tenant. What belongs to none has no rate.
func (o Options) tenant(name string) TenantOptions {
	if name == "" {
		return TenantOptions{}
	}
	own := o.Tenants[name]
	return TenantOptions{
		Rate: cmp.Or(own.Rate, o.Tenant.Rate), Burst: cmp.Or(own.Burst, o.Tenant.Burst), Share: cmp.Or(own.Share, o.Tenant.Share),
	}
}

func (o Options) timeout(ep relay.Endpoint) time.Duration {
	return positive(ep.Timeout, o.Timeout)
}

func (o Options) concurrency(ep relay.Endpoint) int {
	return positive(ep.Concurrency, o.Concurrency)
}
