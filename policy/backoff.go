package policy

import (
	"time"

	"github.com/relaywebhooks/relay"
)

// backoff returns the wait before the next attempt when made attempts have been
// made: the schedule's, and beyond its end the last one doubled each time, up
// to longest. A schedule's own waits may be longer than that, though never
// longer than a webhook can live.
func backoff(schedule []time.Duration, made int, longest time.Duration) time.Duration {
	if made < 1 || len(schedule) == 0 {
		return 0
	}
	if made <= len(schedule) {
		return min(max(schedule[made-1], 0), relay.MaxExpiry)
	}
	last := min(schedule[len(schedule)-1], relay.MaxExpiry)
	// A schedule that ends with "at once" must not become a busy loop.
	d := max(last, time.Second)
	for range made - len(schedule) {
		if d > longest/2 {
			return max(longest, last)
		}
		d *= 2
	}
	return d
}

// jittered makes d longer or shorter by at most share of itself; r, at least 0
// and less than 1, says where in between.
func jittered(d time.Duration, share, r float64) time.Duration {
	return d + time.Duration(float64(d)*share*(2*r-1))
}

// wait joins backoff and Retry-After: never less than asked, and never more
// than the longer of the two bounds. A wait that was asked for is only made
// longer by jitter, never shorter.
func wait(planned, asked, longest time.Duration, jitter, r float64) time.Duration {
	asked = min(asked, longest)
	later := min(asked+time.Duration(float64(asked)*jitter*r), longest)
	return max(jittered(planned, jitter, r), later, 0)
}
