-- Daily partitions, made ahead and dropped after the retention. There is no
-- default partition: a row without one must fail loudly, and relay then calls
-- ensure_partitions for its day.

-- +goose Up

-- ensure_partitions makes the partitions of every day from from_day to to_day
-- (UTC, both included) and returns how many it made. It runs as its owner, so
-- that the running relay needs no right to create tables.
-- A table is made first and attached then: that takes no lock that would hold
-- up inserts, as CREATE TABLE … PARTITION OF does.
-- +goose StatementBegin
CREATE FUNCTION relay.ensure_partitions(from_day date, to_day date) RETURNS integer
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
            EXECUTE format('ALTER TABLE relay.%I ATTACH PARTITION relay.%I FOR VALUES FROM (%L) TO (%L)',
                parent, child, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
-- +goose StatementEnd

-- drop_partitions drops the oldest day that ended before the retention began and
-- whose events are all delivered, failed or dead, and returns its name; nothing
-- if there is none. It drops one day a call, because the parents stay locked
-- until the transaction ends: call it until it returns nothing. A retention
-- under 120 days counts as 120: the longest wait of an event (90 days) and the
-- life of its dead letter (30 days), in which a replay must still find the row.
-- It needs the rights of the tables' owner.
-- +goose StatementBegin
CREATE FUNCTION relay.drop_partitions(retention interval) RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    cutoff date := (now() AT TIME ZONE 'UTC' - greatest(retention, interval '120 days'))::date;
    child  text;
    day    date;
    open   boolean;
BEGIN
    FOR child, day IN
        SELECT name, at FROM (
            SELECT c.relname AS name, CASE WHEN c.relname ~ '^webhooks_[0-9]{8}$'
                THEN to_date(right(c.relname, 8), 'YYYYMMDD') END AS at
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'relay.webhooks'::regclass) d
        WHERE at < cutoff
        ORDER BY at
    LOOP
        -- Locked before it is looked at: a replay must not slip in between.
        -- Readers may: they lock a parent before its partitions, and whoever
        -- drops in another order meets them in a deadlock.
        EXECUTE format('LOCK TABLE relay.%I IN SHARE ROW EXCLUSIVE MODE', child);
        EXECUTE format('SELECT EXISTS (SELECT FROM relay.%I WHERE status IN (''pending'', ''processing''))', child)
            INTO open;
        CONTINUE WHEN open;
        LOCK TABLE ONLY relay.webhooks, ONLY relay.attempts IN ACCESS EXCLUSIVE MODE;
        DELETE FROM relay.idempotency
        WHERE accepted_at >= day::timestamp AT TIME ZONE 'UTC'
          AND accepted_at < (day + 1)::timestamp AT TIME ZONE 'UTC';
        EXECUTE format('DROP TABLE relay.%I', child);
        EXECUTE format('DROP TABLE IF EXISTS relay.%I', 'attempts_' || right(child, 8));
        RETURN NEXT child;
        RETURN; -- the next day is looked at without the parents' lock
    END LOOP;
END
$$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION relay.ensure_partitions(date, date) FROM PUBLIC;
REVOKE ALL ON FUNCTION relay.drop_partitions(interval) FROM PUBLIC;
