package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/relaywebhooks/relay"
)

const (
	writeTimeout = 30 * time.Second // of one try; a connection that says nothing is given up
	minBackoff   = 20 * time.Millisecond
	maxBackoff   = 250 * time.Millisecond // Postgres is back: what was sent is recorded before its claim runs out
)

// trouble is what an error of a write asks for.
type trouble int

const (
	none        trouble = iota
	away                // Postgres is down, busy, read-only or not migrated: try again
	noPartition         // a row's day has no partition: make it, try again
	refused             // Postgres refuses what a row contains: find the row
	overtaken           // something changed in between: try again, nothing is wrong
	locked              // somebody has held a lock for too long: find out what it is on
)

// judge sorts the errors of a write. What it does not know counts as away:
// trying again is always safe, giving up never is.
func judge(err error) trouble {
	if err == nil {
		return none
	}
	if errors.Is(err, errAgain) {
		return overtaken
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return away // whatever its code: no row has been looked at
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(e.Code) != 5 {
		return away
	}
	// The only check violation that names no constraint.
	if e.Code == "23514" && e.ConstraintName == "" {
		return noPartition
	}
	if e.Code == "55P03" {
		return locked
	}
	if e.Code == "42P01" {
		return noPartition // or no schema at all, which making the partition will tell
	}
	switch e.Code[:2] {
	case "22", "23", "54": // data, integrity, beyond a limit of Postgres
		return refused
	}
	return away
}

// misconfigured reports errors that waiting alone will not end: the schema is
// missing or old, or the user may not do what relay must.
func misconfigured(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && len(e.Code) == 5 && (e.Code[:2] == "42" || e.Code[:2] == "3F" || e.Code[:2] == "28")
}

// settle writes a batch, whatever it takes, and answers its calls. Those that
// have to wait for a lock are answered by the lane aside.
func (c *committer[T, R]) settle(work context.Context, batch []*call[T, R]) {
	for wait := minBackoff; len(batch) > 0; wait = min(2*wait, maxBackoff) {
		err := c.try(work, batch)
		switch judge(err) {
		case none:
			c.log.health.recovered(c.name, &c.log.o.Logger)
			c.finish(batch)
			return
		case refused:
			c.divide(work, batch, err)
			return
		case locked:
			rest, e := c.sift(work, batch, err)
			if e == nil && len(rest) == len(batch) {
				c.divide(work, batch, err)
				return
			}
			if err = e; err == nil {
				batch = rest
				continue
			}
		case noPartition:
			err = c.log.ensureDay(work, day(batch[0].key))
		case overtaken, away:
		}
		if err != nil && !errors.Is(err, errAgain) {
			c.log.health.failed(c.name, err, &c.log.o.Logger)
		}
		if !pause(work, wait) {
			c.fail(ErrClosed, batch...)
			return
		}
	}
}

// divide settles a batch in halves, until the call is found that Postgres does
// not take: it is written without its foreign bytes, or waits aside for a lock
// that sift did not find.
func (c *committer[T, R]) divide(work context.Context, batch []*call[T, R], err error) {
	if half := len(batch) / 2; half > 0 {
		c.settle(work, batch[:half])
		c.settle(work, batch[half:])
		return
	}
	q := batch[0]
	if judge(err) == locked {
		c.setAside(batch, []int{0})
		return
	}
	if q.reduced {
		c.fail(fmt.Errorf("%w: %w", ErrRefused, err), q)
		return
	}
	q.reduced = true
	c.log.o.Logger.Error().Err(err).Str("event", q.key.String()).Str("kind", c.kind).
		Msg("Postgres refused a row; it is stored without the foreign bytes")
	c.reduce(&q.in, err)
	c.settle(work, batch)
}

func (c *committer[T, R]) try(work context.Context, batch []*call[T, R]) error {
	ctx, cancel := context.WithTimeoutCause(work, writeTimeout,
		fmt.Errorf("audit: Postgres took longer than %v", writeTimeout))
	defer cancel()
	return c.write(ctx, batch)
}

// day returns the UTC day of an event's acceptance.
func day(k relay.Key) time.Time { return k.Time.UTC().Truncate(24 * time.Hour) }

// onDay puts a day into a statement: the table that has its events.
func onDay(sql string, d time.Time) string {
	return strings.ReplaceAll(sql, "relay.webhooks_DAY", "relay.webhooks_"+d.Format("20060102"))
}

// pause waits and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
