package consumer

import (
	"time"

	"golang.org/x/time/rate"
)

// LaneOptions say how fast a lane is drained when its endpoint is well again.
// The zero value works.
type LaneOptions struct {
	// First is how many events are released at first, as probes. Defaults to 1.
	First int
	// Growth is how many times as many may be under way when all that were
	// released are settled. It is at least 1, which keeps First for good.
	// Defaults to 2.
	Growth float64
	// Most is how many of an endpoint's events may be under way at once, over all
	// processes. It should be twice what they call an endpoint with at a time, so
	// that none of them waits for the next look; what is more is refused and comes
	// again. Defaults to 128.
	Most int
	// Rate is how many events of one lane this process releases in a second.
	// Defaults to no limit but the endpoint's own.
	Rate float64
}

func (o LaneOptions) withDefaults() LaneOptions {
	setDefault(&o.First, 1)
	setDefault(&o.Growth, 2)
	setDefault(&o.Most, 128)
	o.Most = max(o.Most, o.First)
	o.Growth = max(o.Growth, 1)
	return o
}

// probeAfter is when one more event is released although those before it are
// not settled: they may be waiting for their backoff.
const probeAfter = 10 * time.Second

// manyCopies bounds the copies of one lane, those included that sleep for long.
const manyCopies = 500

// ramp is the slow start of one lane. It has no clock of its own.
type ramp struct {
	LaneOptions
	window float64       // how many copies may be under way
	out    int           // how many were, after the last look
	asleep uint64        // copies up to this sequence were under way at the last probe, and did not settle
	probe  time.Time     // when one more is released in any case
	pace   *rate.Limiter // nil: no limit
}

func newRamp(o LaneOptions) ramp {
	r := ramp{LaneOptions: o, window: float64(o.First)}
	if o.Rate > 0 {
		r.pace = rate.NewLimiter(rate.Limit(o.Rate), max(1, int(o.Rate/10)))
	}
	return r
}

// restart begins anew: the endpoint rests, or does not take what it was sent.
func (r *ramp) restart() { r.window, r.out = float64(r.First), 0 }

// rested begins anew after a rest of the endpoint. Those that were under way have
// not shown that it is well, whatever they wait for, and the next probe does not wait
// for them: it may be them that fail, and not the endpoint.
func (r *ramp) rested() {
	r.restart()
	r.probe = time.Time{}
}

// copies is what was brought back of a lane and is not settled.
type copies struct {
	waiting uint64 // all of it
	awake   uint64 // what was stored after those that are asleep
	last    uint64 // a sequence that none of them is behind
}

// room says how many more events may be released while so many of the
// endpoint's copies wait to be settled. Each that was settled makes room for
// Growth: there is always something under way, and never more than First and
// Growth times what was settled. Those that do not settle for as long as a
// probe takes are asleep: a retry in a quarter of an hour, or an event that
// never was in the lane. They no longer count, else one of them would hold up
// all the rest.
func (r *ramp) room(c copies, now time.Time) int {
	most := max(r.Most, manyCopies)
	limited := func(n uint64) int { return int(min(n, uint64(most))) } //nolint:gosec // a limit is not negative
	underWay := limited(c.awake)
	if underWay >= int(r.window) && now.After(r.probe) {
		r.restart()
		r.asleep, underWay = c.last, 0
	}
	if settled := r.out - underWay; settled > 0 {
		r.window = min(r.window+(r.Growth-1)*float64(settled), float64(r.Most))
	}
	r.out = underWay
	n := max(0, min(int(r.window)-underWay, most-limited(c.waiting)))
	if r.pace != nil {
		n = min(n, int(r.pace.TokensAt(now)))
	}
	return n
}

// released takes in that n more are under way.
func (r *ramp) released(n int, now time.Time) {
	r.out += n
	r.probe = now.Add(probeAfter)
	if r.pace != nil {
		r.pace.AllowN(now, n)
	}
}

// probing reports whether no event but the first ones was settled yet.
func (r *ramp) probing() bool { return int(r.window) <= r.First }
