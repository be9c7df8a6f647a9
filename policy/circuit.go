package policy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/common"
	"github.com/failsafe-go/failsafe-go/policy"

	"github.com/relaywebhooks/relay"
)

// State is the state of a circuit, as it stands in relay.endpoints.
type State string

// The states of a circuit.
const (
	Closed   State = "closed"    // calls are made
	Open     State = "open"      // no calls until the delay is over
	HalfOpen State = "half_open" // a few calls are made to see whether it works again
)

// Circuit is a change of one endpoint's circuit.
type Circuit struct {
	Key    string // the endpoint's
	Name   string // "" if the endpoint is not registered
	Tenant string // whose it is; "" if nobody's
	URL    string // without its query
	State  State
	Until  time.Time // if open: when the next probe is let through
}

// probeWait is how long a call waits that came while all probes were out.
const probeWait = time.Second

// gauge counts the circuits of a set that are not closed.
type gauge struct{ open, halfOpen atomic.Int64 }

func (g *gauge) add(s State, n int64) {
	switch s {
	case Open:
		g.open.Add(n)
	case HalfOpen:
		g.halfOpen.Add(n)
	case Closed:
	}
}

// circuit is a circuit breaker as a policy. failsafe-go's breaker counts and
// keeps the time; circuit adds what it does not know.
//
//   - An attempt that began under an earlier state teaches it nothing. (The
//     breaker would let a late answer from before it opened decide about the
//     probes.)
//   - While it is closed, an attempt may teach it nothing at all. (The breaker
//     knows success and failure only.) While it is half-open such an attempt is
//     a failure: a probe that proves nothing must not close it, and its permit
//     has to come back.
//
// Every change of the breaker happens under mu, so the era is exact.
type circuit struct {
	options  *CircuitOptions
	breaker  circuitbreaker.CircuitBreaker[*call]
	counts   policy.Executor[*call] // the breaker's own; it keeps nothing of a call
	endpoint *endpoint              // which reports the changes
	gauge    *gauge

	mu        sync.Mutex
	era       uint64 // one more with every change of state
	state     State
	probing   int       // permits that are out, while half-open
	opened    int       // times since it was last closed
	due       time.Time // of its probes: when the latest rest is over, or was ended
	retired   bool      // its endpoint was forgotten, or got another circuit
	quiet     bool      // what changes now comes from another process
	changes   []change
	reporting bool
}

type change struct {
	state    State
	until    time.Time
	openings int  // if open: times in a row
	quiet    bool // other processes know, or need not
}

func newCircuit(o *CircuitOptions, e *endpoint) *circuit {
	c := &circuit{options: o, endpoint: e, gauge: e.gauge, state: Closed}
	b := circuitbreaker.NewBuilder[*call]().
		WithFailureThresholdRatio(uint(o.Failures), uint(o.Executions)).
		WithSuccessThreshold(uint(o.Probes)).
		WithDelay(o.Delay).
		WithJitterFactor(o.DelayJitter).
		OnStateChanged(c.changed)
	if o.MaxDelay > o.Delay {
		b.WithDelayFunc(c.longerDelay)
	}
	c.breaker = b.Build()
	c.counts = c.breaker.ToExecutor(nil).(policy.Executor[*call]) //nolint:forcetypeassert // it is one
	return c
}

// longerDelay doubles the delay each time that a probe failed. It runs under
// the breaker's own lock, so it asks the breaker nothing.
func (c *circuit) longerDelay(failsafe.ExecutionAttempt[*call]) time.Duration {
	d := c.options.Delay
	for range c.opened {
		if d > c.options.MaxDelay/2 {
			return c.options.MaxDelay
		}
		d *= 2
	}
	return d
}

// changed is the breaker's listener. It runs within one of the breaker's
// methods, so under mu.
func (c *circuit) changed(e circuitbreaker.StateChangedEvent) {
	if c.retired {
		return
	}
	c.era++
	c.probing = 0
	now := change{state: stateOf(e.NewState), quiet: c.quiet}
	c.state = now.state
	switch now.state {
	case Open:
		c.opened++
		c.due = time.Now().Add(c.breaker.RemainingDelay())
		now.until, now.openings = c.due, c.opened
	case Closed:
		c.opened = 0
	case HalfOpen:
	}
	c.gauge.add(stateOf(e.OldState), -1)
	c.gauge.add(now.state, 1)
	c.changes = append(c.changes, now)
}

