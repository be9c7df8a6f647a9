package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	partitionsEach = time.Hour
	partitionsSoon = 5 * time.Second // after a failure

	// patiently lets a statement wait for another process that is making the
	// same partitions.
	patiently = "set_config('lock_timeout', '10s', true)"
)

// keepPartitions makes the partitions of the coming days and drops those past
// the retention, at once and every hour, until ctx ends.
func (l *Log) keepPartitions(ctx context.Context) {
	mayDrop := true
	for {
		next := partitionsEach
		if err := l.makeAhead(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			l.o.Logger.Warn().Err(err).Msg("cannot make partitions ahead; trying again")
			next = partitionsSoon
		} else if mayDrop {
			mayDrop = l.dropOld(ctx)
		}
		if !pause(ctx, next) {
			return
		}
	}
}

// makeAhead makes the partitions from yesterday to the day after tomorrow, by
// Postgres' clock. Should all tries of two days fail, the first row without a
// partition makes its own.
func (l *Log) makeAhead(ctx context.Context) error {
	_, err := l.pool.Exec(ctx, `SELECT `+patiently+`, relay.ensure_partitions(d - 1, d + 2)
		FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS d) today`)
	if err != nil {
		return fmt.Errorf("audit: make partitions: %w", err)
	}
	return nil
}

// ensureDay makes the partitions of one day: that of an event which is older
// than what was made ahead.
func (l *Log) ensureDay(ctx context.Context, d time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	name := d.Format(time.DateOnly)
	if _, err := l.pool.Exec(ctx, "SELECT "+patiently+", relay.ensure_partitions($1::text::date, $1::text::date)", name); err != nil {
		return fmt.Errorf("audit: make the partitions of %s: %w", name, err)
	}
	l.o.Logger.Info().Str("day", name).Msg("made the partitions of a day out of turn")
	return nil
}

// dropOld drops what is past the retention and reports whether it is worth
// asking again: only the tables' owner may.
func (l *Log) dropOld(ctx context.Context) bool {
	dropped, err := l.dropDays(ctx)
	if len(dropped) > 0 {
		l.o.Logger.Info().Strs("partitions", dropped).Msg("dropped what is past the retention")
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42501" {
		l.o.Logger.Info().Msg("old partitions are left to the tables' owner: SELECT relay.drop_partitions('120 days')")
		return false
	}
	if err != nil && ctx.Err() == nil {
		l.o.Logger.Warn().Err(err).Msg("cannot drop old partitions; trying again in an hour")
	}
	return true
}

// dropDays drops day after day, each in a transaction of its own, so that
// writers wait no longer than for one; it returns what it has dropped.
func (l *Log) dropDays(ctx context.Context) (dropped []string, err error) {
	for {
		rows, _ := l.pool.Query(ctx, "SELECT relay.drop_partitions($1)", l.o.Retention) // CollectRows tells the error
		day, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(day) == 0 {
			return dropped, err
		}
		dropped = append(dropped, day...)
	}
}
