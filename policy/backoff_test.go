package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/relaywebhooks/relay"
)

func TestBackoffDoublesBeyondTheSchedule(t *testing.T) {
	schedule := Options{}.withDefaults().Schedule
	for made, minutes := range []int{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440, 1440} {
		want := time.Duration(minutes) * time.Minute
		if got := backoff(schedule, made, 24*time.Hour); got != want {
			t.Errorf("after %d attempts: %v, want %v", made, got, want)
		}
	}
	if got := backoff([]time.Duration{0}, 2, time.Hour); got != 2*time.Second {
		t.Errorf("beyond a schedule that ends at once: %v", got)
	}
	if got := backoff([]time.Duration{48 * time.Hour}, 9, 24*time.Hour); got != 48*time.Hour {
		t.Errorf("beyond a schedule that ends above the bound: %v, want its last wait", got)
	}
}

func TestBackoffStaysInBounds(t *testing.T) {
	wait := rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.Int64().Draw(t, "wait")) })
	rapid.Check(t, func(t *rapid.T) {
		schedule := rapid.SliceOfN(wait, 0, 10).Draw(t, "schedule")
		longest := time.Duration(rapid.Int64Range(1, int64(relay.MaxExpiry)).Draw(t, "longest"))
		made := rapid.IntRange(-1, 200).Draw(t, "made")
		got := backoff(schedule, made, longest)
		if got < 0 || got > relay.MaxExpiry {
			t.Fatalf("%v", got)
		}
		if made > len(schedule) && len(schedule) > 0 {
			if before := backoff(schedule, made-1, longest); got < before {
				t.Fatalf("%v, shorter than the wait before it, %v", got, before)
			}
		}
	})
}

func TestWaitStaysInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		planned := time.Duration(rapid.Int64Range(0, int64(relay.MaxExpiry)).Draw(t, "planned"))
		asked := time.Duration(rapid.Int64Range(0, 1<<62).Draw(t, "asked"))
		longest := time.Duration(rapid.Int64Range(1, int64(relay.MaxExpiry)).Draw(t, "longest"))
		jitter := rapid.Float64Range(0, 0.99).Draw(t, "jitter")
		r := rapid.Float64Range(0, 0.999999).Draw(t, "r")
		got := wait(planned, asked, longest, jitter, r)
		switch shortest, longer := float64(planned)*(1-jitter), float64(planned)*(1+jitter); {
		case got < min(asked, longest):
			t.Fatalf("%v is shorter than Retry-After %v (at most %v)", got, asked, longest)
		case float64(got) < shortest-1:
			t.Fatalf("%v is shorter than %v less its jitter", got, planned)
		case float64(got) > longer+1 && got > longest:
			t.Fatalf("%v is longer than %v with its jitter and than %v", got, planned, longest)
		}
	})
}

// Whoever is refused gets a turn of his own as long as there are turns.
func TestTurnsKeepTheirDistance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		var q turns
		for range rapid.IntRange(1, 200).Draw(t, "refused") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "later")))
			earliest := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "earliest"))
			spacing := time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "spacing"))
			before := q.next
			after := q.take(now, earliest, spacing, rapid.Float64Range(0, 0.999999).Draw(t, "r"))
			if after < earliest || after > earliest+longestQueue {
				t.Fatalf("%v, want at least %v and at most %v more", after, earliest, longestQueue)
			}
			drawn := q.next.Equal(before)
			if turn := now.Add(after); !drawn && turn.Before(before) {
				t.Fatalf("turn %v comes before %v, which another one's ends at", turn, before)
			}
		}
	})
}
