package consumer

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// aheadStream and aheadConsumer are of a server whose clock differs.
type aheadServer struct {
	jetstream.JetStream
	ahead time.Duration
}

func (s *aheadServer) Stream(context.Context, string) (jetstream.Stream, error) {
	return aheadStream{info: &jetstream.StreamInfo{TimeStamp: time.Now().Add(s.ahead)}}, nil
}

type aheadStream struct {
	jetstream.Stream
	info *jetstream.StreamInfo
}

func (s aheadStream) CachedInfo() *jetstream.StreamInfo { return s.info }

type aheadConsumer struct {
	jetstream.Consumer
	*aheadServer
}

func (c aheadConsumer) CachedInfo() *jetstream.ConsumerInfo {
	return &jetstream.ConsumerInfo{Stream: StreamQueue, TimeStamp: time.Now().Add(c.ahead)}
}

func (c aheadConsumer) Info(context.Context) (*jetstream.ConsumerInfo, error) {
	return c.CachedInfo(), nil
}

func TestTheClockOfNATSIsCompared(t *testing.T) {
	var said bytes.Buffer
	server := &aheadServer{}
	c := &Consumer{js: server, sleep: newSleepBudget(10), asides: newAsides(time.Minute), moves: newMoves(), log: zerolog.New(&said)}
	c.lanes = newLanes(c)
	c.stats.Store(&Stats{})
	if c.Stats().SkewKnown {
		t.Error("a skew is known before the first look")
	}
	look := func(ahead time.Duration, lines int, text string) {
		t.Helper()
		server.ahead = ahead
		said.Reset()
		c.look(t.Context(), []jetstream.Consumer{aheadConsumer{aheadServer: server}}, &stall{})
		if s := c.Stats(); !s.SkewKnown || (s.Skew-ahead).Abs() > time.Second {
			t.Errorf("the skew is %v (known: %v), want %v", s.Skew, s.SkewKnown, ahead)
		}
		if got := strings.Count(said.String(), "\n"); got != lines || !strings.Contains(said.String(), text) {
			t.Errorf("%v ahead: %d lines logged, want %d with %q: %s", ahead, got, lines, text, said.String())
		}
	}
	look(0, 0, "")
	look(2*time.Minute, 1, "differ")
	look(2*time.Minute, 0, "") // said once
	look(-2*time.Minute, 0, "")
	look(-time.Second, 1, "agree again")
}

// While a stream refuses, one event a second is tried on it, and no second one
// beside it.
func TestARefusalLetsOneProbeThrough(t *testing.T) {
	now, denied := time.Now(), errors.New("denied")
	m := newMoves()
	may := func(want bool) {
		t.Helper()
		if err := m.begin(StreamDead, now); (err == nil) != want {
			t.Fatalf("begin: %v, want %v", err, want)
		}
	}
	may(true)
	may(true) // nothing stands yet
	if !m.end(StreamDead, denied, now) || m.end(StreamDead, denied, now) {
		t.Error("the first refusal is news, the second is not")
	}
	may(false)
	if err := m.begin(StreamLater, now); err != nil {
		t.Errorf("another stream: %v", err)
	}
	now = now.Add(probeEach)
	may(true)
	may(false)
	m.unknown(StreamDead) // cut off in the middle of the probe
	may(true)
	m.end(StreamDead, denied, now)
	if s := m.standing(now); len(s) != 1 || !s[0].Since.Equal(now.Add(-probeEach)) {
		t.Errorf("standing: %+v", s)
	}
	now = now.Add(probeEach)
	may(true)
	if !m.end(StreamDead, nil, now) || len(m.standing(now)) != 0 {
		t.Error("the probe was stored, and the refusal stands")
	}
	m.end(StreamDead, denied, now)
	if now = now.Add(refusalKept + 1); len(m.standing(now)) != 0 {
		t.Error("a refusal that was not repeated stands for ever")
	}
}

func TestAnEventThatCannotBeMovedComesBackSoon(t *testing.T) {
	for delivered, want := range map[uint64]time.Duration{
		0: time.Second, 1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 5: 15 * time.Second, 1 << 40: 15 * time.Second,
	} {
		if got := refusedPause(delivered); got != want {
			t.Errorf("after %d deliveries: %v, want %v", delivered, got, want)
		}
	}
}
