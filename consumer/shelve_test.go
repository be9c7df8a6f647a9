package consumer

import (
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

func TestShelve(t *testing.T) {
	const ep = "abc"
	for name, c := range map[string]struct {
		verdict  relay.Verdict
		fromLane bool
		full     bool // the budget of sleepers is used up
		want     relay.Place
	}{
		"delivered":                        {relay.Verdict{Action: relay.Delivered}, false, false, relay.Gone},
		"duplicate":                        {relay.Verdict{Action: relay.Duplicate}, false, false, relay.Gone},
		"a newer generation":               {relay.Verdict{Action: relay.Superseded}, false, false, relay.Gone},
		"failed":                           {relay.Verdict{Action: relay.Failed}, false, false, relay.DeadLetters},
		"dead":                             {relay.Verdict{Action: relay.Dead}, false, false, relay.DeadLetters},
		"a short retry":                    {relay.Verdict{Action: relay.Retry, After: time.Minute}, false, false, relay.Asleep},
		"a long retry":                     {relay.Verdict{Action: relay.Retry, After: time.Hour}, false, false, relay.Scheduled},
		"a short retry with a full budget": {relay.Verdict{Action: relay.Retry, After: time.Minute}, false, true, relay.Scheduled},
		"an open circuit":                  {relay.Verdict{Action: relay.Defer, After: time.Minute, Place: relay.Parked}, false, false, relay.Parked},
		"an open circuit, from the lane":   {relay.Verdict{Action: relay.Defer, After: time.Minute, Place: relay.Parked}, true, false, relay.Asleep},
		"from the lane, full budget":       {relay.Verdict{Action: relay.Defer, After: time.Minute, Place: relay.Parked}, true, true, relay.Scheduled},
		"busy":                             {relay.Verdict{Action: relay.Defer, After: time.Second}, false, false, relay.Asleep},
		"busy with a full budget":          {relay.Verdict{Action: relay.Defer, After: time.Second}, false, true, relay.Parked},
		"scheduled for later":              {relay.Verdict{Action: relay.Defer, After: 20 * 24 * time.Hour}, false, false, relay.Scheduled},
		"waiting for another's claim":      {relay.Verdict{Action: relay.Wait, After: time.Second}, false, false, relay.Asleep},
		"the same with a full budget":      {relay.Verdict{Action: relay.Wait, After: time.Second}, false, true, relay.Asleep},
		"a schedule still to be made":      {relay.Verdict{Action: relay.Wait, After: time.Hour}, false, false, relay.Scheduled},
	} {
		t.Run(name, func(t *testing.T) {
			con := &Consumer{Options: Options{MaxSleep: 15 * time.Minute}, sleep: newSleepBudget(10)}
			if c.full {
				con.sleep.polled(10)
			}
			got := con.shelve(message{meta: meta{fromLane: c.fromLane}}, relay.Webhook{EndpointKey: ep}, c.verdict)
			if got.Place != c.want {
				t.Errorf("place %q, want %q", got.Place, c.want)
			}
			if got.Place == relay.Parked && got.After != 0 {
				t.Errorf("a lane has no timer, but the verdict waits %v", got.After)
			}
		})
	}
}

// JetStream's clock is far ahead: it fires at once whatever is scheduled for the
// time that is left by Postgres' clock.
func TestACopyThatComesEarlyIsNotScheduledAgain(t *testing.T) {
	con := &Consumer{Options: Options{MaxSleep: 15 * time.Minute}, sleep: newSleepBudget(0)}
	early := message{meta: meta{copied: true}}
	got := con.shelve(early, relay.Webhook{EndpointKey: "abc"}, relay.Verdict{Action: relay.Wait, After: time.Hour, Place: relay.Scheduled})
	if got.Place != relay.Asleep || got.After != con.MaxSleep {
		t.Errorf("%+v, want asleep for %v", got, con.MaxSleep)
	}
}

func TestOneEndpointCannotUseUpTheSleepersOfAll(t *testing.T) {
	now := time.Now()
	s := newSleepBudget(5_000)
	s.nowFunc = func() time.Time { return now }
	for i := range endpointSleepers {
		if !s.take("greedy", time.Minute) {
			t.Fatalf("refused at %d", i)
		}
	}
	if s.take("greedy", time.Minute) {
		t.Error("one endpoint has more sleepers than it may")
	}
	if !s.take("modest", time.Minute) {
		t.Error("another endpoint has none")
	}
	now = now.Add(time.Minute)
	if !s.take("greedy", time.Minute) {
		t.Error("those that woke are still counted")
	}
	if len(s.wakings) != 1 || s.byKey["greedy"] != 1 {
		t.Errorf("%d wakings and %d of the endpoint are kept, want 1", len(s.wakings), s.byKey["greedy"])
	}
}

func TestLaneOpensAsItsEventsSettle(t *testing.T) {
	now := time.Now()
	la := &lane{window: 1}
	look := func(underWay uint64, want int) {
		t.Helper()
		got := la.room(underWay, now)
		if got != want {
			t.Fatalf("with %d under way it releases %d, want %d", underWay, got, want)
		}
		if got > 0 {
			la.released, la.probe = got, now.Add(probeAfter)
		}
		now = now.Add(laneTick)
	}
	look(0, 1) // the probe
	look(1, 0) // not settled: nothing more
	look(0, 2) // settled: twice as many
	look(1, 1) // one of two: the window stays full
	look(0, 4)
	for want := 8; want < maxWindow; want *= 2 {
		look(0, want)
	}
	look(0, maxWindow)
	look(maxWindow, 0)
	now = now.Add(probeAfter)
	look(maxWindow-1, 1) // nothing settles: one probe now and then
	look(maxWindow, 0)
}

// One copy that sleeps for long, such as a retry in a quarter of an hour, does
// not hold up the events that are parked behind it.
func TestASleepingCopyDoesNotHoldUpItsLane(t *testing.T) {
	now := time.Now()
	la := &lane{window: 1}
	look := func(waiting uint64, want int) {
		t.Helper()
		got := la.room(waiting, now)
		if got != want {
			t.Fatalf("with %d copies it releases %d, want %d", waiting, got, want)
		}
		if got > 0 {
			la.released, la.probe = got, now.Add(probeAfter)
		}
		now = now.Add(laneTick)
	}
	look(0, 1)
	look(1, 0) // the probe failed, and sleeps
	now = now.Add(probeAfter)
	look(1, 1) // another one
	look(2, 0) // on its way
	look(1, 2) // settled: the endpoint takes them
	look(3, 0)
	for want := 4; want < maxWindow; want *= 2 {
		look(1, want)
	}
	look(1, maxWindow-1) // never more copies than that, sleeping or not
	look(maxWindow, 0)
	look(0, maxWindow) // it woke, and was delivered
}

func TestSlotsAskForWhatIsFree(t *testing.T) {
	s := newSlots(8)
	take := func(want int) {
		t.Helper()
		if n, ok := s.take(); !ok || n != want {
			t.Fatalf("took %d, %v; want %d", n, ok, want)
		}
	}
	take(8)
	for range 6 {
		s.fill()
	}
	s.free()
	take(1) // six are busy or free again, two asked for: no more than a quarter
	s.giveBack(3)
	take(3)
	s.close()
	if _, ok := s.take(); ok {
		t.Error("a closed one still gives")
	}
}
