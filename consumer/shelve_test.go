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
		"held":                             {relay.Verdict{Action: relay.Defer, Place: relay.Parked}, false, true, relay.Parked},
		"held, from the lane":              {relay.Verdict{Action: relay.Defer, Place: relay.Parked}, true, false, relay.Parked},
		"kept after 410, from the lane":    {relay.Verdict{Action: relay.Retry, Place: relay.Parked}, true, true, relay.Parked},
		"busy":                             {relay.Verdict{Action: relay.Defer, After: time.Second}, false, false, relay.Asleep},
		"busy with a full budget":          {relay.Verdict{Action: relay.Defer, After: time.Second}, false, true, relay.Parked},
		"scheduled for later":              {relay.Verdict{Action: relay.Defer, After: 20 * 24 * time.Hour}, false, false, relay.Scheduled},
		"waiting for another's claim":      {relay.Verdict{Action: relay.Wait, After: time.Second}, false, false, relay.Asleep},
		"the same with a full budget":      {relay.Verdict{Action: relay.Wait, After: time.Second}, false, true, relay.Asleep},
		"a schedule still to be made":      {relay.Verdict{Action: relay.Wait, After: time.Hour}, false, false, relay.Scheduled},
	} {
		t.Run(name, func(t *testing.T) {
			con := &Consumer{Options: Options{MaxSleep: 15 * time.Minute}, sleep: newSleepBudget(10), asides: newAsides(time.Minute)}
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

// Of an endpoint of which many of many events are put off, no more of those that are refused
// go to sleep; others do, and so does what is to be tried again.
func TestTheRefusedOfASickEndpointDoNotSleep(t *testing.T) {
	con := &Consumer{Options: Options{MaxSleep: 15 * time.Minute}, sleep: newSleepBudget(10_000), asides: newAsides(time.Minute)}
	for range allHands + stepFrom {
		con.asides.take("sick", "reply", true)
	}
	busy, again := relay.Verdict{Action: relay.Defer, After: time.Second}, relay.Verdict{Action: relay.Retry, After: time.Second}
	for _, c := range []struct {
		endpoint string
		fromLane bool
		verdict  relay.Verdict
		want     relay.Place
	}{
		{"sick", false, busy, relay.Parked},
		{"sick", true, busy, relay.Asleep},
		{"sick", false, again, relay.Asleep},
		{"other", false, busy, relay.Asleep},
	} {
		got := con.shelve(message{meta: meta{fromLane: c.fromLane}}, relay.Webhook{EndpointKey: c.endpoint}, c.verdict)
		if got.Place != c.want || (got.Place == relay.Parked) != (got.After == 0) {
			t.Errorf("%+v: %q after %v", c, got.Place, got.After)
		}
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

// A rest can end early, and an event that is out of its lane has nobody who would
// wake it then.
func TestAnEventFromALaneDoesNotSleepForTheWholeRest(t *testing.T) {
	for _, most := range []int{10, 0} {
		con := &Consumer{Options: Options{MaxSleep: 15 * time.Minute}, sleep: newSleepBudget(most)}
		rest := relay.Verdict{Action: relay.Defer, After: time.Hour, Place: relay.Parked}
		got := con.shelve(message{meta: meta{fromLane: true}}, relay.Webhook{EndpointKey: "abc"}, rest)
		if got.Place == relay.Parked || got.After > askAgain {
			t.Errorf("%+v, want at most %v", got, askAgain)
		}
	}
}

func TestOneEndpointCannotUseUpTheSleepersOfAll(t *testing.T) {
	now := time.Now()
	s := newSleepBudget(5_000)
	s.nowFunc = func() time.Time { return now }
	for i := range endpointSleepers {
		if !s.take("greedy", time.Minute, false) {
			t.Fatalf("refused at %d", i)
		}
	}
	if s.take("greedy", time.Minute, false) {
		t.Error("one endpoint has more sleepers than it may")
	}
	if !s.take("modest", time.Minute, false) {
		t.Error("another endpoint has none")
	}
	now = now.Add(time.Minute)
	if !s.take("greedy", time.Minute, false) {
		t.Error("those that woke are still counted")
	}
	for range endpointSleepers {
		if !s.take("greedy", time.Minute, true) {
			t.Fatal("what came from its lane would go to another place, and the lane drain on")
		}
	}
	now = now.Add(time.Minute)
	s.take("greedy", time.Minute, false)
	if len(s.wakings) != 1 || s.byKey["greedy"] != 1 {
		t.Errorf("%d wakings and %d of the endpoint are kept, want 1", len(s.wakings), s.byKey["greedy"])
	}
}

// Most of what is pending may be a queue that is being set aside. Some room is
// left for what is to come.
func TestWhatIsPutOffKeepsNobodyFromSleeping(t *testing.T) {
	s := newSleepBudget(150_000)
	s.polled(100_000)
	if !s.take("modest", time.Minute, false) {
		t.Error("nobody may sleep beside a queue of 100,000 that was put off")
	}
	s.polled(120_000)
	if s.take("modest", time.Minute, false) {
		t.Error("sleepers may use up what room there is")
	}
	s = newSleepBudget(20)
	for i := range 10 {
		if !s.take("modest", time.Minute, false) {
			t.Fatalf("refused at %d", i)
		}
	}
	if s.take("modest", time.Minute, false) {
		t.Error("this process has more sleepers than half of what may be pending")
	}
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
