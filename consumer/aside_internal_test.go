package consumer

import (
	"strconv"
	"testing"
	"time"
)

// fakeAsides have a clock that the test sets.
func fakeAsides() (a *asides, after func(time.Duration)) {
	now := time.Now()
	a = newAsides(10 * time.Second)
	a.nowFunc = func() time.Time { return now }
	return a, func(d time.Duration) { now = now.Add(d) }
}

// takeAll takes hands until none is free, and says how many that were. It puts
// off one message.
func takeAll(a *asides) (n int) {
	for a.take("key", "reply", false) {
		n++
	}
	return n
}

// Who finds no hand free is asked back when one is, the oldest first, unless
// the server has brought it back by itself.
func TestWhatIsPutOffIsAskedBack(t *testing.T) {
	a, after := fakeAsides()
	takeAll(a)
	after(2 * time.Second)
	for _, to := range []string{"first", "second", "third"} {
		if a.take("key", to, true) {
			t.Fatal("no hand was free")
		}
	}
	after(7 * time.Second)
	if n := a.size(); n != 3 {
		t.Errorf("%d are put off, want three: the first is back by now", n)
	}
	if due := a.due(false); len(due) != 0 {
		t.Errorf("%v are asked back although no hand is free", due)
	}
	a.free()
	a.free()
	if due := a.due(false); len(due) != 2 || due[0].reply != "first" || due[1].reply != "second" {
		t.Errorf("%v are asked back, want the first two", due)
	}
	a.free()
	after(handTick - time.Millisecond)
	if due := a.due(false); len(due) != 0 {
		t.Errorf("%v are asked back before what is new had its turn", due)
	}
	if due := a.due(true); len(due) != 1 || a.size() != 0 {
		t.Errorf("%v are asked back at the end, %d are left", due, a.size())
	}
}

// The server is told to wait for what was put off before it brings it back, a few
// messages at a time.
func TestWhatIsPutOffIsRenewed(t *testing.T) {
	const many = 2*renewMost + 1
	a, after := fakeAsides()
	takeAll(a)
	for i := range many - 1 {
		a.take("key", strconv.Itoa(i), true)
	}
	after(time.Duration(renewFrom*float64(a.keep)) - time.Millisecond)
	if early := a.renew(); len(early) != 0 {
		t.Errorf("%d are renewed too early", len(early))
	}
	after(time.Millisecond)
	seen := map[string]bool{}
	for _, want := range []int{renewMost, renewMost, 1, 0} {
		renewed := a.renew()
		if len(renewed) != want {
			t.Errorf("%d are renewed at once, want %d", len(renewed), want)
		}
		for _, p := range renewed {
			seen[p.reply] = true
		}
	}
	if len(seen) != many {
		t.Errorf("%d messages are renewed, want all %d", len(seen), many)
	}
	after(a.keep)
	if n := a.size(); n != many {
		t.Errorf("%d are known after they were renewed, want %d", n, many)
	}
	after(time.Millisecond)
	if n := a.size(); n != 0 {
		t.Errorf("%d are known for longer than the server waits", n)
	}
}

// There are few hands while healthy events come, and all as soon as none do.
func TestFewEventsAreMovedWhileHealthyOnesCome(t *testing.T) {
	a, after := fakeAsides()
	a.goesOn()
	if n := takeAll(a); n != fewHands {
		t.Errorf("%d hands beside healthy events, want %d", n, fewHands)
	}
	after(healthyFor - time.Millisecond)
	if n := takeAll(a); n != 0 {
		t.Errorf("%d more hands beside healthy events", n)
	}
	after(time.Millisecond)
	if n := takeAll(a); n != allHands-fewHands {
		t.Errorf("%d more hands when no healthy event comes, want %d", n, allHands-fewHands)
	}
	a.goesOn()
	a.free()
	if due := a.due(false); len(due) != 0 {
		t.Errorf("%v are asked back while more hands are at work than may", due)
	}
}

// While a queue of what is put off grows, more hands keep it from growing for ever.
func TestMoreAreMovedWhileMoreArePutOff(t *testing.T) {
	a, after := fakeAsides()
	a.goesOn()
	takeAll(a)
	a.take("key", "reply", true)
	if n := fewHands + takeAll(a); n != someHands {
		t.Errorf("%d hands while more is put off, want %d", n, someHands)
	}
	after(growsFor)
	a.goesOn()
	a.busy = 0
	if n := takeAll(a); n != fewHands {
		t.Errorf("%d hands when no more comes, want %d", n, fewHands)
	}
}

// An endpoint is sick while many events are put off and enough of them are its own.
func TestWhoIsSick(t *testing.T) {
	a, after := fakeAsides()
	takeAll(a) // puts off one
	for range stepFrom - 2 {
		a.take("key", "reply", true)
	}
	if a.sick("key") {
		t.Errorf("it is sick with %d events put off", stepFrom-1)
	}
	for range sickFrom - 1 {
		a.take("other", "reply", true)
	}
	if !a.sick("key") || a.sick("other") || a.sick("a third") {
		t.Errorf("sick: %v, the other one with %d: %v, a third: %v", a.sick("key"), sickFrom-1, a.sick("other"), a.sick("a third"))
	}
	if a.take("other", "reply", true); !a.sick("other") {
		t.Errorf("it is not sick with %d of many", sickFrom)
	}
	a.busy -= sickFrom
	if due := a.due(false); len(due) != sickFrom || a.sick("key") {
		t.Errorf("%d are asked back, and with %d left it is sick: %v", len(due), a.size(), a.sick("key"))
	}
	after(a.keep + 1)
	if n := a.size(); n != 0 || len(a.of) != 0 {
		t.Errorf("%d are put off, of %d endpoints", n, len(a.of))
	}
}

// A queue that gives out no more because too much of it is put off is moved at
// full speed, whoever goes by: behind it are healthy events. What is put off
// again says nothing of it.
func TestWhatCrowdsTheQueueIsMovedFast(t *testing.T) {
	for _, tc := range []struct {
		pending int
		first   bool
		want    int
	}{
		{pending: 79, first: true, want: someHands},
		{pending: 80, first: false, want: fewHands},
		{pending: 80, first: true, want: allHands},
	} {
		t.Run(strconv.Itoa(tc.pending)+" of 100, first "+strconv.FormatBool(tc.first), func(t *testing.T) {
			a, after := fakeAsides()
			a.polled(tc.pending, 100)
			a.goesOn()
			takeAll(a)
			a.take("key", "reply", tc.first)
			if got := fewHands + takeAll(a); got != tc.want {
				t.Errorf("%d hands, want %d", got, tc.want)
			}
			after(max(pressedFor, growsFor))
			a.goesOn()
			a.busy = 0
			if got := takeAll(a); got != fewHands {
				t.Errorf("%d hands when it is over, want %d", got, fewHands)
			}
		})
	}
}
