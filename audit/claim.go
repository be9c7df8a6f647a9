package audit

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay"
)

// claiming is a request for a claim.
type claiming struct {
	webhook relay.Webhook
	id      relay.AttemptID // of the attempt, if it is granted
	reduced string          // not "": the row was refused, for this reason
	aside   *relay.Verdict  // not nil: no attempt is wanted, the event is to wait
}

// granted is the answer to a request for a new event.
func (c *claiming) granted() relay.Claim {
	if c.aside != nil {
		return relay.Claim{Verdict: *c.aside}
	}
	return relay.Claim{ID: c.id, Verdict: relay.Verdict{Action: relay.Send, Place: relay.InQueue}}
}

func newID() relay.AttemptID { return relay.AttemptID(uuid.Must(uuid.NewV7())) }

// weigh estimates the foreign bytes of an event's row.
func weigh(w relay.Webhook) int { return len(w.Body) + len(w.Metadata) + len(w.URL) + 256 }

// reduceClaiming marks a request whose row was refused. Body and URL are left
// out of the row only: the event is delivered as it is.
func reduceClaiming(c *claiming, err error) { c.reduced = "unrecordable: " + sqlState(err) }

// insertHolders lets events take their idempotency keys. An event that is
// through already gave its key back or keeps it, and takes none; nor does an
// old copy of one that was replayed.
var insertHolders = newStatement(`
INSERT INTO relay.idempotency (tenant, key, accepted_at, seq, webhook_id)
SELECT i.tenant, i.key, i.accepted_at, i.seq, i.webhook_id
FROM (
    SELECT unnest($1::text[]) AS tenant, unnest($2::text[]) AS key, unnest($3::timestamptz[]) AS accepted_at,
        unnest($4::bigint[]) AS seq, unnest($5::text[]) AS webhook_id
) i
WHERE NOT EXISTS (
    SELECT FROM relay.webhooks_DAY w
    WHERE ` + sameEvent + `
      AND (w.generation > 0 OR w.status IN ('delivered', 'failed', 'dead')))
ORDER BY i.tenant, i.key
ON CONFLICT DO NOTHING`)

// insertWebhooks stores new events with the claim already in them: one row
// version for the usual case. One that is to wait (a place is named) has been
// claimed and given back at once. An event whose idempotency key another one holds
// is stored as a duplicate, without a claim. One whose key was given back just
// now is not stored: it is asked for again. Returned are the claims granted.
var insertWebhooks = newInsertion(`
INSERT INTO relay.webhooks (
    accepted_at, seq, generation, webhook_id, tenant, event_type, endpoint_key, endpoint_name,
    url, method, content_type, headers, body, metadata, idempotency_key,
    max_attempts, scheduled_at, expires_at,
    status, place, reason, failed_at, claim, claimed_by, claimed_until, last_claim)
SELECT i.accepted_at, i.seq, i.generation, i.webhook_id, NULLIF(i.tenant, ''), NULLIF(i.event_type, ''),
    i.endpoint_key, NULLIF(i.endpoint_name, ''), i.url, i.method, NULLIF(i.content_type, ''),
    i.headers::jsonb, i.body, NULLIF(i.metadata, '')::jsonb, NULLIF(i.idempotency_key, ''),
    NULLIF(i.max_attempts, 0),
    NULLIF(i.scheduled_at, '0001-01-01 00:00:00Z'), NULLIF(i.expires_at, '0001-01-01 00:00:00Z'),
    CASE WHEN d.webhook_id IS NOT NULL THEN 'dead' WHEN i.place <> '' THEN 'pending' ELSE 'processing' END,
    CASE WHEN d.webhook_id IS NULL THEN coalesce(NULLIF(i.place, ''), 'queue') ELSE 'gone' END,
    CASE WHEN d.webhook_id IS NOT NULL THEN
        'duplicate of ' || d.webhook_id || ' (' || relay.event_key(d.accepted_at, d.seq) || ')'
    ELSE NULLIF(i.reason, '') END,
    CASE WHEN d.webhook_id IS NOT NULL THEN now() END,
    CASE WHEN d.webhook_id IS NULL AND i.place = '' THEN i.claim END,
    CASE WHEN d.webhook_id IS NULL AND i.place = '' THEN $1 END,
    CASE WHEN d.webhook_id IS NULL AND i.place = '' THEN now() + $2::bigint * interval '1 microsecond' END,
    CASE WHEN d.webhook_id IS NULL AND i.place <> '' THEN i.claim END
FROM (
    SELECT unnest($4::timestamptz[]) AS accepted_at, unnest($5::bigint[]) AS seq,
        unnest($6::integer[]) AS generation, unnest($7::text[]) AS webhook_id, unnest($8::text[]) AS tenant,
        unnest($9::text[]) AS event_type, unnest($10::text[]) AS endpoint_key,
        unnest($11::text[]) AS endpoint_name, unnest($12::text[]) AS url, unnest($13::text[]) AS method,
        unnest($14::text[]) AS content_type, unnest($15::text[]) AS headers,
        substr($3::bytea, unnest($25::integer[]), unnest($26::integer[])) AS body,
        unnest($16::text[]) AS metadata, unnest($17::text[]) AS idempotency_key,
        unnest($18::integer[]) AS max_attempts, unnest($19::timestamptz[]) AS scheduled_at,
        unnest($20::timestamptz[]) AS expires_at, unnest($21::text[]) AS reason, unnest($22::uuid[]) AS claim,
        unnest($23::text[]) AS takes, unnest($24::text[]) AS place
) i
LEFT JOIN LATERAL (
    -- OFFSET keeps this a look-up by key, however large the table has grown
    SELECT h.* FROM relay.idempotency h WHERE h.tenant = i.tenant AND h.key = NULLIF(i.takes, '') OFFSET 0
) h ON true
LEFT JOIN LATERAL (
    SELECT h.webhook_id, h.accepted_at, h.seq WHERE (h.accepted_at, h.seq) <> (i.accepted_at, i.seq)
) d ON true
WHERE i.takes = '' OR h.key IS NOT NULL
ON CONFLICT DO NOTHING
RETURNING coalesce(claim, last_claim)`)

