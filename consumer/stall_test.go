package consumer

import (
	"testing"
	"time"
)

func TestAStallIsWorkThatWaitsWhileNothingMoves(t *testing.T) {
	work := map[string]Queue{StreamQueue: {Pending: 1}}
	none := map[string]Queue{StreamQueue: {AckPending: 7}}
	for name, c := range map[string]struct {
		delivered func(second int) uint64
		queues    map[string]Queue
		busy      bool
		stalled   bool
	}{
		"waiting, and nothing moves": {func(int) uint64 { return 5 }, work, false, true},
		"waiting, and it moves":      {func(s int) uint64 { return uint64(s) }, work, false, false},
		"nothing to do":              {func(int) uint64 { return 5 }, none, false, false},
		"all hands are full":         {func(int) uint64 { return 5 }, work, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			var s stall
			begin := time.Now()
			var got time.Duration
			for second := range 30 {
				got = s.look(begin.Add(time.Duration(second)*time.Second), c.delivered(second), c.queues, c.busy)
				if got > 0 && second < int(stallAfter/time.Second) {
					t.Fatalf("a stall after %d s", second)
				}
			}
			if (got > 0) != c.stalled {
				t.Errorf("stalled for %v, want %v", got, c.stalled)
			}
			if c.stalled && s.look(begin.Add(31*time.Second), 6, c.queues, false) != 0 {
				t.Error("it moves again and is still called a stall")
			}
		})
	}
}
