package consumer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay"
)

// The clock of whoever paused an endpoint may be off by an hour. What it wrote a
// moment ago lasts as long as it meant; what is older lasts no longer than that.
func TestAPauseLastsAsLongAsItWasMeant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const meant = 30 * time.Second
		now := time.Now()
		for _, c := range []struct {
			name  string
			at    time.Time
			fresh bool
			want  time.Duration
		}{
			{"fresh", now, true, meant},
			{"fresh, from a clock that is ahead", now.Add(time.Hour), true, meant},
			{"fresh, from a clock that is behind", now.Add(-time.Hour), true, meant},
			{"read at the start", now.Add(-10 * time.Second), false, meant - 10*time.Second},
			{"read at the start, from a clock that is ahead", now.Add(time.Hour), false, meant},
			{"read at the start, long over", now.Add(-time.Hour), false, meant - time.Hour},
		} {
			e := entry{At: c.at, Pause: relay.Pause{Kind: relay.PauseCircuit, Until: c.at.Add(meant)}}
			if got := time.Until(e.here(c.fresh)); got != c.want {
				t.Errorf("%s: %s, want %s", c.name, got, c.want)
			}
		}
	})
}
