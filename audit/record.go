package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay"
)

// recording is a request to record what came of a claim.
type recording struct {
	webhook  relay.Webhook
	claim    relay.Claim
	attempts []relay.Attempt // with ID and Number
	verdict  relay.Verdict
}

// newRecording completes the attempts: those without an id were made under the
// claim's, and without a number they follow those made before.
func newRecording(w relay.Webhook, c relay.Claim, as []relay.Attempt, v relay.Verdict) recording {
	r := recording{webhook: w, claim: c, verdict: v}
	for i, a := range as {
		if a.ID == (relay.AttemptID{}) {
			a.ID = c.ID
		}
		if a.Number == 0 {
			a.Number = c.Made + i + 1
		}
		r.attempts = append(r.attempts, a)
	}
	return r
}

func (r *recording) weight() int {
	n := 256
	for _, a := range r.attempts {
		n += len(a.Body) + relay.MaxResponseHeader/8
	}
	return n
}

// reduceRecording takes everything out of the attempts that the receiver or
// the network said, and keeps what relay judged.
func reduceRecording(r *recording, err error) {
	r.webhook.URL, r.webhook.EndpointName = "", ""
	r.verdict.Reason = plain(r.verdict.Reason, maxName)
	for i, a := range r.attempts {
		r.attempts[i] = relay.Attempt{
			ID: a.ID, Number: a.Number, Generation: a.Generation, Started: a.Started, Took: a.Took,
			Kind: a.Kind, Success: a.Success, Status: a.Status, Truncated: true,
			Class: "unrecordable", Err: sqlState(err),
		}
	}
}

// takes says in SQL when a record decides over an event: when its claim still
// stands, or when an attempt succeeded whose claim another process took for
// left over. The receiver has the webhook then, so the event is delivered,
// unless it ended otherwise meanwhile or was replayed.
const takes = `(w.claim = i.claim OR (i.status = 'delivered' AND w.generation = i.generation
        AND w.status IN ('pending', 'processing')))`

