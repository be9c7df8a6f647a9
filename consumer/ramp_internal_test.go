package consumer

import (
	"math/rand/v2"
	"testing"
	"time"
)

// rampLooks looks at a lane again and again.
type rampLooks struct {
	*testing.T
	ramp
	now    time.Time
	last   uint64
	copies []uint64 // their sequences
}

func newRampLooks(t *testing.T, o LaneOptions) *rampLooks {
	t.Helper()
	return &rampLooks{T: t, ramp: newRamp(o.withDefaults()), now: time.Now()}
}

// look looks when so many copies wait, the oldest of those there were.
func (l *rampLooks) look(waiting, want int) {
	l.Helper()
	l.copies = l.copies[:waiting]
	if got := l.step(); got != want {
		l.Fatalf("with %d copies it releases %d, want %d", waiting, got, want)
	}
}

// step looks, and releases what there is room for.
func (l *rampLooks) step() int {
	awake := uint64(0)
	for _, sequence := range l.copies {
		if sequence > l.asleep {
			awake++
		}
	}
	n := min(l.room(copies{waiting: uint64(len(l.copies)), awake: awake, last: l.last}, l.now), maxBatch)
	if n > 0 {
		l.released(n, l.now)
	}
	for range n {
		l.last++
		l.copies = append(l.copies, l.last)
	}
	l.now = l.now.Add(laneTick)
	return n
}

func TestLaneOpensAsItsEventsSettle(t *testing.T) {
	l := newRampLooks(t, LaneOptions{})
	l.look(0, 1) // the probe
	l.look(1, 0) // not settled: nothing more
	l.look(0, 2) // settled: twice as many
	l.look(1, 2) // one of two is settled: it makes room for two
	l.look(3, 0)
	l.look(0, 6)
	for want := 12; want < l.Most; want *= 2 {
		l.look(0, want)
	}
	l.look(0, l.Most)
	l.look(l.Most-7, 7) // what is settled is replaced before the rest is
	l.look(l.Most, 0)
	l.now = l.now.Add(probeAfter)
	l.look(l.Most-1, 1) // nothing settles: one probe now and then
	l.look(l.Most, 0)
}

func TestTheRampIsConfigurable(t *testing.T) {
	l := newRampLooks(t, LaneOptions{First: 10, Growth: 1.5, Most: 30})
	for _, want := range []int{10, 15, 22, 30, 30} {
		l.look(0, want)
	}
	l = newRampLooks(t, LaneOptions{First: 4, Growth: 1})
	for range 3 {
		l.look(0, 4)
	}
	l = newRampLooks(t, LaneOptions{First: 100, Rate: 20})
	l.now = time.Now()
	l.look(0, 2) // a tenth of a second's worth
	l.look(0, 0)
	l.now = l.now.Add(50*time.Millisecond - 2*laneTick)
	l.look(0, 1)
	l.now = l.now.Add(time.Hour)
	l.look(0, 2)
}

// However the copies are settled, never more are under way than what was
// settled allows.
func TestADrainNeverExceedsTheRamp(t *testing.T) {
	for _, o := range []LaneOptions{{}, {First: 3, Growth: 1.3, Most: 40}, {First: 5, Growth: 10, Most: 2000}, {Growth: 1}} {
		o = o.withDefaults()
		l := newRampLooks(t, o)
		settled := 0
		for range 1000 {
			l.step()
			underWay := len(l.copies)
			if most := min(float64(o.Most), float64(o.First)+(o.Growth-1)*float64(settled)); float64(underWay) > most+1e-6 {
				t.Fatalf("%+v: %d under way after %d were settled, want at most %.1f", o, underWay, settled, most)
			}
			done := rand.IntN(underWay + 1)
			rand.Shuffle(underWay, func(i, j int) { l.copies[i], l.copies[j] = l.copies[j], l.copies[i] })
			l.copies, settled = l.copies[done:], settled+done
		}
		if o.Growth > 1 && l.window != float64(o.Most) {
			t.Errorf("%+v: the window is %.1f after %d were settled", o, l.window, settled)
		}
	}
}

// One copy that sleeps for long, such as a retry in a quarter of an hour, does
// not hold up the events that are parked behind it.
func TestASleepingCopyDoesNotHoldUpItsLane(t *testing.T) {
	l := newRampLooks(t, LaneOptions{Most: manyCopies})
	l.look(0, 1)
	l.look(1, 0) // the probe failed, and sleeps
	l.now = l.now.Add(probeAfter)
	l.look(1, 1) // another one
	l.look(2, 0) // on its way
	l.look(1, 2) // settled: the endpoint takes them
	l.look(3, 0)
	for want := 4; want < l.Most; want *= 2 {
		l.look(1, want)
	}
	l.look(1, manyCopies-1) // never more copies than that, sleeping or not
	l.look(manyCopies, 0)
	l.look(0, manyCopies) // it woke, and was delivered
}

// What was asleep and is settled makes no room for good: the lane's limit stays what
// it is, however many slept before.
func TestWhatWasAsleepMakesNoRoom(t *testing.T) {
	l := newRampLooks(t, LaneOptions{First: 2, Most: 20})
	l.look(0, 2)
	l.now = l.now.Add(probeAfter)
	l.look(2, 2)            // both are asleep
	l.copies = l.copies[2:] // and come to their end before the two probes
	l.look(1, 2)            // of which one is settled
	for range 10 {
		if l.step(); len(l.copies) > l.Most {
			t.Fatalf("%d under way, want at most %d", len(l.copies), l.Most)
		}
		l.copies = l.copies[len(l.copies)/2:] // never all of them
	}
	if l.step(); len(l.copies) != l.Most {
		t.Errorf("%d under way, want %d", len(l.copies), l.Most)
	}
}
