-- Whose an endpoint is, and row-level security: an option, with which a tenant's
-- own role reads its own rows and no others.
--
-- Who is which tenant stands in relay.tenant_roles, by the name of the role. A
-- setting such as relay.tenant would be no protection: anybody may SET one.

-- +goose Up

ALTER TABLE relay.endpoints ADD COLUMN tenant text;

UPDATE relay.endpoints e SET tenant = (
    SELECT w.tenant FROM relay.webhooks w
    WHERE w.endpoint_key = e.endpoint_key AND w.tenant IS NOT NULL LIMIT 1);

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
       coalesce(e.tenant, NULLIF(s.tenant, '')) AS tenant,
       s.paused_at, s.pause_reason, s.disabled_at, s.disabled_reason
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

-- Which tenant a role reads for. A role sees its own line only, from the beginning.
CREATE TABLE relay.tenant_roles (
    role   name PRIMARY KEY,
    tenant text NOT NULL CHECK (tenant <> '')
);
ALTER TABLE relay.tenant_roles ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON relay.tenant_roles FOR SELECT USING (role = current_user);

-- secure_table lets members of relay_tenant see their tenant's rows of one table
-- only. For everybody else nothing changes: a policy that is simply true costs a
-- statement nothing. An endpoint belongs to one tenant, and an attempt to its
-- endpoint.
-- +goose StatementBegin
CREATE FUNCTION relay.secure_table(secured regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own text := 'tenant = (SELECT r.tenant FROM relay.tenant_roles r WHERE r.role = current_user)';
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = secured AND attname = 'tenant' AND NOT attisdropped) THEN
        own := 'endpoint_key IN (SELECT e.endpoint_key FROM relay.endpoints e)';
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', secured);
    EXECUTE format('DROP POLICY IF EXISTS everybody ON %s', secured);
    EXECUTE format('DROP POLICY IF EXISTS tenant ON %s', secured);
    EXECUTE format('CREATE POLICY everybody ON %s USING (true) WITH CHECK (true)', secured);
    EXECUTE format('CREATE POLICY tenant ON %s AS RESTRICTIVE TO relay_tenant USING (%s)', secured, own);
END
$$;
-- +goose StatementEnd

-- enable_row_security turns row-level security on, for all tables, partitions and
-- views that hold rows of tenants, and lets relay_tenant read them. Repeated, it
-- covers what a later version has added. It needs the rights of the tables' owner.
-- +goose StatementBegin
CREATE FUNCTION relay.enable_row_security() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent regclass;
    t      regclass;
BEGIN
    IF current_setting('server_version_num')::integer < 150000 THEN
        RAISE EXCEPTION 'relay: row-level security needs Postgres 15, whose views can have the rights of who asks';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_tenant') THEN
        RAISE EXCEPTION 'relay: there is no role relay_tenant' USING HINT = 'CREATE ROLE relay_tenant NOLOGIN';
    END IF;
    FOREACH parent IN ARRAY ARRAY['relay.webhooks', 'relay.attempts', 'relay.endpoints', 'relay.idempotency',
        'relay.endpoint_settings']::regclass[] LOOP
        FOR t IN SELECT relid FROM pg_partition_tree(parent) UNION SELECT parent LOOP
            PERFORM relay.secure_table(t);
        END LOOP;
    END LOOP;
    FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'relay'::regnamespace AND relkind = 'v' LOOP
        EXECUTE format('ALTER VIEW %s SET (security_invoker = true)', t);
        EXECUTE format('GRANT SELECT ON %s TO relay_tenant', t);
    END LOOP;
    GRANT USAGE ON SCHEMA relay TO relay_tenant;
    GRANT SELECT ON relay.webhooks, relay.attempts, relay.endpoints, relay.idempotency, relay.tenant_roles TO relay_tenant;
    GRANT SELECT (endpoint_key, tenant, name, url, paused_at, pause_reason, disabled_at, disabled_reason,
        released_at, deleted_at, revision, created_at, updated_at, updated_by)
        ON relay.endpoint_settings TO relay_tenant; -- all but settings
END
$$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION relay.secure_table(regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION relay.enable_row_security() FROM PUBLIC;

-- ensure_partitions as before; a new partition is secured if its parent is.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION relay.ensure_partitions(from_day date, to_day date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    day    date;
    parent text;
    child  text;
    writer text;
    made   integer := 0;
BEGIN
    IF to_day - from_day > 400 THEN
        RAISE EXCEPTION 'relay.ensure_partitions: % to % is more than 400 days', from_day, to_day
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR i IN 0 .. to_day - from_day LOOP
        day := from_day + i;
        FOREACH parent IN ARRAY ARRAY['webhooks', 'attempts'] LOOP
            child := parent || '_' || to_char(day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass('relay.' || child) IS NOT NULL;
            -- One maker at a time. Whoever comes second finds it made, if it
            -- looks into the catalogue itself: to_regclass answers from a cache.
            PERFORM pg_advisory_xact_lock(hashtextextended('relay.ensure_partitions', 0));
            CONTINUE WHEN EXISTS (SELECT FROM pg_class
                WHERE relnamespace = 'relay'::regnamespace AND relname = child);
            EXECUTE format('CREATE TABLE relay.%I (LIKE relay.%I INCLUDING ALL)', child, parent);
            IF parent = 'webhooks' THEN
                -- Room on each page for the update that follows every insert;
                -- and bodies out of the rows, so that it does not copy them.
                EXECUTE format('ALTER TABLE relay.%I SET (fillfactor = 50, toast_tuple_target = 512)', child);
                -- relay updates the day's own table: through the parent, every
                -- statement would open the tables of all days.
                FOR writer IN SELECT r.rolname FROM pg_class c, aclexplode(c.relacl) x, pg_roles r
                              WHERE c.oid = 'relay.webhooks'::regclass AND r.oid = x.grantee
                                AND x.privilege_type = 'UPDATE' AND x.grantee <> c.relowner LOOP
                    EXECUTE format('GRANT SELECT, UPDATE ON relay.%I TO %I', child, writer);
                END LOOP;
            END IF;
            IF (SELECT relrowsecurity FROM pg_class WHERE oid = ('relay.' || parent)::regclass) THEN
                PERFORM relay.secure_table(('relay.' || child)::regclass);
            END IF;
            EXECUTE format('ALTER TABLE relay.%I ATTACH PARTITION relay.%I FOR VALUES FROM (%L) TO (%L)',
                parent, child, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_tenant') THEN
        CREATE ROLE relay_tenant NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- roles belong to the cluster: another database was quicker
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'relay: % may not create the role relay_tenant, so it is left out', current_user;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_owner') THEN
        ALTER TABLE relay.tenant_roles OWNER TO relay_owner;
        ALTER FUNCTION relay.secure_table(regclass) OWNER TO relay_owner;
        ALTER FUNCTION relay.enable_row_security() OWNER TO relay_owner;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'relay: % may not hand the tables to relay_owner and keeps them', current_user;
END
$$;
-- +goose StatementEnd