// insertRecords stores attempts and what they mean for their events and
// endpoints, in one statement, so that all counts come from the rows that were
// really inserted: repeated, it inserts none and counts none. An event whose
// record was written before matches nothing and is not returned.
//
// The counts are grouped rather than joined, and the events looked up by
// inequalities (see sameEvent), so that no plan that was made for few rows is a
// bad one for many.
//
// The endpoints come last, in the order of their keys: every relay process
// writes the same few rows. One fails since the first of its failures that began
// after all its successes, in whatever order they are recorded.
//
// An attempt after which its event waits in the lane uses up none of those that
// the event may have: its endpoint was disabled, and whoever enables it again
// wants the event to be delivered.
var insertRecords = newInsertion(`
WITH a AS (
    INSERT INTO relay.attempts (accepted_at, seq, attempt_id, generation, number, kind, success, started_at,
        duration_ms, status, response_headers, response_body, truncated, error_class, error_message,
        worker, endpoint_key)
    SELECT t.accepted_at, t.seq, t.attempt_id, t.generation, t.number, t.kind, t.success, t.started_at,
        t.duration_ms, NULLIF(t.status, 0), NULLIF(t.headers, '')::jsonb, t.body, t.truncated,
        NULLIF(t.class, ''), NULLIF(t.err, ''), $1, t.endpoint_key
    FROM (
        SELECT unnest($2::timestamptz[]) AS accepted_at, unnest($3::bigint[]) AS seq, unnest($4::uuid[]) AS attempt_id,
            unnest($5::integer[]) AS generation, unnest($6::integer[]) AS number, unnest($7::text[]) AS kind,
            unnest($8::boolean[]) AS success, unnest($9::timestamptz[]) AS started_at,
            unnest($10::float8[]) AS duration_ms, unnest($11::integer[]) AS status, unnest($12::text[]) AS headers,
            unnest($13::bytea[]) AS body, unnest($14::boolean[]) AS truncated, unnest($15::text[]) AS class,
            unnest($16::text[]) AS err, unnest($17::text[]) AS endpoint_key
    ) t
    ON CONFLICT DO NOTHING
    RETURNING accepted_at, seq, kind, success, started_at, endpoint_key
), made AS (
    SELECT array_agg(made ORDER BY n) AS counts FROM (
        SELECT min(n) AS n, count(*)::integer - 1 AS made FROM (
            SELECT unnest($23::timestamptz[]) AS accepted_at, unnest($24::bigint[]) AS seq,
                generate_subscripts($23::timestamptz[], 1) AS n
            UNION ALL
            SELECT accepted_at, seq, NULL FROM a WHERE kind <> 'unrecorded'
        ) both_sides GROUP BY accepted_at, seq
    ) per_event
), called AS (
    INSERT INTO relay.endpoints AS e (endpoint_key, url, host, name, tenant,
        success_count, failure_count, last_success_at, last_failure_at, failing_since)
    SELECT key, max(url), max(host), NULLIF(max(name), ''), NULLIF(max(tenant), ''),
        count(*) FILTER (WHERE success), count(*) FILTER (WHERE NOT success),
        max(started_at) FILTER (WHERE success), max(started_at) FILTER (WHERE NOT success),
        NULLIF(max(failing_since), '0001-01-01 00:00:00Z')
    FROM (
        SELECT p.*, NULL::boolean AS success, NULL::timestamptz AS started_at
        FROM (
            SELECT unnest($18::text[]) AS key, unnest($19::text[]) AS url, unnest($20::text[]) AS host,
                unnest($21::text[]) AS name, unnest($22::text[]) AS tenant, unnest($32::timestamptz[]) AS failing_since
        ) p
        UNION ALL
        SELECT endpoint_key, '' AS url, '' AS host, '' AS name, '' AS tenant, NULL, success, started_at FROM a WHERE kind <> 'unrecorded'
    ) both_sides
    GROUP BY key HAVING count(success) > 0
    ORDER BY key
    ON CONFLICT (endpoint_key) DO UPDATE SET
        name = coalesce(excluded.name, e.name), tenant = coalesce(e.tenant, excluded.tenant),
        success_count = e.success_count + excluded.success_count,
        failure_count = e.failure_count + excluded.failure_count,
        last_success_at = greatest(e.last_success_at, excluded.last_success_at),
        last_failure_at = greatest(e.last_failure_at, excluded.last_failure_at),
        failing_since = CASE
            WHEN e.failing_since > coalesce(greatest(e.last_success_at, excluded.last_success_at), '-infinity')
                THEN e.failing_since
            WHEN excluded.failing_since > coalesce(greatest(e.last_success_at, excluded.last_success_at), '-infinity')
                THEN excluded.failing_since
        END,
        updated_at = now()
)
UPDATE relay.webhooks_DAY w SET
    attempts = w.attempts + i.made,
    generation_attempts = w.generation_attempts
        + CASE WHEN w.generation = i.generation AND i.place <> 'lane' THEN i.made ELSE 0 END,
    last_status = CASE WHEN i.made > 0 THEN NULLIF(i.last_status, 0) ELSE w.last_status END,
    unrecorded_streak = CASE WHEN i.made > 0 AND ` + takes + ` THEN 0 ELSE w.unrecorded_streak END,
    status = CASE WHEN ` + takes + ` THEN i.status ELSE w.status END,
    place = CASE WHEN ` + takes + ` THEN coalesce(NULLIF(i.place, ''), w.place) ELSE w.place END,
    reason = CASE WHEN w.claim = i.claim THEN NULLIF(i.reason, '')
        WHEN ` + takes + ` THEN 'answered after its claim had run out' ELSE w.reason END,
    next_due = CASE WHEN ` + takes + ` THEN
        CASE WHEN i.after > 0 THEN now() + i.after * interval '1 microsecond' END ELSE w.next_due END,
    delivered_at = CASE WHEN ` + takes + ` THEN CASE WHEN i.status = 'delivered' THEN now() END ELSE w.delivered_at END,
    failed_at = CASE WHEN ` + takes + ` THEN CASE WHEN i.status IN ('failed', 'dead') THEN now() END ELSE w.failed_at END,
    last_claim = CASE WHEN ` + takes + ` THEN i.claim ELSE w.last_claim END,
    claimed_by = CASE WHEN ` + takes + ` THEN NULL ELSE w.claimed_by END,
    claimed_until = CASE WHEN ` + takes + ` THEN NULL ELSE w.claimed_until END,
    claim = CASE WHEN ` + takes + ` THEN NULL ELSE w.claim END,
    updated_at = now()
FROM (
    SELECT unnest($23::timestamptz[]) AS accepted_at, unnest($24::bigint[]) AS seq,
        unnest($25::integer[]) AS generation, unnest($26::uuid[]) AS claim, unnest($27::text[]) AS status,
        unnest($28::text[]) AS place, unnest($29::text[]) AS reason, unnest($30::bigint[]) AS after,
        unnest($31::integer[]) AS last_status, unnest((SELECT counts FROM made)::integer[]) AS made,
        generate_subscripts($23::timestamptz[], 1) AS n
) i
WHERE ` + sameEvent + ` AND (i.made > 0 OR ` + takes + `)
RETURNING i.n, w.last_claim IS NOT DISTINCT FROM i.claim, w.status, w.generation, w.place, coalesce(w.reason, '')`)

