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

// The clock is set while a pause waits to be written. To others it lasts no longer for
// that, nor to this process if it is set later.
func TestAClockThatIsSetMakesNoPauseLonger(t *testing.T) {
	const meant = 30 * time.Second
	for name, off := range map[string]time.Duration{"back": -time.Hour, "not at all": 0, "ahead": time.Hour} {
		now := time.Now()
		e := (&Pauses{}).stamped(relay.Pause{Kind: relay.PauseCircuit, Until: now.Add(meant)}, now.Add(off))
		written := e.inUTC()
		if got := written.Until.Sub(written.At); got > meant || got < meant-time.Second {
			t.Errorf("%s: lasts %v for others, want %v", name, got, meant)
		}
		for what, until := range map[string]time.Time{"written": e.Until, "fresh": written.here(true), "read at the start": written.here(false)} {
			if until == until.Round(0) { //nolint:staticcheck // Equal does not see what Round takes away: the clock that nobody can set
				t.Errorf("%s, %s: this process goes by a clock that can be set", name, what)
			}
		}
	}
}
