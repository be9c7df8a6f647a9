package consumer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// While many are put off, or asleep, acknowledgements wait for a step, all for the
// same, and no longer than two steps take.
func TestAcknowledgementsInStep(t *testing.T) {
	for name, fill := range map[string]func(*asides){
		"put off": func(a *asides) {
			for range stepFrom + allHands {
				a.take("key", "reply", true)
			}
		},
		"asleep": func(a *asides) { a.polled(stepFrom, 100*stepFrom) },
	} {
		t.Run(name, func(t *testing.T) { acknowledgeInStep(t, fill) })
	}
}

func acknowledgeInStep(t *testing.T, fill func(*asides)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		con := &Consumer{asides: newAsides(time.Minute), steps: newSteps(), Options: Options{At: func(Point) {}}}
		waited := func() time.Duration {
			if err := con.ack(t.Context(), message{Msg: acknowledged{}}); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		con.asides.polled(stepFrom-1, 100*stepFrom)
		if d := waited(); d != 0 {
			t.Errorf("it waited %v with few out", d)
		}
		fill(con.asides)
		all := make(chan time.Duration)
		for range 3 {
			go func() { all <- waited() }()
		}
		time.Sleep(moveTick)
		con.steps.step(false)
		for range 3 {
			if d := <-all; d != moveTick {
				t.Errorf("it waited %v, want %v", d, moveTick)
			}
		}
		if d := waited(); d != 3*moveTick {
			t.Errorf("nobody steps any more, and it waited until %v, want %v", d, 3*moveTick)
		}
	})
}

// What goes to sleep is told to the server at the next step, and at once when there
// is none any more.
func TestSleepersInStep(t *testing.T) {
	con := &Consumer{steps: newSteps()}
	slept := &sleeping{reply: "one"}
	if err := con.putToSleep(message{Msg: slept}, time.Second); err != nil || slept.after != 0 {
		t.Fatalf("it slept %v before the step: %v", slept.after, err)
	}
	if got := con.steps.step(true); len(got) != 1 || got[0] != (sleeper{reply: "one", after: time.Second}) {
		t.Errorf("at the step %v go to sleep", got)
	}
	if got := con.steps.step(true); len(got) != 0 {
		t.Errorf("at the next one %v again", got)
	}
	if err := con.putToSleep(message{Msg: slept}, time.Minute); err != nil || slept.after != time.Minute {
		t.Errorf("after the last step it slept %v: %v", slept.after, err)
	}
}

// sleeping is a message that remembers how long it shall sleep.
type sleeping struct {
	jetstream.Msg
	reply string
	after time.Duration
}

func (s *sleeping) Reply() string { return s.reply }

func (s *sleeping) NakWithDelay(after time.Duration) error {
	s.after = after
	return nil
}

// acknowledged is a message to a server that answers at once.
type acknowledged struct{ jetstream.Msg }

func (acknowledged) DoubleAck(context.Context) error { return nil }