// selectRecorded reads what became of events whose record changed nothing.
const selectRecorded = `
SELECT i.n, w.last_claim IS NOT DISTINCT FROM i.claim, w.status, w.generation, w.place, coalesce(w.reason, '')
FROM unnest($1::timestamptz[], $2::bigint[], $3::uuid[]) WITH ORDINALITY AS i (accepted_at, seq, claim, n)
JOIN relay.webhooks_DAY w ON ` + sameEvent

// outcome is an event after a record.
type outcome struct {
	took       bool // the record decided over it, now or when it was first written
	status     string
	generation int
	place      relay.Place
	reason     string
}

// effective returns the verdict that holds for whoever recorded v.
func effective(o outcome, generation int, v relay.Verdict) relay.Verdict {
	switch {
	case o.took:
		return v
	case o.generation == generation && terminal(o.status):
		return settled(row{status: o.status, place: o.place, reason: o.reason})
	}
	return relay.Verdict{Action: relay.Superseded, Reason: "another process has the event now"}
}

// writeRecords writes a batch of records in one round trip. Those that changed
// nothing, repetitions most of all, are looked up in a second one.
func (l *Log) writeRecords(ctx context.Context, batch []*call[recording, relay.Verdict]) error {
	records, d := l.recordColumns(batch), day(batch[0].key)
	buriedAt, buried := buriedColumns(batch)
	var outcomes map[int]outcome
	err := l.attempts.write(insertRecords, func(insert statement) (err error) {
		b := &pgx.Batch{}
		insert.queue(b, d, records)
		if len(buried) > 0 {
			b.Queue(onDay(deleteHolders, d), buriedAt, buried)
		}
		outcomes, err = l.outcomes(ctx, b, len(batch))
		return err
	})
	if err != nil {
		return err
	}
	var rest []*call[recording, relay.Verdict]
	for i, q := range batch {
		if o, ok := outcomes[i]; ok {
			q.out = effective(o, q.in.webhook.Generation, q.in.verdict)
			continue
		}
		rest = append(rest, q)
	}
	if len(rest) == 0 {
		return nil
	}
	return l.lookUp(ctx, rest)
}

// lookUp answers the records that changed nothing. An event without a row was
// dropped with its day: nothing contradicts the verdict.
func (l *Log) lookUp(ctx context.Context, rest []*call[recording, relay.Verdict]) error {
	b := &pgx.Batch{}
	at, seq := keyColumns(rest)
	claims := make(ids, len(rest))
	for i, q := range rest {
		claims[i] = q.in.claim.ID
	}
	b.Queue(onDay(selectRecorded, day(rest[0].key)), at, seq, claims)
	outcomes, err := l.outcomes(ctx, b, len(rest))
	if err != nil {
		return err
	}
	for i, q := range rest {
		o, ok := outcomes[i]
		if !ok {
			o.took = true
		}
		q.out = effective(o, q.in.webhook.Generation, q.in.verdict)
	}
	return nil
}

// outcomes runs statements of which the first returns outcomes, and returns
// those by their index in the batch.
func (l *Log) outcomes(ctx context.Context, b *pgx.Batch, n int) (_ map[int]outcome, err error) {
	results := l.pool.SendBatch(ctx, b)
	defer func() {
		if e := results.Close(); e != nil {
			err = errors.Join(err, fmt.Errorf("commit: %w", e))
		}
	}()
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	found := make(map[int]outcome, n)
	var (
		i int
		o outcome
	)
	_, err = pgx.ForEachRow(rows, []any{&i, &o.took, &o.status, &o.generation, &o.place, &o.reason}, func() error {
		found[i-1] = o
		return nil
	})
	return found, err
}
