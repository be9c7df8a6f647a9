-- The registered endpoints and their settings, and which endpoints are paused or
-- disabled. Apart from relay.endpoints, whose rows change with every attempt.
-- Secrets in settings are sealed: no table, view or backup has them in plain.
--
-- A change by hand counts like any other: an UPDATE of url, paused_at or disabled_at
-- takes effect in every relay process within a second.

-- +goose Up

CREATE SEQUENCE relay.endpoint_revisions;

CREATE TABLE relay.endpoint_settings (
    endpoint_key    text        PRIMARY KEY, -- made of tenant and name, or of tenant and URL
    tenant          text        NOT NULL DEFAULT '',
    name            text,  -- null: known by its URL alone
    url             text,  -- without its query, which is sealed in settings
    settings        jsonb, -- null: none of its own, or they stand in the configuration file
    paused_at       timestamptz,
    pause_reason    text,
    disabled_at     timestamptz,
    disabled_reason text,
    released_at     timestamptz, -- when it was last held no longer; kept by the trigger
    deleted_at      timestamptz, -- a tombstone, so that every process hears of it; the key may be used again
    revision        bigint      NOT NULL DEFAULT 0, -- of the latest change; given by the trigger
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    updated_by      text
);

CREATE UNIQUE INDEX endpoint_settings_revision ON relay.endpoint_settings (revision);
CREATE UNIQUE INDEX endpoint_settings_name ON relay.endpoint_settings (tenant, name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX endpoint_settings_url ON relay.endpoint_settings (tenant, url)
    WHERE deleted_at IS NULL AND settings IS NOT NULL;

-- Revisions become visible in their order: the number is drawn under a lock that
-- is held until the change is committed. So whoever has read up to a revision
-- misses nothing by asking for what is above it. The lock is taken before any row,
-- so that two changes cannot wait for each other.
-- +goose StatementBegin
CREATE FUNCTION relay.lock_endpoint_settings() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('relay.endpoint_settings'));
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION relay.note_endpoint_settings() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.revision := nextval('relay.endpoint_revisions');
    NEW.updated_at := now();
    IF TG_OP = 'UPDATE' AND coalesce(OLD.paused_at, OLD.disabled_at) IS NOT NULL
        AND coalesce(NEW.paused_at, NEW.disabled_at) IS NULL THEN
        NEW.released_at := now();
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd

-- A row that just disappears would go on working in every process that knows it.
-- +goose StatementBegin
CREATE FUNCTION relay.keep_endpoint_settings() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'an endpoint that is not deleted yet cannot be removed from relay.endpoint_settings'
        USING HINT = 'UPDATE relay.endpoint_settings SET deleted_at = now() deletes it in every relay process.';
END
$$;
-- +goose StatementEnd

CREATE TRIGGER lock_first BEFORE INSERT OR UPDATE ON relay.endpoint_settings
    FOR EACH STATEMENT EXECUTE FUNCTION relay.lock_endpoint_settings();
CREATE TRIGGER note BEFORE INSERT OR UPDATE ON relay.endpoint_settings
    FOR EACH ROW EXECUTE FUNCTION relay.note_endpoint_settings();
CREATE TRIGGER keep BEFORE DELETE ON relay.endpoint_settings
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL) EXECUTE FUNCTION relay.keep_endpoint_settings();
CREATE TRIGGER keep_all BEFORE TRUNCATE ON relay.endpoint_settings
    FOR EACH STATEMENT EXECUTE FUNCTION relay.keep_endpoint_settings();

-- endpoint_health: one row an endpoint, with its last 24 hours, and whether it is
-- held.
CREATE OR REPLACE VIEW relay.endpoint_health AS
SELECT e.endpoint_key, e.name, e.url, e.host, e.circuit_state, e.circuit_until,
       coalesce(d.attempts, 0) AS attempts_24h,
       coalesce(d.successes, 0) AS successes_24h,
       coalesce(d.attempts - d.successes, 0) AS failures_24h,
       round(100.0 * d.successes / nullif(d.attempts, 0), 2) AS success_percent_24h,
       d.p50_ms AS p50_ms_24h, d.p95_ms AS p95_ms_24h,
       coalesce(b.pending, 0) AS pending,
       e.success_count, e.failure_count, e.last_success_at, e.last_failure_at,
       e.first_seen_at, e.updated_at,
       s.tenant, s.paused_at, s.pause_reason, s.disabled_at, s.disabled_reason
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
) b ON b.backlog_of = e.endpoint_key
LEFT JOIN relay.endpoint_settings s ON s.endpoint_key = e.endpoint_key AND s.deleted_at IS NULL;

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_app') THEN
        GRANT SELECT, INSERT, UPDATE ON relay.endpoint_settings TO relay_app;
        GRANT USAGE ON SEQUENCE relay.endpoint_revisions TO relay_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_reader') THEN
        GRANT SELECT (endpoint_key, tenant, name, url, paused_at, pause_reason, disabled_at, disabled_reason,
            released_at, deleted_at, revision, created_at, updated_at, updated_by)
            ON relay.endpoint_settings TO relay_reader; -- all but settings
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_owner') THEN
        ALTER TABLE relay.endpoint_settings OWNER TO relay_owner;
        ALTER SEQUENCE relay.endpoint_revisions OWNER TO relay_owner;
        ALTER FUNCTION relay.lock_endpoint_settings() OWNER TO relay_owner;
        ALTER FUNCTION relay.note_endpoint_settings() OWNER TO relay_owner;
        ALTER FUNCTION relay.keep_endpoint_settings() OWNER TO relay_owner;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'relay: % may not hand the table to relay_owner and keeps it', current_user;
END
$$;
-- +goose StatementEnd
