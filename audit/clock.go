package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	clockEach    = time.Minute
	clockSoon    = 5 * time.Second // after a failure
	clockTimeout = 2 * time.Second // of a look: it is wrong by at most half of that
)

// Skew returns how far Postgres' clock was ahead of this process's at the last
// look; negative if it was behind. Half of the time that the question took is
// taken for the way there. [Log.Run] looks when it begins and every minute;
// while Postgres is away, the last look stands. It reports false before the
// first one, and never waits.
func (l *Log) Skew() (time.Duration, bool) {
	skew := l.skew.Load()
	if skew == nil {
		return 0, false
	}
	return *skew, true
}

func (l *Log) measureSkew(ctx context.Context) (time.Duration, error) {
	return measureSkew(ctx, l.pool)
}

// watchClock compares the clocks by measure until ctx ends.
func (l *Log) watchClock(ctx context.Context, measure func(context.Context) (time.Duration, error)) {
	for next := time.Duration(0); pause(ctx, next); {
		skew, err := measure(ctx)
		if err != nil {
			l.o.Logger.Debug().Err(err).Msg("cannot compare the clocks; trying again")
			next = clockSoon
			continue
		}
		l.noteSkew(skew)
		next = clockEach
	}
}

// noteSkew keeps a skew, and tells the log once when it has become a bad one.
func (l *Log) noteSkew(skew time.Duration) {
	last := l.skew.Swap(&skew)
	wasBad := last != nil && last.Abs() > skewBad
	switch isBad := skew.Abs() > skewBad; {
	case isBad && !wasBad:
		l.o.Logger.Error().Dur("ahead_ms", skew).
			Msg("Postgres' clock and this machine's differ: set both by NTP, receivers refuse signatures with a wrong time")
	case wasBad && !isBad:
		l.o.Logger.Info().Dur("ahead_ms", skew).Msg("Postgres' clock and this machine's agree again")
	}
}

// measureSkew returns how far Postgres' clock is ahead of this process's. The
// connection is made before and the question is a single round trip, so that
// half of it is a fair guess of the way there.
func measureSkew(ctx context.Context, pool *pgxpool.Pool) (time.Duration, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return 0, fmt.Errorf("audit: ask Postgres for the time: %w", err)
	}
	defer conn.Release()
	ctx, cancel := context.WithTimeoutCause(ctx, clockTimeout, fmt.Errorf("no answer in %v", clockTimeout))
	defer cancel()
	var theirs time.Time
	before := time.Now()
	err = conn.QueryRow(ctx, "SELECT clock_timestamp()", pgx.QueryExecModeExec).Scan(&theirs)
	took := time.Since(before)
	if err != nil {
		return 0, fmt.Errorf("audit: ask Postgres for the time: %w", err)
	}
	return theirs.Sub(before.Add(took / 2)).Round(time.Millisecond), nil
}
