package policy

import "time"

// turns hands out moments at which refused calls should come back, so that they
// come one after the other and not all at once. It promises nothing: who comes
// back may be refused again.
type turns struct{ next time.Time }

// longestQueue is how far ahead turns are handed out in order. Beyond it they
// are drawn by lot.
const longestQueue = 5 * time.Minute

// longestTurn bounds a deferral, whatever the rate.
const longestTurn = 24 * time.Hour

// take returns how long to wait: at least earliest, and spacing after the one
// before. It is exact, because a turn that comes late costs an endpoint with a
// low rate a part of it. The lot r is at least 0 and less than 1.
func (t *turns) take(now time.Time, earliest, spacing time.Duration, r float64) time.Duration {
	turn := now.Add(earliest)
	if t.next.After(turn) {
		turn = t.next
	}
	queued := turn.Sub(now) - earliest
	if queued+spacing > longestQueue {
		return earliest + time.Duration(r*float64(longestQueue))
	}
	t.next = turn.Add(spacing)
	return earliest + queued
}
