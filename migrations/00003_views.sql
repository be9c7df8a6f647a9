-- Views for people.

-- +goose Up

-- event_key returns the name of an event as it stands in subjects and headers.
CREATE FUNCTION relay.event_key(accepted_at timestamptz, seq bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (extract(epoch FROM accepted_at) * 1000000)::bigint || '-' || seq;

-- body_text returns bytes as text, or null where they are no UTF-8 text.
-- +goose StatementBegin
CREATE FUNCTION relay.body_text(bytes bytea) RETURNS text
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN convert_from(bytes, 'UTF8');
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- body_json returns bytes as JSON, or null where they are no JSON that
-- Postgres can hold (it holds no NUL character and no lone surrogate).
-- +goose StatementBegin
CREATE FUNCTION relay.body_json(bytes bytea) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN convert_from(bytes, 'UTF8')::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- webhook_status: one row an event, with its latest attempt.
CREATE VIEW relay.webhook_status AS
SELECT w.webhook_id, w.status, w.reason, w.attempts, w.max_attempts, w.place, w.next_due,
       w.tenant, w.event_type, w.endpoint_name, w.endpoint_key, w.url, w.method, w.generation,
       w.accepted_at, w.seq, relay.event_key(w.accepted_at, w.seq) AS event_key,
       w.scheduled_at, w.expires_at, w.delivered_at, w.failed_at, w.idempotency_key,
       w.content_type, w.headers, w.metadata,
       relay.body_json(w.body) AS body, octet_length(w.body) AS body_bytes,
       a.attempt_id AS last_attempt_id, a.kind AS last_kind, a.success AS last_success,
       a.status AS last_status, a.started_at AS last_started_at, a.duration_ms AS last_duration_ms,
       a.error_class AS last_error_class, a.error_message AS last_error_message,
       relay.body_text(a.response_body) AS last_response, w.updated_at
FROM relay.webhooks w
LEFT JOIN LATERAL (
    SELECT * FROM relay.attempts a
    WHERE a.accepted_at = w.accepted_at AND a.seq = w.seq
    ORDER BY a.generation DESC, a.number DESC, a.started_at DESC, a.attempt_id DESC
    LIMIT 1
) a ON true;

-- endpoint_health: one row an endpoint, with its last 24 hours.
CREATE VIEW relay.endpoint_health AS
SELECT e.endpoint_key, e.name, e.url, e.host, e.circuit_state, e.circuit_until,
       coalesce(d.attempts, 0) AS attempts_24h,
       coalesce(d.successes, 0) AS successes_24h,
       coalesce(d.attempts - d.successes, 0) AS failures_24h,
       round(100.0 * d.successes / nullif(d.attempts, 0), 2) AS success_percent_24h,
       d.p50_ms AS p50_ms_24h, d.p95_ms AS p95_ms_24h,
       coalesce(b.pending, 0) AS pending,
       e.success_count, e.failure_count, e.last_success_at, e.last_failure_at,
       e.first_seen_at, e.updated_at
FROM relay.endpoints e
LEFT JOIN (
    SELECT endpoint_key, count(*) AS attempts, count(*) FILTER (WHERE success) AS successes,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) AS p50_ms,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms
    FROM relay.attempts
    WHERE started_at > now() - interval '24 hours' AND kind <> 'unrecorded'
    GROUP BY endpoint_key
) d ON d.endpoint_key = e.endpoint_key
LEFT JOIN (
    SELECT backlog_of, count(*) AS pending FROM relay.webhooks WHERE backlog_of IS NOT NULL GROUP BY backlog_of
) b ON b.backlog_of = e.endpoint_key;

-- dead_letters: what was given up, why, and where its letter lies. An event
-- that only repeats another's idempotency key has no letter and is not here.
CREATE VIEW relay.dead_letters AS
SELECT w.webhook_id, w.status, w.reason, w.attempts, w.last_status, w.failed_at,
       w.tenant, w.event_type, w.endpoint_name, w.endpoint_key, w.url, w.generation,
       w.accepted_at, w.seq, relay.event_key(w.accepted_at, w.seq) AS event_key,
       'webhooks.dead.' || w.endpoint_key || '.' || relay.event_key(w.accepted_at, w.seq) AS letter_subject
FROM relay.webhooks w
WHERE w.failed_at IS NOT NULL AND w.status IN ('failed', 'dead') AND w.place <> 'gone';
