package policy_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

// volley makes n calls at once, answers how many were refused, and how long the
// last refusal took.
func volley(t *testing.T, s *policy.Set, n int, f send) (refused int64, longest time.Duration) {
	t.Helper()
	var calls sync.WaitGroup
	var count, last atomic.Int64
	start := time.Now()
	for range n {
		calls.Go(func() {
			if _, v := do(t, s, f); v.Action == relay.Defer {
				count.Add(1)
				last.Store(int64(time.Since(start)))
			}
		})
	}
	calls.Wait()
	return count.Load(), time.Duration(last.Load())
}

// patience is how long a call waits for a slot at most.
const patience = 50 * time.Millisecond

// As many calls as a worker has slots, for an endpoint that has a slot for one
// in four: they wait, unless it is too slow for all of them.
func TestABurstToAFastEndpointWaits(t *testing.T) {
	for _, test := range []struct {
		takes   time.Duration
		refused int64
	}{
		{time.Millisecond, 0},
		{12 * time.Millisecond, 0},   // 192 wait for 64 slots: 36 ms
		{30 * time.Millisecond, 128}, // 106 may wait, and 64 come to their slot in 50 ms
		{200 * time.Millisecond, 192},
		{300 * time.Millisecond, 192},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := policy.New(patient)
			requireSlots(t, s, lasting(test.takes))
			refused, took := volley(t, s, 256, lasting(test.takes))
			if refused != test.refused || took > patience {
				t.Errorf("calls of %v: %d refused, the last after %v; want %d", test.takes, refused, took, test.refused)
			}
		})
	}
}

// requireSlots makes a call, so that it is known how long one takes.
func requireSlots(t *testing.T, s *policy.Set, f send) {
	t.Helper()
	if _, v := do(t, s, f); v.Action != relay.Delivered {
		t.Fatalf("%+v", v)
	}
}

// A call for an endpoint that hangs holds up nobody.
func TestNoCallWaitsForAHangingEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(patient)
		// A first burst waits for as long as nobody can know.
		if refused, took := volley(t, s, 100, lasting(10*time.Second)); refused != 36 || took != patience {
			t.Errorf("an endpoint that never answered: %d refused, the last after %v", refused, took)
		}
		s = policy.New(patient)
		requireSlots(t, s, lasting(time.Millisecond))
		for range 64 {
			go do(t, s, lasting(10*time.Second))
		}
		synctest.Wait()
		// In the first moment nobody knows.
		if v, refused := s.Refuses(orders); refused {
			t.Errorf("it answered a moment ago: %+v", v)
		}
		if v, took := timed(t, s); v.Action != relay.Defer || took != patience {
			t.Errorf("%+v after %v", v, took)
		}
		time.Sleep(50*time.Millisecond + 1)
		requireSame(t, s, orders, policy.Busy)
		if v, took := timed(t, s); v.Action != relay.Defer || took != 0 {
			t.Errorf("%+v after %v", v, took)
		}
		time.Sleep(10 * time.Second)
	})
}

func timed(t *testing.T, s *policy.Set) (relay.Verdict, time.Duration) {
	t.Helper()
	start := time.Now()
	_, v := do(t, s, never(t))
	return v, time.Since(start)
}
