package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay"
)

// Story is what the log knows of one event. Times are UTC; one that does not
// apply is zero.
type Story struct {
	relay.Webhook // without Body, Trace and Metadata

	Status       string // pending, processing, delivered, failed or dead
	Place        relay.Place
	Reason       string // of the latest verdict; "" if there is nothing to say
	Attempts     int    // of all generations, unrecorded ones not counted
	NextDue      time.Time
	DeliveredAt  time.Time
	FailedAt     time.Time // also of dead ones
	ClaimedBy    string    // the worker that may be making an attempt now
	ClaimedUntil time.Time

	Circuit      string // state of the endpoint's circuit; "" if it was never called
	CircuitUntil time.Time

	History []Entry // oldest first
}

// Entry is one attempt in a [Story].
type Entry struct {
	relay.Attempt
	Worker string
}

// maxStories bounds what one webhook id, which producers may repeat at will,
// brings to the screen.
const maxStories = 100

const selectStories = `
SELECT w.accepted_at, w.seq, w.generation, w.webhook_id, coalesce(w.tenant, ''), coalesce(w.event_type, ''),
    coalesce(w.endpoint_name, ''), w.endpoint_key, w.url, w.method, coalesce(w.content_type, ''), w.headers,
    coalesce(w.max_attempts, 0), w.scheduled_at, w.expires_at, coalesce(w.idempotency_key, ''),
    w.status, w.place, coalesce(w.reason, ''), w.attempts, w.next_due, w.delivered_at, w.failed_at,
    coalesce(w.claimed_by, ''), w.claimed_until, coalesce(e.circuit_state, ''), e.circuit_until
FROM relay.webhooks w
LEFT JOIN relay.endpoints e ON e.endpoint_key = w.endpoint_key
WHERE w.webhook_id = $1 AND ($3::text IS NULL OR coalesce(w.tenant, '') = $3)
ORDER BY w.accepted_at DESC, w.seq DESC
LIMIT $2`

const selectOwners = `
SELECT coalesce(tenant, ''), count(*), max(accepted_at)
FROM relay.webhooks
WHERE webhook_id = $1
GROUP BY 1
ORDER BY 1
LIMIT $2`

const selectHistory = `
SELECT a.attempt_id, a.number, a.generation, a.started_at, coalesce(a.duration_ms, 0), a.kind, a.success,
    coalesce(a.status, 0), a.response_headers, a.response_body, a.truncated,
    coalesce(a.error_class, ''), coalesce(a.error_message, ''), coalesce(a.worker, '')
FROM relay.attempts a
WHERE a.accepted_at = $1 AND a.seq = $2
ORDER BY a.started_at, a.attempt_id`

// Owner is a tenant with events of some webhook id.
type Owner struct {
	Tenant string // "" of what belongs to none
	Events int
	Newest time.Time // when the latest of them was accepted
}

// Owners returns the tenants that have events with a webhook id, a hundred at most.
// Each tenant has webhook ids of its own.
func (l *Log) Owners(ctx context.Context, webhookID string) ([]Owner, error) {
	rows, _ := l.pool.Query(ctx, selectOwners, webhookID, maxStories) // CollectRows tells the error
	owners, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Owner])
	if err != nil {
		return nil, fmt.Errorf("audit: whose is %q: %w", webhookID, err)
	}
	return owners, nil
}

// Explain returns the events with a webhook id, newest first, at most a hundred;
// none if there is no such event. They are those of one tenant ("" of what belongs
// to none), or with nil those of all. It reads what is committed and needs no
// running log.
func (l *Log) Explain(ctx context.Context, webhookID string, tenant *string) ([]Story, error) {
	rows, _ := l.pool.Query(ctx, selectStories, webhookID, maxStories, tenant) // CollectRows tells the error
	stories, err := pgx.CollectRows(rows, scanStory)
	if err != nil {
		return nil, fmt.Errorf("audit: explain %q: %w", webhookID, err)
	}
	for i := range stories {
		s := &stories[i]
		rows, _ := l.pool.Query(ctx, selectHistory, s.Key.Time, int64(s.Key.Seq)) //nolint:gosec // far below 2^63
		if s.History, err = pgx.CollectRows(rows, scanEntry); err != nil {
			return nil, fmt.Errorf("audit: explain %q: attempts of %s: %w", webhookID, s.Key, err)
		}
	}
	return stories, nil
}

func scanStory(row pgx.CollectableRow) (Story, error) {
	var (
		s                                                              Story
		accepted                                                       time.Time
		seq                                                            int64
		headers                                                        []byte
		scheduled, expires, due, delivered, failed, until, circuitTill *time.Time
	)
	err := row.Scan(&accepted, &seq, &s.Generation, &s.ID, &s.Tenant, &s.EventType,
		&s.EndpointName, &s.EndpointKey, &s.URL, &s.Method, &s.ContentType, &headers,
		&s.MaxAttempts, &scheduled, &expires, &s.IdempotencyKey,
		&s.Status, &s.Place, &s.Reason, &s.Attempts, &due, &delivered, &failed,
		&s.ClaimedBy, &until, &s.Circuit, &circuitTill)
	if err != nil {
		return Story{}, err
	}
	s.Key = relay.NewKey(accepted, uint64(seq)) //nolint:gosec // written from a uint64
	s.Header = readHeaders(headers)
	s.ScheduledAt, s.ExpiresAt, s.NextDue = utc(scheduled), utc(expires), utc(due)
	s.DeliveredAt, s.FailedAt = utc(delivered), utc(failed)
	s.ClaimedUntil, s.CircuitUntil = utc(until), utc(circuitTill)
	return s, nil
}

func scanEntry(row pgx.CollectableRow) (Entry, error) {
	var (
		e       Entry
		millis  float64
		headers []byte
	)
	err := row.Scan((*[16]byte)(&e.ID), &e.Number, &e.Generation, &e.Started, &millis, &e.Kind, &e.Success,
		&e.Status, &headers, &e.Body, &e.Truncated, &e.Class, &e.Err, &e.Worker)
	e.Started = e.Started.UTC()
	e.Took = time.Duration(millis * float64(time.Millisecond))
	e.Header = readHeaders(headers)
	return e, err
}

func readHeaders(raw []byte) http.Header {
	var h http.Header
	if len(raw) == 0 || json.Unmarshal(raw, &h) != nil {
		return nil // written by somebody else: nothing to show
	}
	return h
}

func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
