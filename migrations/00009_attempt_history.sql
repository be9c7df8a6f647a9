-- A view for people: every attempt with the event that it was made for, and so with
-- its tenant. relay.attempts has none of its own: that would cost every attempt, and
-- the event's row says it.

-- +goose Up

CREATE VIEW relay.attempt_history AS
SELECT w.webhook_id, w.tenant, w.event_type, w.endpoint_name, a.endpoint_key, w.url, w.method,
       a.generation, a.number, a.kind, a.success, a.status, a.started_at, a.duration_ms,
       a.error_class, a.error_message, a.response_headers, relay.body_text(a.response_body) AS response,
       a.truncated, a.worker, a.attempt_id,
       a.accepted_at, a.seq, relay.event_key(a.accepted_at, a.seq) AS event_key
FROM relay.attempts a
JOIN relay.webhooks w ON w.accepted_at = a.accepted_at AND w.seq = a.seq;

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_app') THEN
        GRANT SELECT ON relay.attempt_history TO relay_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_reader') THEN
        GRANT SELECT ON relay.attempt_history TO relay_reader;
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_owner') THEN
        ALTER VIEW relay.attempt_history OWNER TO relay_owner;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'relay: % may not hand the view to relay_owner and keeps it', current_user;
END
$$;
-- +goose StatementEnd

-- Where row-level security is on it holds here too, from the beginning: a view
-- without it shows whoever may read it the rows of all tenants.
-- +goose StatementBegin
DO $$
BEGIN
    IF (SELECT relrowsecurity FROM pg_class WHERE oid = 'relay.webhooks'::regclass) THEN
        PERFORM relay.enable_row_security();
    END IF;
END
$$;
-- +goose StatementEnd
