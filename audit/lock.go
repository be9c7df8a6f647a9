package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay"
)

// lockable is what another session may have locked.
type lockable int

const (
	tables    lockable = iota // whole, against writers: everyone waits
	events                    // the rows of single events
	endpoints                 // the rows of endpoints, which records count in
)

// tablePatience is how long a lock on a whole table is waited for before that
// is a failure: relay takes such locks itself when it drops a day.
const tablePatience = 5 * time.Second

// selectTableLock asks whether somebody has, or waits for, a lock on a table
// that keeps writers out: who waits for one keeps out those that come after.
const selectTableLock = `
SELECT EXISTS (
    SELECT FROM pg_locks k JOIN pg_class c ON c.oid = k.relation
    WHERE k.locktype = 'relation' AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND k.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      AND c.relnamespace = 'relay'::regnamespace
      AND c.relname IN ('webhooks', 'attempts', 'endpoints', 'idempotency', 'webhooks_' || $1::text, 'attempts_' || $1::text))`

// selectLockedEvents returns the events whose rows are there and not free.
const selectLockedEvents = `
WITH i AS (
    SELECT * FROM unnest($1::timestamptz[], $2::bigint[]) WITH ORDINALITY AS i (accepted_at, seq, n)
), free AS (
    SELECT i.n FROM i JOIN relay.webhooks_DAY w ON ` + sameEvent + ` FOR UPDATE OF w SKIP LOCKED
)
SELECT i.n - 1 FROM i JOIN relay.webhooks_DAY w ON ` + sameEvent + ` WHERE i.n NOT IN (SELECT n FROM free)`

const selectLockedEndpoints = `
WITH free AS (
    SELECT e.endpoint_key FROM relay.endpoints e WHERE e.endpoint_key = ANY ($1::text[]) FOR NO KEY UPDATE SKIP LOCKED
)
SELECT i.n - 1 FROM unnest($1::text[]) WITH ORDINALITY AS i (key, n) JOIN relay.endpoints e ON e.endpoint_key = i.key
WHERE i.key NOT IN (SELECT endpoint_key FROM free)`

func (l *Log) lockedClaims(ctx context.Context, batch []*call[claiming, relay.Claim], of lockable) ([]int, error) {
	if of == endpoints {
		return nil, nil
	}
	at, seq := keyColumns(batch)
	return l.lockedEvents(ctx, of, at, seq)
}

func (l *Log) lockedRecords(ctx context.Context, batch []*call[recording, relay.Verdict], of lockable) ([]int, error) {
	if of != endpoints {
		at, seq := keyColumns(batch)
		return l.lockedEvents(ctx, of, at, seq)
	}
	keys := make([]string, len(batch))
	for i, q := range batch {
		if len(q.in.attempts) > 0 { // else it counts nothing
			keys[i] = text(q.in.webhook.EndpointKey, maxName)
		}
	}
	return l.indexes(ctx, selectLockedEndpoints, keys)
}

// lockedEvents returns the indexes of locked events of one day; of a locked
// table, those of all.
func (l *Log) lockedEvents(ctx context.Context, of lockable, at times, seq numbers) ([]int, error) {
	d := day(relay.Key{Time: at[0]})
	if of == events {
		return l.indexes(ctx, onDay(selectLockedEvents, d), at, seq)
	}
	var locked bool
	if err := l.pool.QueryRow(ctx, selectTableLock, d.Format("20060102")).Scan(&locked); err != nil || !locked {
		return nil, err
	}
	all := make([]int, len(at))
	for i := range all {
		all[i] = i
	}
	return all, nil
}

// indexes runs a query that returns indexes, and gives back what it locked.
func (l *Log) indexes(ctx context.Context, sql string, args ...any) (found []int, err error) {
	tx, err := l.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback(ctx)) }()
	rows, _ := tx.Query(ctx, sql, args...) // CollectRows tells the error
	return pgx.CollectRows(rows, pgx.RowTo[int])
}

// laneAside makes the lane for the calls that have to wait for a lock. It works
// as the committer does, beside it, and sets aside to itself.
func (c *committer[T, R]) laneAside() *committer[T, R] {
	a := newCommitter[T, R](c.kind, c.log)
	a.name = c.kind + " of a locked row"
	a.write, a.reduce, a.locked, a.abandoned = c.write, c.reduce, c.locked, c.abandoned
	a.aside = a
	return a
}

// idle reports whether the committer has nothing to do.
func (c *committer[T, R]) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) == 0 && c.writing == 0
}

// passable sets aside what is locked in a batch before it is written, if locks
// have been met that last: finding out takes less than running into them with
// every batch. The lane aside itself waits for them, as it may.
func (c *committer[T, R]) passable(work context.Context, batch []*call[T, R]) []*call[T, R] {
	if c.aside == c || c.aside.idle() {
		return batch
	}
	ctx, cancel := context.WithTimeout(work, writeTimeout)
	defer cancel()
	found, err := c.locked(ctx, batch, events)
	if err != nil {
		return batch // writing it will meet the same error
	}
	return c.setAside(batch, found)
}

// sift sets aside the calls of a batch for which it waited in vain, and returns
// the others: all of them if it cannot tell which these are. An error means
// that the whole batch has to wait; errAgain, that nothing is wrong so far.
func (c *committer[T, R]) sift(work context.Context, batch []*call[T, R], err error) ([]*call[T, R], error) {
	ctx, cancel := context.WithTimeout(work, writeTimeout)
	defer cancel()
	for _, of := range []lockable{tables, events, endpoints} {
		found, e := c.locked(ctx, batch, of)
		if e != nil {
			return nil, e
		}
		if of == tables && len(found) > 0 && time.Since(c.began) < tablePatience {
			return nil, errAgain
		}
		if of == tables && len(found) > 0 {
			return nil, fmt.Errorf("another session has locked a whole table of relay's: %w", err)
		}
		if len(found) > 0 {
			batch = c.setAside(batch, found)
			break
		}
	}
	c.log.health.recovered(c.name, &c.log.o.Logger) // it answers
	return batch, nil
}

// setAside hands calls, named by their index, over to the lane aside and
// returns the others.
func (c *committer[T, R]) setAside(batch []*call[T, R], found []int) []*call[T, R] {
	if len(found) == 0 {
		return batch
	}
	c.heldUp = true
	c.log.health.heldUp(c.kind, len(found), batch[found[0]].key, &c.log.o.Logger)
	held := make(map[int]struct{}, len(found))
	for _, i := range found {
		held[i] = struct{}{}
	}
	rest := make([]*call[T, R], 0, len(batch)-len(held))
	for i, q := range batch {
		if _, ok := held[i]; !ok {
			rest = append(rest, q)
		} else if !c.aside.add(q) {
			c.fail(ErrClosed, q)
		}
	}
	return rest
}
