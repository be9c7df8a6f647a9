// Package audit is the record in Postgres: a claim before every attempt, and
// every attempt before its message is settled. Whoever gets no answer from it
// must not go on.
//
// # Group commit
//
// Calls to [Log.Claim] and [Log.Record] that come while a batch is on its way
// to Postgres wait and make up the next batch: one round trip and one commit
// for all of them. There is no timer; under light load a call goes out at once.
//
// # When Postgres is away
//
// A batch is repeated until it is committed, for as long as [Log.Run] lives.
// Repeating is harmless, also where a commit's outcome is unknown: every
// attempt has an id that relay made beforehand, and every claim can be
// recognised. A single row that Postgres refuses is replaced by one without
// foreign bytes, so that no receiver and no producer can stop the others.
//
// # When a row is locked
//
// Somebody who repairs a row by hand and does not commit holds up that row's
// calls only: after half a second (lock_timeout, if the database URL does not
// say otherwise) they are set aside and tried again until the lock is gone, and
// all others go on. A lock on a whole table holds up everyone until it is gone.
package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
)

// ErrClosed is returned by [Log.Claim] and [Log.Record] once [Log.Run] has
// ended. Nothing is known about what was asked for then: it must not be acted
// upon.
var ErrClosed = errors.New("audit: the log is closed")

// ErrRefused is returned if Postgres refuses an event even without any foreign
// bytes in it. It names a fault of relay; repeating the call does not help.
var ErrRefused = errors.New("audit: Postgres refuses the row")

// MinRetention is how long events are kept at least: the longest wait of an
// event and after it the life of its dead letter, in which a replay must still
// find the row. The function relay.drop_partitions holds it as well.
const MinRetention = relay.MaxExpiry + 30*24*time.Hour

// Options says how a [Log] works. The zero value works.
type Options struct {
	Worker    string         // name of this process in the claims and attempts. Defaults to "relay"
	Lease     time.Duration  // how long a claim holds; longer than any exchange takes. Defaults to 45 s
	MaxBatch  int            // calls that share one round trip. Defaults to 512
	Grace     time.Duration  // how long Run goes on for waiting calls after its context ended. Defaults to 10 s
	Retention time.Duration  // age at which whole days are dropped. Defaults to MinRetention, and is never less
	Logger    zerolog.Logger // the zero value is silent

	// Observe is told of every batch that was committed: "claim", "reclaim" (of
	// events that relay had before), "aside" or "record", its rows, and how long it
	// took with all its retries. It must be quick and safe for concurrent use. Defaults to nothing.
	Observe func(kind string, rows int, took time.Duration)
}

func (o Options) withDefaults() Options {
	if o.Worker == "" {
		o.Worker = "relay"
	}
	if o.Lease <= 0 {
		o.Lease = 45 * time.Second
	}
	if o.MaxBatch <= 0 {
		o.MaxBatch = 512
	}
	if o.Grace <= 0 {
		o.Grace = 10 * time.Second
	}
	o.Retention = max(o.Retention, MinRetention)
	if o.Observe == nil {
		o.Observe = func(string, int, time.Duration) {}
	}
	return o
}

// Log is the audit log. It is safe for concurrent use. Many logs, in one
// process or in many, may work on one database.
type Log struct {
	pool     *pgxpool.Pool
	o        Options
	claims   *committer[claiming, relay.Claim]
	reclaims *committer[claiming, relay.Claim] // of events that are known: their rows are locked and read first, and new ones do not wait for that
	asides   *committer[claiming, relay.Claim] // of events that are to wait, so that no claim waits for them
	records  *committer[recording, relay.Verdict]
	events   novelty // of what is claimed
	attempts novelty // of what is recorded
	circuits circuits
	health   health
	skew     atomic.Pointer[time.Duration] // nil before the first look at the clocks
}

// recordsApart is how long a record may wait for others. An event that is delivered
// waits only for its acknowledgement. At 1,400 events a second, of which most took
// 50 ms, records were written 590 times a second, each with a commit, and are 190
// times now; Postgres had a fifth less to do.
const recordsApart = 5 * time.Millisecond

