package policy

import (
	"sync"
	"time"
)

const (
	// slowAfter is how long a call to a quick endpoint lasts at most.
	slowAfter = 250 * time.Millisecond
	// patience is how long a call waits at most where it would else be refused.
	patience = 50 * time.Millisecond
	// stillFor is how long an endpoint may complete no call before nobody waits
	// for it any more.
	stillFor = 100 * time.Millisecond
)

// flights shares the calls in flight between all endpoints of a set, so that
// the slow ones, however many there are, leave room for the quick ones.
//
// An endpoint is slow while its calls take longer than slowAfter, smoothed, or
// one of them has been in flight for longer. Nobody has to look at it for that:
// all calls are kept in the order in which they began, and whoever comes next
// takes from the front of that list what has become old.
//
// Its lock is taken last of all.
type flights struct {
	mu             sync.Mutex
	oldest, newest *flight // of those that are not old
	endpoints      int     // slow ones with calls in flight
	calls          int     // in flight to these
	tenants        int     // to whom these endpoints belong
	shared         bool    // more than one tenant is known
}

// flight is one call in flight.
type flight struct {
	load           *load // nil before and after
	began          time.Time
	old            bool
	before, beyond *flight // while it is not old
}

// load is one endpoint's part in flights, guarded by its lock.
type load struct {
	tenant     *tenant       // whose it is; never changed
	calls, old int           // in flight, and how many of them have become old
	waiting    int           // calls that wait for a slot
	took       time.Duration // how long a call takes, smoothed; 0 before the first
	moved      time.Time     // the last call was completed, or the first of several began
}

func (l *load) slow() bool { return l.old > 0 || l.took > slowAfter }

// quick reports whether the endpoint is proven to be quick: an endpoint that
// has completed no call is neither quick nor slow.
func (l *load) quick() bool { return l.took > 0 && !l.slow() }

// soon reports whether one of n slots, all taken, is about to come free for one
// more call. Of an endpoint that has completed no call yet that is believed for
// as long as it may be quick: a first burst would else be refused.
func (l *load) soon(n int, now time.Time) bool {
	return !l.slow() && now.Sub(l.moved) <= stillFor &&
		time.Duration(l.waiting+1)*l.took <= patience*time.Duration(n)
}

// crowded is the error of a call for which the slow endpoints leave no room.
type crowded struct {
	share  int  // 0: nothing is left for any slow endpoint
	tenant bool // it is the tenant that has its share
}

func (c *crowded) Error() string {
	switch {
	case c.tenant:
		return "its tenant's share of relay's slow calls is used up"
	case c.share == 0:
		return "relay's slow calls are used up"
	}
	return "its share of relay's slow calls is used up"
}

// atATime is how many calls the endpoint may have in flight meanwhile.
func (c *crowded) atATime() int { return max(1, c.share) }

// begin counts a call as in flight, if there is room for it.
func (f *flights) begin(x *flight, l *load, o *Options) *crowded {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.age(now)
	if refused := f.crowded(l, o); refused != nil {
		return refused
	}
	if l.calls == 0 {
		l.moved = now
	}
	f.count(l, -1)
	l.calls++
	f.count(l, +1)
	x.load, x.began = l, now
	f.append(x)
	return nil
}

// end takes a call out that is in flight no more. Took is how long the
// endpoint's calls take now; answered is false if it made no request.
func (f *flights) end(x *flight, took time.Duration, answered bool) {
	if x.load == nil {
		return // it never began
	}
	l := x.load
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count(l, -1)
	l.calls--
	if x.old {
		l.old--
	} else {
		f.remove(x)
	}
	l.took = took
	if answered {
		l.moved = time.Now()
	}
	f.count(l, +1)
	x.load = nil
}

// crowded is the rule of sharing. Slow endpoints, and those of which nothing is
// known yet, may have o.SlowCalls in flight together. Until half of that is
// used each may have as many as it likes, then an equal share of the half. The
// last eighth is left to those of which nothing is known: else a new endpoint
// would have to wait until one of many that hang times out. Quick ones are not
// affected.
//
// Where there are tenants they share the half first, and a tenant's endpoints
// share its part: a thousand that hang leave room for another tenant's only one.
func (f *flights) crowded(l *load, o *Options) *crowded {
	most, shared := o.SlowCalls, o.SlowCalls/2
	if l.slow() {
		most -= o.SlowCalls / 8
	}
	switch {
	case 2*f.calls < o.SlowCalls, l.quick():
		return nil
	case f.calls >= most:
		return &crowded{}
	}
	if t := l.tenant; t.name != "" || f.shared {
		shared = f.share(t, o)
		left := shared
		if !l.slow() {
			left += o.SlowCalls / 8
		}
		if t.calls >= max(1, left) {
			return &crowded{tenant: true}
		}
	}
	if share := max(1, shared/max(1, l.tenant.slow)); l.calls >= share {
		return &crowded{share: share}
	}
	return nil
}

// share is how many slow calls a tenant may have in flight once half of all are.
func (f *flights) share(t *tenant, o *Options) int {
	if part := o.tenant(t.name).Share; part > 0 {
		return int(part * float64(o.SlowCalls))
	}
	tenants := f.tenants
	if t.slow == 0 {
		tenants++
	}
	return o.SlowCalls / 2 / max(1, tenants)
}

// known takes in how many tenants there are, whether they have calls in flight
// or not.
func (f *flights) known(tenants int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shared = tenants > 1
}

// wait counts a call that begins to wait for one of n slots, if that is worth
// while.
func (f *flights) wait(l *load, n int) bool {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.age(now)
	if !l.soon(n, now) {
		return false
	}
	l.waiting++
	return true
}

func (f *flights) waited(l *load) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.waiting--
}

// look says, taking nothing, whether a call would find no slot, or no room
// among all calls in flight.
func (f *flights) look(l *load, s *slots, o *Options, now time.Time) (full bool, _ *crowded) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.age(now)
	if s.full() && !l.soon(s.size, now) {
		return true, nil
	}
	return false, f.crowded(l, o)
}

// room is look for an endpoint that is not known: it has slots.
func (f *flights) room(l *load, o *Options, now time.Time) *crowded {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.age(now)
	return f.crowded(l, o)
}

// slow counts the slow endpoints that have calls in flight, and these calls.
func (f *flights) slow(now time.Time) (endpoints, calls int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.age(now)
	return f.endpoints, f.calls
}

// age makes those calls old that have been in flight for too long.
func (f *flights) age(now time.Time) {
	for f.oldest != nil && now.Sub(f.oldest.began) > slowAfter {
		x := f.oldest
		f.remove(x)
		f.count(x.load, -1)
		x.old = true
		x.load.old++
		f.count(x.load, +1)
	}
}

// count adds an endpoint to the slow ones, if it is one, or takes it out: it
// goes around every change of a load.
func (f *flights) count(l *load, sign int) {
	if l.calls > 0 && l.slow() {
		f.endpoints += sign
		f.calls += sign * l.calls
		f.tenants += l.tenant.count(l.calls, sign)
	}
}

func (f *flights) append(x *flight) {
	x.before = f.newest
	if f.newest == nil {
		f.oldest = x
	} else {
		f.newest.beyond = x
	}
	f.newest = x
}

func (f *flights) remove(x *flight) {
	if x.before == nil {
		f.oldest = x.beyond
	} else {
		x.before.beyond = x.beyond
	}
	if x.beyond == nil {
		f.newest = x.before
	} else {
		x.beyond.before = x.before
	}
	x.before, x.beyond = nil, nil
}
