package policy

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/relaywebhooks/relay"
)

// endpoint is what a set knows about one endpoint.
type endpoint struct {
	key, name string
	gauge     *gauge
	flights   *flights
	pauses    *pauses
	load      load // in flights, guarded by its lock

	mu       sync.Mutex
	url      string // without its query
	built    settings
	parts    parts
	throttle throttle
	turns    turns         // of those that Do refused
	line     turns         // of those that Refuses did
	took     time.Duration // how long an attempt takes, smoothed; 0 before the first
	inFlight int
	lastUsed time.Time
	gone     bool // forgotten; look it up again
}

// parts are the policies that keep state from call to call. A call keeps those
// that it began with.
type parts struct {
	slots   *slots
	pacer   *pacer // nil: no limit
	circuit *circuit
}

// settings are what the parts were built from.
type settings struct {
	options     *Options
	concurrency int
	rate        float64
	burst       int
	timeout     time.Duration
}

// newEndpoint makes the state of an endpoint. The caller holds the set's lock.
func newEndpoint(ep relay.Endpoint, s *Set) *endpoint {
	return &endpoint{
		key:     strings.Clone(ep.Key), // not the message that it was cut from
		name:    strings.Clone(ep.Name),
		gauge:   &s.gauge,
		flights: &s.flights,
		pauses:  &s.pauses,
		load:    load{tenant: s.ofTenant(ep.Tenant)},
	}
}

// enter joins a call to the endpoint: it adjusts the parts to the call's
// settings, gives them to it, and counts it as in flight. It returns false if
// the endpoint was forgotten meanwhile.
func (e *endpoint) enter(k *call) bool {
	e.mu.Lock()
	if e.gone {
		e.mu.Unlock()
		return false
	}
	e.inFlight++
	e.lastUsed = time.Now()
	if bare, _, _ := strings.Cut(k.settings.URL, "?"); bare != e.url {
		e.url = strings.Clone(bare)
	}
	retired := e.build(k.options, k.settings)
	k.endpoint, k.parts, k.began = e, e.parts, e.throttle.era
	e.mu.Unlock()
	if retired != nil {
		retired.retire() // it reports, so with no lock held
	}
	return true
}

func wanted(o *Options, ep relay.Endpoint) settings {
	return settings{options: o, concurrency: o.concurrency(ep), rate: ep.Rate, burst: ep.Burst, timeout: o.timeout(ep)}
}

// build makes the parts that want differs in and keeps the others. It returns
// the circuit that is no longer used, if there is one.
func (e *endpoint) build(o *Options, ep relay.Endpoint) (retired *circuit) {
	want := wanted(o, ep)
	if e.built == want {
		return nil
	}
	was := e.built
	e.built = want
	if was.concurrency != want.concurrency {
		e.parts.slots = newSlots(want.concurrency)
	}
	if was.rate != want.rate || was.concurrency != want.concurrency {
		e.turns, e.line = turns{}, turns{} // they were handed out at another pace
	}
	e.parts.pacer = newPacer(ep.Rate, ep.Burst, e.parts.pacer)
	if was.options == nil || was.options.Circuit != want.options.Circuit {
		retired = e.parts.circuit
		e.parts.circuit = newCircuit(&want.options.Circuit, e)
	}
	return retired
}

// report tells OnCircuit and the other processes of a change. The caller holds no lock.
func (e *endpoint) report(c change) {
	e.mu.Lock()
	report, url := e.built.options.OnCircuit, e.url
	e.mu.Unlock()
	if report != nil {
		report(Circuit{Key: e.key, Name: e.name, Tenant: e.load.tenant.name, URL: url, State: c.state, Until: c.until})
	}
	e.share(c)
}

// leave ends the call and takes what its attempts tell about the endpoint's
// load.
func (e *endpoint) leave(k *call) {
	until, longer := e.learn(k)
	if with := e.pauses.sharing; longer && with != nil {
		with.Paused(relay.Pause{Key: e.key, Kind: relay.PauseThrottle, Until: until})
	}
}

// learn is leave with e.mu held. It reports until when the endpoint is to rest,
// if the call made that longer.
func (e *endpoint) learn(k *call) (until time.Time, longer bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inFlight--
	now := time.Now()
	e.lastUsed = now
	for _, a := range k.attempts {
		e.saw(a.Took)
	}
	e.flights.end(&k.flight, e.took, len(k.attempts) > 0)
	until = e.throttle.until
	if len(k.attempts) == 0 {
		return until, false
	}
	switch last := k.last(); {
	case k.latest.success:
		e.throttle.succeeded(k.began)
	case k.latest.throttle:
		asked := retryAfter(last.Header, now, k.options.MaxThrottle)
		e.throttle.failed(now, k.began, asked, last.Status != http.StatusTooManyRequests)
	}
	return e.throttle.until, e.throttle.until.After(until)
}

// rest returns how long the endpoint is not to be called, and why. While the
// circuit is not closed, here or in another process, that is the reason, whatever
// else there is.
func (e *endpoint) rest(now time.Time) (time.Duration, string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.resting(now)
}

// resting is rest for a caller that holds e.mu.
func (e *endpoint) resting(now time.Time) (time.Duration, string) {
	if e.parts.circuit == nil {
		return 0, "" // made a moment ago
	}
	rest, closed := e.parts.circuit.rest()
	others, leased := e.pauses.rest(e.key, now)
	rest = max(rest, e.throttle.until.Sub(now), others, 0)
	if closed && !leased {
		return rest, Throttled
	}
	return rest, CircuitOpen
}

// yields is how long a call waits yet that would be a worse probe than others.
func (e *endpoint) yields(now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.parts.circuit == nil {
		return 0
	}
	return e.parts.circuit.yields(now, e.pauses.look(e.key))
}

// turn returns when a refused call should come back: at least earliest, and
// behind those that were refused before it. The endpoint takes atATime calls at
// a time; 0 means its concurrency.
func (e *endpoint) turn(now time.Time, earliest time.Duration, atATime int) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.turns.take(now, min(earliest, longestTurn), e.spacing(atATime), random())
}

// spacing is how far apart refused calls are to come back. The caller holds
// e.mu.
func (e *endpoint) spacing(atATime int) time.Duration {
	if atATime == 0 {
		atATime = e.built.concurrency
	}
	spacing := positive(e.took, 100*time.Millisecond) / time.Duration(atATime)
	if e.parts.pacer != nil {
		spacing = max(spacing, period(e.built.rate))
	}
	return spacing
}

// period is how far apart the tokens of a rate are. A rate may be so low that it
// is no Duration.
func period(rate float64) time.Duration {
	return time.Duration(min(float64(time.Second)/rate, float64(longestTurn)))
}

// saw takes an attempt's duration into account. The caller holds e.mu.
func (e *endpoint) saw(took time.Duration) {
	took = min(max(took, time.Millisecond), time.Minute)
	if e.took == 0 {
		e.took = took
	}
	e.took += (took - e.took) / 8
}

// random is at least 0 and less than 1.
func random() float64 {
	return rand.Float64() //nolint:gosec // it spreads load, it keeps no secret
}
