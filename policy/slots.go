package policy

import (
	"sync/atomic"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/common"
)

// slots bound the calls at one endpoint at a time. failsafe-go's bulkhead keeps
// the permits; slots adds how many of them are taken.
type slots struct {
	bulkhead bulkhead.Bulkhead[*call]
	size     int
	taken    atomic.Int64
}

func newSlots(n int) *slots {
	return &slots{bulkhead: bulkhead.New[*call](uint(n)), size: n}
}

// full reports whether all slots are taken. It takes none.
func (s *slots) full() bool { return s.taken.Load() >= int64(s.size) }

// slotted is the policy that takes a slot for a call, and counts it among all
// calls in flight. It waits for a slot that is about to come free: a burst to
// an endpoint that answers fast would else be refused for the most part, and
// every refusal costs more than the wait. For an endpoint that hangs no call
// waits.
type slotted struct{ call *call }

// ToExecutor makes slotted a failsafe.Policy.
func (s slotted) ToExecutor(*call) any { return s }

// Apply takes a slot for as long as inner runs, or refuses the call. The inner
// function does not panic; see [call.try].
func (s slotted) Apply(
	inner func(failsafe.Execution[*call]) *common.PolicyResult[*call],
) func(failsafe.Execution[*call]) *common.PolicyResult[*call] {
	return func(exec failsafe.Execution[*call]) *common.PolicyResult[*call] {
		k := s.call
		if err := k.slots.take(k, exec); err != nil {
			return refusal(err)
		}
		defer k.slots.release()
		if full := k.endpoint.flights.begin(&k.flight, &k.endpoint.load, k.options); full != nil {
			return refusal(full)
		}
		return inner(exec)
	}
}

func (s *slots) take(k *call, exec failsafe.Execution[*call]) error {
	if !s.bulkhead.TryAcquirePermit() {
		e := k.endpoint
		if !e.flights.wait(&e.load, s.size) {
			return bulkhead.ErrFull
		}
		err := s.bulkhead.AcquirePermitWithMaxWait(exec.Context(), patience)
		e.flights.waited(&e.load)
		if err != nil {
			return err
		}
	}
	s.taken.Add(1)
	return nil
}

func (s *slots) release() {
	s.taken.Add(-1)
	s.bulkhead.ReleasePermit()
}