// writeClaims stores the events of a batch that are new, in one round trip, and
// sees to the others in a second one.
func (l *Log) writeClaims(ctx context.Context, batch []*call[claiming, relay.Claim], events *novelty) error {
	defer l.promise(batch, time.Now())
	holders, webhooks, d := holderColumns(batch), l.webhookColumns(batch), day(batch[0].key)
	var granted map[relay.AttemptID]struct{}
	err := events.write(insertWebhooks, func(insert statement) (err error) {
		b := &pgx.Batch{}
		if len(holders.seq) > 0 {
			insertHolders.queue(b, d, holders.args())
		}
		insert.queue(b, d, webhooks)
		granted, err = l.grant(ctx, b, len(batch))
		return err
	})
	if err != nil {
		return err
	}
	var others []*call[claiming, relay.Claim]
	for _, q := range batch {
		if _, ok := granted[q.in.id]; ok {
			q.out = q.in.granted()
			continue
		}
		others = append(others, q)
	}
	missing, err := l.claimAgain(ctx, others)
	if err == nil && len(missing) > 0 {
		return errAgain
	}
	return err
}

// writeKnown is writeClaims for events of which most have a row: what they hold is
// sent to Postgres for the others only.
func (l *Log) writeKnown(ctx context.Context, batch []*call[claiming, relay.Claim]) error {
	defer l.promise(batch, time.Now())
	missing, err := l.claimAgain(ctx, batch)
	if err != nil || len(missing) == 0 {
		return err
	}
	return l.writeClaims(ctx, missing, nil)
}

// promise says until when claims hold that were asked for at a time: before Postgres
// began to count, and at this try, since the ones before it may have taken longer
// than a lease.
func (l *Log) promise(batch []*call[claiming, relay.Claim], began time.Time) {
	for _, q := range batch {
		q.out.Until, q.out.Lease = began.Add(l.o.Lease), l.o.Lease
	}
}

// grant runs the statements of which the last one returns the claims it
// granted, and returns those.
func (l *Log) grant(ctx context.Context, b *pgx.Batch, n int) (_ map[relay.AttemptID]struct{}, err error) {
	results := l.pool.SendBatch(ctx, b)
	defer func() { err = errors.Join(err, results.Close()) }()
	for range b.Len() - 1 {
		if _, err := results.Exec(); err != nil {
			return nil, err
		}
	}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	granted := make(map[relay.AttemptID]struct{}, n)
	var id *[16]byte
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		if id != nil { // null: a duplicate
			granted[*id] = struct{}{}
		}
		return nil
	})
	return granted, err
}

// release gives back a claim that was granted when nobody waited for it any
// more, so that it is not taken for an attempt that may have been made.
func (l *Log) release(c claiming, granted relay.Claim) {
	if granted.Verdict.Action != relay.Send {
		return
	}
	r := newRecording(c.webhook, granted, nil, relay.Verdict{Action: relay.Defer})
	q := &call[recording, relay.Verdict]{key: c.webhook.Key, in: r, done: make(chan struct{})}
	q.ended.Store(true)
	l.records.add(q) // if it is closed, the lease ends the claim
}