// New makes a log on a database that package migrations has prepared. It makes
// no connection; [Pool] makes a fitting pool. Nothing is answered before
// [Log.Run] runs.
func New(pool *pgxpool.Pool, o Options) *Log {
	l := &Log{pool: pool, o: o.withDefaults()}
	l.claims = l.newClaims("claim", func(ctx context.Context, batch []*call[claiming, relay.Claim]) error {
		return l.writeClaims(ctx, batch, &l.events)
	})
	l.reclaims = l.newClaims("reclaim", l.writeKnown)
	l.asides = l.newClaims("aside", func(ctx context.Context, batch []*call[claiming, relay.Claim]) error {
		return l.writeClaims(ctx, batch, nil)
	})
	l.records = newCommitter[recording, relay.Verdict]("record", l)
	l.records.write, l.records.apart = l.writeRecords, recordsApart
	l.records.reduce = reduceRecording
	l.records.locked = l.lockedRecords
	return l
}

// newClaims makes a committer for claims.
func (l *Log) newClaims(
	kind string, write func(context.Context, []*call[claiming, relay.Claim]) error,
) *committer[claiming, relay.Claim] {
	c := newCommitter[claiming, relay.Claim](kind, l)
	c.write = write
	c.reduce, c.locked, c.abandoned = reduceClaiming, l.lockedClaims, l.release
	return c
}

// Run commits what [Log.Claim], [Log.SetAside] and [Log.Record] ask for, makes
// partitions ahead, drops old ones, mirrors the circuits, and compares the
// clocks. It may be called once. When ctx ends, it goes on until no call waits any more, at
// most Options.Grace, and returns nil when all its goroutines have ended.
func (l *Log) Run(ctx context.Context) error {
	work, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(l.o.Grace, func() { giveUp(ErrClosed) })
	})()

	var upkeep sync.WaitGroup
	upkeep.Go(func() { l.keepPartitions(ctx) })
	upkeep.Go(func() { l.mirrorCircuits(ctx) })
	upkeep.Go(func() { l.watchClock(ctx, l.measureSkew) })

	// The claims end first: one that nobody waits for any more is given back
	// through the records.
	claimed, stopRecords := context.WithCancel(work)
	var committers sync.WaitGroup
	committers.Go(func() {
		defer stopRecords()
		var both sync.WaitGroup
		both.Go(func() { l.claims.run(ctx, work) })
		both.Go(func() { l.reclaims.run(ctx, work) })
		both.Wait()
	})
	committers.Go(func() { l.asides.run(ctx, work) })
	committers.Go(func() { l.records.run(claimed, work) })
	committers.Wait()
	upkeep.Wait()
	l.flushCircuits(work)
	return nil
}

// Claim asks for permission to make one attempt at w now, and stores the event
// if it is new. It returns when the answer is durable. Only if its verdict's
// action is [relay.Send] may the attempt be made, under the claim's ID; every
// other action says why not, with the reason and, for [relay.Wait], the time
// that is left by Postgres' clock.
//
// It waits for as long as Postgres is away, and returns an error only if ctx
// ends, the log is closed ([ErrClosed]) or the row is refused ([ErrRefused]). A
// claim that is granted after ctx ended is given back.
func (l *Log) Claim(ctx context.Context, w relay.Webhook) (relay.Claim, error) {
	claims := l.claims
	if w.Again {
		claims = l.reclaims
	}
	c, err := claims.do(ctx, w.Key, weigh(w), claiming{webhook: w, id: newID()})
	if err != nil {
		return relay.Claim{}, fmt.Errorf("audit: claim %s: %w", w.Key, err)
	}
	return c, nil
}

// Record writes down the attempts that were made under the claim c, and the
// verdict: one of [relay.Delivered], [relay.Retry], [relay.Defer],
// [relay.Failed], [relay.Dead]. It returns the verdict that holds when that is
// durable: v, or what has become of the event meanwhile if the claim was lost
// to another process. The attempts are stored in either case. An attempt
// without an ID was made under the claim's. An empty v.Place leaves the place
// as it is.
//
// Calling it again with the same arguments changes nothing and answers alike.
// It fails as [Log.Claim] does; if ctx ends, the record may still be written.
func (l *Log) Record(
	ctx context.Context, w relay.Webhook, c relay.Claim, as []relay.Attempt, v relay.Verdict,
) (relay.Verdict, error) {
	if _, ok := statusAfter(v.Action); !ok {
		return relay.Verdict{}, fmt.Errorf("audit: record %s: %q is nothing to record", w.Key, v.Action)
	}
	r := newRecording(w, c, as, v)
	v, err := l.records.do(ctx, w.Key, r.weight(), r)
	if err != nil {
		return relay.Verdict{}, fmt.Errorf("audit: record %s: %w", w.Key, err)
	}
	return v, nil
}
