package consumer

import "time"

// stallAfter is how long work may wait, with hands free to do it, while nothing
// moves, before it is called a stall.
const stallAfter = 10 * time.Second

// stall notices the silent kind of trouble: work is waiting, nothing is wrong,
// and nothing moves. It belongs to the goroutine that looks at the queues.
type stall struct {
	delivered uint64    // messages delivered to any process, at the last look
	since     time.Time // when something moved last, or there was nothing to do
}

// look takes in how many messages were delivered in all, by the server's count,
// and what waits, and answers for how long nothing has moved; 0 while all is
// well. A process whose hands are full is not stalled.
func (s *stall) look(now time.Time, delivered uint64, queues map[string]Queue, busy bool) time.Duration {
	moved := delivered != s.delivered
	s.delivered = delivered
	if s.since.IsZero() || moved || busy || !waiting(queues) {
		s.since = now
	}
	if still := now.Sub(s.since); still >= stallAfter {
		return still
	}
	return 0
}

func waiting(queues map[string]Queue) bool {
	for _, q := range queues {
		if q.Pending > 0 {
			return true
		}
	}
	return false
}
