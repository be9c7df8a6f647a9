package audit

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// TestClockIsWatched lets a clock go wrong and right again while Postgres is
// away now and then.
func TestClockIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &Log{o: Options{Logger: zerolog.New(&out)}}
		var mu sync.Mutex
		answer, away := time.Second, error(nil)
		ctx, stop := context.WithCancel(t.Context())
		go l.watchClock(ctx, func(context.Context) (time.Duration, error) {
			mu.Lock()
			defer mu.Unlock()
			return answer, away
		})
		steps := []struct {
			after  time.Duration
			skew   time.Duration
			err    error
			want   time.Duration
			errors int // lines of the log so far
		}{
			{0, time.Second, nil, time.Second, 0},
			{time.Minute, 2 * time.Minute, nil, 2 * time.Minute, 1},
			{time.Minute, 3 * time.Minute, nil, 3 * time.Minute, 1},
			{time.Minute, 0, errors.New("away"), 3 * time.Minute, 1},
			{clockSoon, -30 * time.Second, nil, -30 * time.Second, 1},
			{time.Minute, -61 * time.Second, nil, -61 * time.Second, 2},
		}
		for i, step := range steps {
			mu.Lock()
			answer, away = step.skew, step.err
			mu.Unlock()
			time.Sleep(step.after) // in a bubble
			synctest.Wait()
			if got, ok := l.Skew(); got != step.want || !ok {
				t.Errorf("step %d: %v, %v, want %v", i, got, ok, step.want)
			}
			if n := strings.Count(out.String(), `"level":"error"`); n != step.errors {
				t.Errorf("step %d: %d complaints, want %d:\n%s", i, n, step.errors, out.String())
			}
		}
		stop()
	})
}