func stateOf(s circuitbreaker.State) State {
	switch s {
	case circuitbreaker.OpenState:
		return Open
	case circuitbreaker.HalfOpenState:
		return HalfOpen
	case circuitbreaker.ClosedState:
	}
	return Closed
}

// ToExecutor makes circuit a failsafe.Policy.
func (c *circuit) ToExecutor(*call) any { return c }

// Apply takes a permit, makes the attempt, and gives the permit back. The inner
// function does not panic; see [call.try].
func (c *circuit) Apply(
	inner func(failsafe.Execution[*call]) *common.PolicyResult[*call],
) func(failsafe.Execution[*call]) *common.PolicyResult[*call] {
	return func(exec failsafe.Execution[*call]) *common.PolicyResult[*call] {
		in := exec.(policy.ExecutionInternal[*call]) //nolint:forcetypeassert // failsafe-go's own policies do the same
		era, refused := c.acquire(in)
		if refused != nil {
			return refused
		}
		result := inner(exec)
		c.settle(in, era, result)
		return result
	}
}

func (c *circuit) acquire(in policy.ExecutionInternal[*call]) (era uint64, refused *common.PolicyResult[*call]) {
	c.mu.Lock()
	defer c.unlock()
	if err := c.lease(in.Context()); err != nil {
		return c.era, refusal(err)
	}
	refused = c.counts.PreExecute(in)
	if refused == nil && c.breaker.IsHalfOpen() {
		c.probing++
	}
	return c.era, refused
}

func (c *circuit) settle(in policy.ExecutionInternal[*call], era uint64, result *common.PolicyResult[*call]) {
	learned := result.Result.lesson(result.Error)
	c.mu.Lock()
	defer c.unlock()
	if c.era != era {
		return // the permit, if it was one, went with its era
	}
	halfOpen := c.breaker.IsHalfOpen()
	if halfOpen {
		c.probing--
	}
	switch {
	case learned == alive:
		c.counts.OnSuccess(in, result)
	case learned == failing, halfOpen:
		c.counts.OnFailure(in, result)
	}
}

// rest returns how long no call may be made, and whether the circuit is closed.
func (c *circuit) rest() (rest time.Duration, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.breaker.State() {
	case circuitbreaker.OpenState:
		return c.breaker.RemainingDelay(), false
	case circuitbreaker.HalfOpenState:
		if c.probing >= c.options.Probes {
			return probeWait, false
		}
		return 0, false
	case circuitbreaker.ClosedState:
	}
	return 0, true
}

// firstTry is for how long after a rest only a webhook that has not failed before is
// taken as a probe, or as long as the delay where that is shorter. Those that fail
// whatever the endpoint's state come back by a timer the moment a rest is over. Were
// they the probes, a few of them would keep a well endpoint closed to all others,
// each for as many rests as it has attempts.
const firstTry = time.Second

// yields returns how long a webhook that has failed before waits yet, so that
// another one may be the probe; zero if no probe is to be made. The pause is that of
// another process; nil: there is none.
func (c *circuit) yields(now time.Time, pause *relay.Pause) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := c.due
	switch {
	case pause != nil && pause.Kind != relay.PauseThrottle && pause.Until.After(due):
		due = pause.Until
	case c.state == Closed:
		return 0
	}
	return due.Add(min(firstTry, c.options.Delay)).Sub(now)
}

// clean reports whether the circuit is closed and remembers no failure.
func (c *circuit) clean() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.breaker.IsClosed() && c.breaker.Metrics().Failures() == 0
}

// retire ends the circuit. Calls that are still in flight go on and teach
// nobody. If it was not closed it is reported as closed: the next call will be
// made.
func (c *circuit) retire() {
	c.mu.Lock()
	defer c.unlock()
	state := stateOf(c.breaker.State())
	c.gauge.add(state, -1)
	c.retired = true
	if state != Closed {
		c.changes = append(c.changes, change{state: Closed, quiet: true})
	}
}

// unlock releases mu and reports the changes that were made under it: in their
// order, one at a time, and with mu released.
func (c *circuit) unlock() {
	for len(c.changes) > 0 && !c.reporting {
		next := c.changes[0]
		c.changes = c.changes[1:]
		c.reporting = true
		c.mu.Unlock()
		c.endpoint.report(next)
		c.mu.Lock()
		c.reporting = false
	}
	if len(c.changes) == 0 {
		c.changes = nil
	}
	c.mu.Unlock()
}
