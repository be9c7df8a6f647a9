package consumer

import (
	"container/heap"
	"sync"
	"time"

	"github.com/relaywebhooks/relay"
)

// shelve chooses where a webhook goes with this verdict: the three shelves of
// DESIGN §3 for what waits, the dead letters for what died, nowhere for what is
// done. The choice is recorded before it is carried out.
//
//   - asleep: NakWithDelay, for short waits while few are asleep;
//   - schedule: a JetStream schedule, for long waits and when too many sleep;
//   - lane: behind an open circuit, or while its endpoint is held, with no timer
//     at all.
//
// An event that came from its lane is not parked again behind an open circuit: it
// sleeps, and the lane stops draining. It asks anew before long, however long the
// rest: somebody may end that, and nothing else would wake it. While its endpoint
// is held (nobody knows for how long) the lane does not drain, and takes it back.
// A copy that came before its time sleeps as well, and for MaxSleep at most: where
// JetStream's clock is ahead of the others, a schedule would bring it back at
// once, for ever.
func (c *Consumer) shelve(m message, w relay.Webhook, v relay.Verdict) relay.Verdict {
	switch {
	case v.Action.Buried():
		v.Place = relay.DeadLetters
		return v
	case v.Action != relay.Retry && v.Action != relay.Defer && v.Action != relay.Wait:
		v.Place = relay.Gone
		return v
	case v.Action != relay.Wait && v.Place == relay.Parked && (v.After == 0 || !m.fromLane):
		v.After = 0 // a lane has no timer
		return v
	}
	if v.Action == relay.Defer && v.Place == relay.Parked {
		v.After = min(v.After, askAgain, c.MaxSleep)
	}
	v.After = max(v.After, minSleep)
	if v.Action == relay.Wait && (m.copied || v.After <= c.MaxSleep) {
		v.Place, v.After = relay.Asleep, min(v.After, c.MaxSleep)
		c.sleep.take(w.EndpointKey, v.After, false) // counted; if there is no place, it takes one all the same
		return v
	}
	refused := v.Action == relay.Defer && !m.fromLane
	switch {
	case v.After > c.MaxSleep:
		v.Place = relay.Scheduled
	case refused && c.asides.sick(w.EndpointKey):
		v.Place, v.After = relay.Parked, 0
	case c.sleep.take(w.EndpointKey, v.After, v.Action == relay.Defer && m.fromLane):
		v.Place = relay.Asleep
	case refused:
		v.Place, v.After = relay.Parked, 0
	default:
		v.Place = relay.Scheduled
	}
	return v
}

const (
	// minSleep keeps an event that is due this instant from spinning.
	minSleep = 50 * time.Millisecond
	// askAgain is the longest that an event from a lane sleeps while its endpoint
	// rests: as long as the lane waits before it sends another probe.
	askAgain = probeAfter
)

// endpointSleepers bounds the sleeping messages of one endpoint in this
// process, so that one endpoint cannot use up the budget of all.
const endpointSleepers = 500

// mostAsleep bounds the sleeping messages of this process.
const mostAsleep = 50_000

// sleepBudget counts sleeping messages. A sleeping message keeps its place in
// the consumer's MaxAckPending, and each makes every other a little slower: at
// 100,000 the healthy ones wait 15 ms at the 99th percentile. What the server
// says is pending does not only sleep: a sick endpoint's queue that is being set
// aside may be most of it, and must not keep the few from sleeping that come
// back from its lane. It is safe for concurrent use.
type sleepBudget struct {
	mu      sync.Mutex
	asleep  int            // as many may sleep by this process
	most    int            // as many may be pending when one more goes to sleep
	pending int            // NumAckPending as the server last said: of all processes
	since   int            // put to sleep here since then
	byKey   map[string]int // asleep from this process
	wakings wakings        // when each of them wakes
	nowFunc func() time.Time
}

func newSleepBudget(maxAckPending int) *sleepBudget {
	return &sleepBudget{
		asleep: min(maxAckPending/2, mostAsleep), most: int(crowdedAt * float64(maxAckPending)),
		byKey: map[string]int{}, nowFunc: time.Now,
	}
}

// take reserves a place for one sleeper of the endpoint, until after has
// passed. It reports false when there is none. The share of one endpoint is no
// limit to what came from its lane: the lane has one of its own, and would go on
// draining if this one went to another place.
func (s *sleepBudget) take(endpointKey string, after time.Duration, fromLane bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.nowFunc()
	s.wake(now)
	if len(s.wakings) >= s.asleep || s.pending+s.since >= s.most || s.byKey[endpointKey] >= endpointSleepers && !fromLane {
		return false
	}
	s.since++
	s.byKey[endpointKey]++
	heap.Push(&s.wakings, waking{at: now.Add(after), key: endpointKey})
	return true
}

// polled takes in what the server says of its consumers.
func (s *sleepBudget) polled(ackPending int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending, s.since = ackPending, 0
	s.wake(s.nowFunc())
}

// wake forgets those that are due.
func (s *sleepBudget) wake(now time.Time) {
	for len(s.wakings) > 0 && !s.wakings[0].at.After(now) {
		w, _ := heap.Pop(&s.wakings).(waking)
		if s.byKey[w.key]--; s.byKey[w.key] <= 0 {
			delete(s.byKey, w.key)
		}
	}
}

// waking is when a sleeper of an endpoint wakes.
type waking struct {
	at  time.Time
	key string
}

// wakings is a heap, soonest first.
type wakings []waking

func (h *wakings) Len() int           { return len(*h) }
func (h *wakings) Less(i, j int) bool { return (*h)[i].at.Before((*h)[j].at) }
func (h *wakings) Swap(i, j int)      { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }

// Push is for container/heap.
func (h *wakings) Push(x any) {
	if w, ok := x.(waking); ok {
		*h = append(*h, w)
	}
}

// Pop is for container/heap.
func (h *wakings) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
