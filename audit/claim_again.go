package audit

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay"
)

// errAgain asks for a batch to be repeated: an idempotency key changed hands,
// or a table is locked for a moment.
var errAgain = errors.New("overtaken")

// sameEvent joins the keys i with their rows w. It is written with inequalities
// because they leave the planner nothing but a look-up by key for each event.
// An equation it may turn into a hash join over a whole day, which looks cheap
// every night when the day is young, and is kept when it has grown.
const sameEvent = `w.accepted_at >= i.accepted_at AND w.accepted_at <= i.accepted_at
    AND w.seq >= i.seq AND w.seq <= i.seq`

// lockWebhooks reads and locks the rows of known events.
const lockWebhooks = `
SELECT i.n, w.generation, w.status, w.place, coalesce(w.reason, ''), w.generation_attempts, coalesce(w.last_status, 0),
    w.unrecorded_streak, w.claim, coalesce(w.claimed_by, ''),
    coalesce((extract(epoch FROM w.claimed_until - now()) * 1000000)::bigint, 0),
    coalesce((extract(epoch FROM w.next_due - now()) * 1000000)::bigint, 0)
FROM unnest($1::timestamptz[], $2::bigint[]) WITH ORDINALITY AS i (accepted_at, seq, n)
JOIN relay.webhooks_DAY w ON ` + sameEvent + `
ORDER BY w.accepted_at, w.seq
FOR UPDATE OF w`

// updateClaimed writes decisions into rows that lockWebhooks locked. No claim
// is left in them if the event is dead for good, or is to wait.
const updateClaimed = `
UPDATE relay.webhooks_DAY w SET
    status = CASE WHEN i.dead THEN 'dead' WHEN i.aside THEN 'pending' ELSE 'processing' END,
    place = i.place,
    reason = NULLIF(i.reason, ''),
    generation = i.generation,
    generation_attempts = CASE WHEN i.fresh THEN 0 ELSE w.generation_attempts END,
    max_attempts = CASE WHEN i.fresh THEN NULLIF(i.max_attempts, 0) ELSE w.max_attempts END,
    expires_at = NULLIF(i.expires_at, '0001-01-01 00:00:00Z'),
    unrecorded_streak = i.streak,
    next_due = NULL,
    delivered_at = NULL,
    failed_at = CASE WHEN i.dead THEN now() END,
    claim = CASE WHEN NOT (i.dead OR i.aside) THEN i.claim END,
    claimed_by = CASE WHEN NOT (i.dead OR i.aside) THEN $1 END,
    claimed_until = CASE WHEN NOT (i.dead OR i.aside) THEN now() + $2::bigint * interval '1 microsecond' END,
    updated_at = now()
FROM unnest($3::timestamptz[], $4::bigint[], $5::integer[], $6::boolean[], $7::boolean[], $8::text[], $9::text[],
        $10::integer[], $11::uuid[], $12::integer[], $13::timestamptz[], $14::boolean[])
    AS i (accepted_at, seq, generation, fresh, dead, place, reason, streak, claim, max_attempts, expires_at, aside)
WHERE ` + sameEvent

// insertUnrecorded stores the attempts that a process claimed and never
// recorded. They begin when they were claimed, which their ids tell.
const insertUnrecorded = `
INSERT INTO relay.attempts (accepted_at, seq, attempt_id, generation, number, kind, success, started_at,
    error_class, error_message, worker, endpoint_key)
SELECT i.accepted_at, i.seq, i.attempt_id, i.generation, i.number, 'unrecorded', false, i.started_at,
    'unrecorded', 'claimed and never recorded: it may or may not have been sent', i.worker, i.endpoint_key
FROM unnest($1::timestamptz[], $2::bigint[], $3::uuid[], $4::integer[], $5::integer[], $6::timestamptz[],
    $7::text[], $8::text[]) AS i (accepted_at, seq, attempt_id, generation, number, started_at, worker, endpoint_key)
ON CONFLICT DO NOTHING`

// deleteHolders gives the idempotency keys of events back that are dead or
// failed by now. The key is the row's: the message may have become unreadable.
const deleteHolders = `
DELETE FROM relay.idempotency h
USING unnest($1::timestamptz[], $2::bigint[]) AS i (accepted_at, seq)
JOIN relay.webhooks_DAY w ON ` + sameEvent + ` AND w.status IN ('failed', 'dead')
WHERE h.tenant >= coalesce(w.tenant, '') AND h.tenant <= coalesce(w.tenant, '')
    AND h.key >= w.idempotency_key AND h.key <= w.idempotency_key
    AND h.accepted_at = w.accepted_at AND h.seq = w.seq`

