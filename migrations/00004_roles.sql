-- The roles: relay_owner owns everything, migrates and drops old partitions;
-- relay_app is for the running relay, which can add attempts but never change
-- or remove one; relay_reader reads. They are groups without a password and
-- without a login: GRANT them to the users of your choice.
--
-- A managed Postgres may not let the migrating user make roles. Then they are
-- left out with a notice: relay works as the tables' owner, or as any user to
-- whom the rights below were granted by hand.

-- +goose Up

-- +goose StatementBegin
DO $$
DECLARE
    r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['relay_owner', 'relay_app', 'relay_reader'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = r);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', r);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL; -- roles belong to the cluster: another database was quicker
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'relay: % may not create the role %, so it is left out', current_user, r;
        END;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_app') THEN
        GRANT USAGE ON SCHEMA relay TO relay_app;
        GRANT SELECT, INSERT, UPDATE ON relay.webhooks, relay.endpoints TO relay_app;
        GRANT SELECT, INSERT ON relay.attempts TO relay_app;
        GRANT SELECT, INSERT, DELETE ON relay.idempotency TO relay_app;
        GRANT SELECT ON relay.migrations, relay.webhook_status, relay.endpoint_health, relay.dead_letters TO relay_app;
        GRANT EXECUTE ON FUNCTION relay.ensure_partitions(date, date) TO relay_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_reader') THEN
        GRANT USAGE ON SCHEMA relay TO relay_reader;
        GRANT SELECT ON relay.webhooks, relay.attempts, relay.endpoints, relay.idempotency, relay.migrations,
            relay.webhook_status, relay.endpoint_health, relay.dead_letters TO relay_reader;
    END IF;
END
$$;
-- +goose StatementEnd

-- Everything goes to relay_owner, so that ensure_partitions runs with its
-- rights and not with those of whoever migrated, who may be a superuser.
-- +goose StatementBegin
DO $$
DECLARE
    t text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_owner') THEN
        RETURN;
    END IF;
    IF NOT pg_has_role(current_user, 'relay_owner', 'USAGE') THEN
        EXECUTE format('GRANT relay_owner TO %I', current_user);
    END IF;
    ALTER SCHEMA relay OWNER TO relay_owner;
    FOR t IN SELECT c.oid::regclass FROM pg_class c
             WHERE c.relnamespace = 'relay'::regnamespace AND c.relkind IN ('r', 'p') LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO relay_owner', t);
    END LOOP;
    FOR t IN SELECT c.oid::regclass FROM pg_class c
             WHERE c.relnamespace = 'relay'::regnamespace AND c.relkind = 'v' LOOP
        EXECUTE format('ALTER VIEW %s OWNER TO relay_owner', t);
    END LOOP;
    FOR t IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'relay'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO relay_owner', t);
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'relay: % may not hand the tables to relay_owner and keeps them', current_user;
END
$$;
-- +goose StatementEnd
