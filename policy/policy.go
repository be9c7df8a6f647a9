// Package policy decides when a webhook may be tried and what the outcome
// means. It is the only user of failsafe-go.
//
// [Set.Do] runs one call through these policies, the outermost first:
//
//	redeliver(slots(pace(quickRetry(circuit(timeout(send))))))
//
// From left to right:
//
//   - redeliver refuses at once while the endpoint rests, and turns what the
//     others came to into a verdict. Where a retry policy would sleep it says
//     how long to wait: the waiting is JetStream's.
//   - slots bounds the calls at one endpoint at a time, and those at all slow
//     endpoints together.
//   - pace holds the endpoint's rate and that of its tenant.
//   - quickRetry tries once more, at once, if a reused connection broke before
//     a byte of the answer.
//   - circuit stops calling an endpoint that keeps failing, and later lets a
//     few probes through: for a second only webhooks that have not failed before,
//     which may fail for a reason of their own.
//   - timeout is the belt around send, which already bounds its own time: the
//     deadline of the context that send gets. (failsafe-go's policy of that name
//     would cost every call as much as all the others together.)
//
// For a slot or a token that is about to come free, slots and pace wait up to
// 50 ms each, because a refusal would cost more. All other waiting is done
// elsewhere.
//
// Whatever refuses a call stands outside the circuit, because the circuit would
// take the refusal for a failure of the endpoint. A call that is refused uses
// up no attempt.
//
// [Set.Refuses] asks whether a call would be refused, before any work is done
// for it.
//
// What an outcome means stands in one table, judge.go. How long to wait stands
// in backoff.go and retryafter.go. These have no clock and no state.
package policy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/relaywebhooks/relay"
)

// Set holds what is known about every endpoint that was called lately: its
// circuit, its free slots, its rate and whether it asked for rest. It is safe
// for concurrent use.
type Set struct {
	options atomic.Pointer[Options] // never nil, defaults filled in
	quick   retrypolicy.RetryPolicy[*call]
	gauge   gauge
	flights flights
	pauses  pauses // of other processes

	mu        sync.RWMutex
	endpoints map[string]*endpoint // by key
	tenants   map[string]*tenant   // of these, by name
}

// New makes a set. It starts nothing; without [Set.Run] it works, and forgets
// no endpoint.
func New(o Options) *Set {
	s := &Set{
		endpoints: make(map[string]*endpoint),
		tenants:   make(map[string]*tenant),
		quick: retrypolicy.NewBuilder[*call]().
			HandleIf(func(c *call, err error) bool { return err == nil && c.again() }).
			WithMaxRetries(1).
			ReturnLastFailure().
			Build(),
	}
	s.options.Store(new(o.withDefaults()))
	return s
}

// Replace exchanges the options. Every endpoint keeps its state, except that a
// circuit starts closed again where Options.Circuit changed, and a changed
// concurrency does not count the calls in flight. A nil OnCircuit keeps the one
// that is there.
func (s *Set) Replace(o Options) {
	if o.OnCircuit == nil {
		o.OnCircuit = s.options.Load().OnCircuit
	}
	s.options.Store(new(o.withDefaults()))
}

// Do makes at most two attempts at a webhook by calling send, and says what is
// to happen next. The claim says how many attempts were made before.
//
// No attempts mean that the call was refused: the verdict is [relay.Defer] with
// a reason that begins with one of the constants of this package. Its Place is
// [relay.Parked] if the endpoint is held or its circuit is open, else
// [relay.Asleep]; a hold has no After. (If the claim has
// no attempts left, because the settings changed, the verdict is
// [relay.Failed].) Two attempts mean that the first was not answered and was
// tried again at once.
//
// Otherwise the last attempt decides: [relay.Delivered], [relay.Retry],
// [relay.Failed] or [relay.Dead]. If the verdict's Disable is set, the endpoint
// wants to be called no more. Do sets Success and Failing on every attempt, and
// Number, Generation and the first ID where send left them zero. It returns all
// attempts that were made, also when ctx is canceled in between.
//
// Send gets a context that ends with ctx or soon after the endpoint's timeout,
// and has to return then. A panic in it becomes an attempt with class "panic".
// If it makes no request after all, because its claim was refused, it returns
// the zero Attempt, which is not counted.
func (s *Set) Do(
	ctx context.Context, ep relay.Endpoint, w relay.Webhook, c relay.Claim,
	send func(context.Context) relay.Attempt,
) ([]relay.Attempt, relay.Verdict) {
	o := s.options.Load()
	if ep.Held != "" {
		return nil, held(ep)
	}
	k := &call{ctx: ctx, options: o, settings: ep, webhook: w, claim: c, send: send}
	if c.Made >= k.maxAttempts() {
		return nil, relay.Verdict{Action: relay.Failed, Reason: k.exhausted(describeStatus(c.Last))}
	}
	if ctx.Err() != nil {
		return nil, deferred(Stopping, "", stopWait)
	}
	s.enter(k)
	defer k.endpoint.leave(k)

	_, err := failsafe.With[*call](
		newRedeliver(k),
		slotted{k},
		pace{k},
		s.quick,
		k.circuit,
	).WithContext(ctx).Get(k.try)

	if not, ok := errors.AsType[*undelivered](err); ok {
		return k.attempts, not.Verdict
	}
	return k.attempts, relay.Verdict{Action: relay.Delivered, Disable: k.latest.disable}
}

// grace is how much longer than the endpoint's timeout send may take before its
// context is canceled.
const grace = 5 * time.Second

// stopWait is the deferral of a call that came after ctx had ended. The process
// is stopping; another one, or the next, may take the webhook at once.
const stopWait = time.Second

// enter finds or makes the state of the call's endpoint and joins the call to it.
func (s *Set) enter(k *call) {
	for {
		s.mu.RLock()
		e := s.endpoints[k.settings.Key]
		s.mu.RUnlock()
		if e == nil {
			e = s.add(k.settings)
		}
		if e.enter(k) {
			return
		}
	}
}

func (s *Set) add(ep relay.Endpoint) *endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.endpoints[ep.Key]
	if e == nil {
		e = newEndpoint(ep, s)
		s.endpoints[e.key] = e
		e.load.tenant.endpoints++
		s.tenants[e.load.tenant.name] = e.load.tenant
		s.flights.known(len(s.tenants))
	}
	return e
}

// Rest returns how long an endpoint is not to be called: while its circuit is
// open, while all probes of a half-open circuit are out, while it asked for
// rest, and while another process has paused it. Zero means that a call may be made.
func (s *Set) Rest(endpointKey string) time.Duration {
	s.mu.RLock()
	e := s.endpoints[endpointKey]
	s.mu.RUnlock()
	if e == nil {
		rest, _ := s.pauses.rest(endpointKey, time.Now())
		return rest
	}
	rest, _ := e.rest(time.Now())
	return rest
}

// Circuits counts the circuits that are open and half-open now. A circuit turns
// half-open by the first call after its delay, so an endpoint that nobody calls
// stays open until it is forgotten.
func (s *Set) Circuits() (open, halfOpen int) {
	return int(s.gauge.open.Load()), int(s.gauge.halfOpen.Load())
}

// Slow counts the endpoints that are slow and have calls in flight now, and
// these calls; see [Options.SlowCalls].
func (s *Set) Slow() (endpoints, calls int) { return s.flights.slow(time.Now()) }