// claimAgain answers claims for events that have a row already: it locks the
// rows, decides, and writes, in one transaction. It returns those that have none.
func (l *Log) claimAgain(ctx context.Context, calls []*call[claiming, relay.Claim]) (missing []*call[claiming, relay.Claim], err error) {
	if len(calls) == 0 {
		return nil, nil
	}
	err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		rows, err := lockRows(ctx, tx, calls)
		if err != nil {
			return err
		}
		b := &pgx.Batch{}
		u := &claimUpdate{day: day(calls[0].key)}
		for i, q := range calls {
			r, ok := rows[i]
			if !ok {
				missing = append(missing, q)
				continue
			}
			if !r.claimed || r.claim != q.in.id {
				q.in.id = newID() // the old one may be in a row by now, if this is a repetition
			}
			d := decide(r, q.in.webhook.Generation, q.in.id)
			if q.in.aside != nil {
				d = d.aside(*q.in.aside)
			}
			q.out = d.claim
			u.add(q, r, d)
		}
		u.queue(b, l)
		return tx.SendBatch(ctx, b).Close()
	})
	return missing, err
}

// lockRows returns the rows of events by their index in calls.
func lockRows(ctx context.Context, tx pgx.Tx, calls []*call[claiming, relay.Claim]) (map[int]row, error) {
	at, seq := keyColumns(calls)
	found, err := tx.Query(ctx, onDay(lockWebhooks, day(calls[0].key)), at, seq)
	if err != nil {
		return nil, err
	}
	rows := make(map[int]row, len(calls))
	var (
		n          int
		r          row
		id         *[16]byte
		claim, due int64 // microseconds
	)
	_, err = pgx.ForEachRow(found, []any{
		&n, &r.generation, &r.status, &r.place, &r.reason, &r.made, &r.last,
		&r.streak, &id, &r.claimedBy, &claim, &due,
	}, func() error {
		r.claimed, r.claim = id != nil, relay.AttemptID{}
		if r.claimed {
			r.claim = *id
		}
		r.claimedFor, r.dueIn = time.Duration(claim)*time.Microsecond, time.Duration(due)*time.Microsecond
		rows[n-1] = r
		return nil
	})
	return rows, err
}

// claimUpdate gathers what the decisions of a batch write, by column.
type claimUpdate struct {
	day time.Time

	at, expires              []time.Time
	seq                      []int64
	generation, streak, most []int32
	fresh, dead, aside       []bool
	place, reason            []string
	claim                    [][16]byte

	lostAt, lostStarted        []time.Time
	lostSeq                    []int64
	lostID                     [][16]byte
	lostGeneration, lostNumber []int32
	lostWorker, lostEndpoint   []string

	freedAt  []time.Time
	freedSeq []int64
}

func (u *claimUpdate) add(q *call[claiming, relay.Claim], r row, d decision) {
	w := &q.in.webhook
	seq := int64(q.key.Seq) //nolint:gosec // JetStream's sequences stay far below 2^63
	if d.leftOver {
		u.lostAt, u.lostSeq = append(u.lostAt, q.key.Time), append(u.lostSeq, seq)
		u.lostID = append(u.lostID, r.claim)
		u.lostGeneration, u.lostNumber = append(u.lostGeneration, clamp(r.generation)), append(u.lostNumber, clamp(r.made+1))
		u.lostStarted = append(u.lostStarted, madeAt(r.claim))
		u.lostWorker, u.lostEndpoint = append(u.lostWorker, r.claimedBy), append(u.lostEndpoint, text(w.EndpointKey, maxName))
	}
	if !d.write {
		return
	}
	dead := d.claim.Verdict.Action == relay.Dead
	u.at, u.expires, u.seq = append(u.at, q.key.Time), append(u.expires, w.ExpiresAt), append(u.seq, seq)
	u.generation, u.most = append(u.generation, clamp(w.Generation)), append(u.most, clamp(w.MaxAttempts))
	u.streak, u.fresh, u.dead = append(u.streak, clamp(d.streak)), append(u.fresh, d.fresh), append(u.dead, dead)
	u.aside = append(u.aside, d.claim.Verdict.Action == relay.Defer)
	u.place, u.reason = append(u.place, string(d.claim.Verdict.Place)), append(u.reason, d.claim.Verdict.Reason)
	u.claim = append(u.claim, d.claim.ID)
	if dead {
		u.freedAt, u.freedSeq = append(u.freedAt, q.key.Time), append(u.freedSeq, seq)
	}
}

func (u *claimUpdate) queue(b *pgx.Batch, l *Log) {
	if len(u.at) > 0 {
		b.Queue(onDay(updateClaimed, u.day), l.o.Worker, l.o.Lease.Microseconds(),
			u.at, u.seq, u.generation, u.fresh, u.dead, u.place, u.reason, u.streak, u.claim, u.most, u.expires, u.aside)
	}
	if len(u.lostAt) > 0 {
		b.Queue(insertUnrecorded, u.lostAt, u.lostSeq, u.lostID, u.lostGeneration, u.lostNumber,
			u.lostStarted, u.lostWorker, u.lostEndpoint)
	}
	if len(u.freedAt) > 0 {
		b.Queue(onDay(deleteHolders, u.day), u.freedAt, u.freedSeq)
	}
}

// madeAt reads the time out of a UUIDv7.
func madeAt(id relay.AttemptID) time.Time {
	sec, nsec := uuid.UUID(id).Time().UnixTime()
	return time.Unix(sec, nsec).UTC()
}
