package bench

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Kind is how an endpoint behaves.
type Kind string

// The kinds of endpoints. All but the last two answer; only the first two are
// waited for, because what the others get is tried again minutes later.
const (
	Healthy Kind = "healthy" // 200 at once
	Slow    Kind = "slow"    // 200 after Options.Slow
	Flap    Kind = "flap"    // 500 and 200 by turns, each for Options.FlapEvery
	Fail    Kind = "fail"    // 500
	Limit   Kind = "limit"   // 429 with Retry-After
	Hang    Kind = "hang"    // no answer
	Refuse  Kind = "refuse"  // no connection
)

// Kinds are all kinds, in the order of reports.
func Kinds() []Kind { return []Kind{Healthy, Slow, Flap, Fail, Limit, Hang, Refuse} }

// awaited reports whether an event for such an endpoint must be delivered
// before the run is over.
func (k Kind) awaited() bool { return k == Healthy || k == Slow }

// Shares say which part of the endpoints is sick, each between 0 and 1. The
// rest is healthy.
type Shares map[Kind]float64

func (s Shares) validate(endpoints int) error {
	var sum float64
	var faults []error
	for kind, share := range s {
		sum += share
		if kind == Healthy || !slices.Contains(Kinds(), kind) {
			faults = append(faults, fmt.Errorf("bench: there are no shares of %q endpoints: want one of %v", kind, Kinds()[1:]))
		}
		if share < 0 || share > 1 || math.IsNaN(share) {
			faults = append(faults, fmt.Errorf("bench: the share of %s endpoints is %v: want 0 to 1", kind, share))
		}
		if n := share * float64(endpoints); n > 0 && n < 0.999 {
			faults = append(faults, fmt.Errorf("bench: %v of %d endpoints is less than one %s endpoint: take more endpoints", share, endpoints, kind))
		}
	}
	if sum > 1.000001 {
		faults = append(faults, fmt.Errorf("bench: the shares add up to %v, more than 1", sum))
	}
	return errors.Join(faults...)
}

// spread says of what kind each endpoint is. The kinds are mixed evenly, so
// that events that take the endpoints in turn take the kinds in turn too: each
// place goes to the kind that is furthest behind its share.
func (s Shares) spread(endpoints int) []Kind {
	healthy := 1.0
	for _, share := range s {
		healthy -= share
	}
	kinds := make([]Kind, endpoints)
	behind := map[Kind]float64{}
	for i := range kinds {
		kinds[i] = Healthy
		for _, kind := range Kinds() {
			share := s[kind]
			if kind == Healthy {
				share = healthy
			}
			behind[kind] += share
			if behind[kind] > behind[kinds[i]]+1e-9 {
				kinds[i] = kind
			}
		}
		behind[kinds[i]]--
	}
	return kinds
}

// event is one webhook of a run, known by its place in the run's slice.
type event struct {
	kind     Kind
	endpoint int // of those of its kind and part
	part     part
}

// part is a part of the run.
type part byte

const (
	warmUp part = 'w' // before anything is measured
	queued part = 'q' // published first, in one go, for one endpoint
	load   part = 'l' // what is measured
)

// plan lists all events of a run in the order in which they are published.
func (o Options) plan() []event {
	events := make([]event, 0, o.WarmUp+o.Queued+o.Events)
	kinds := o.Shares.spread(o.Endpoints)
	well := max(0, slices.Index(kinds, Healthy))
	for range o.WarmUp {
		events = append(events, event{Healthy, well, warmUp})
	}
	for range o.Queued {
		events = append(events, event{o.QueuedAs, 0, queued})
	}
	for i := range o.Events {
		n := i % o.Endpoints
		events = append(events, event{kinds[n], n, load})
	}
	return events
}

// url is where the event goes: the path is the endpoint, and tells the receiver
// how to behave; the query tells which event it is. The warm-up goes to an
// endpoint of the load, so that relay knows one.
func (e event) url(run string, index int, receiver, refusing string) string {
	base := receiver
	if e.kind == Refuse {
		base = refusing
	}
	p := e.part
	if p == warmUp {
		p = load
	}
	return base + "/" + string(e.kind) + "/" + string(p) + strconv.Itoa(e.endpoint) + "-" + run + "?" + strconv.Itoa(index)
}
