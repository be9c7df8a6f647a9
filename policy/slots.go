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

// slotted is the policy that takes a slot for a call.
type slotted struct{ call *call }

// ToExecutor makes slotted a failsafe.Policy.
func (s slotted) ToExecutor(*call) any { return s }

// Apply takes a slot for as long as inner runs, or refuses the call. The inner
// function does not panic; see [call.try].
func (s slotted) Apply(
	inner func(failsafe.Execution[*call]) *common.PolicyResult[*call],
) func(failsafe.Execution[*call]) *common.PolicyResult[*call] {
	return func(exec failsafe.Execution[*call]) *common.PolicyResult[*call] {
		own := s.call.slots
		if !own.bulkhead.TryAcquirePermit() {
			return refusal(bulkhead.ErrFull)
		}
		own.taken.Add(1)
		result := inner(exec)
		own.taken.Add(-1)
		own.bulkhead.ReleasePermit()
		return result
	}
}
