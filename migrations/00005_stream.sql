-- Whose record this database is: at most one row, written by the first relay that
-- works on it. An event's key is unique within one stream only.

-- +goose Up

CREATE TABLE relay.stream (
    only_one   boolean     PRIMARY KEY DEFAULT true CHECK (only_one),
    created_at timestamptz NOT NULL -- when JetStream made the stream WEBHOOKS, by JetStream's clock
);

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_app') THEN
        GRANT SELECT, INSERT, UPDATE ON relay.stream TO relay_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_reader') THEN
        GRANT SELECT ON relay.stream TO relay_reader;
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_owner') THEN
        ALTER TABLE relay.stream OWNER TO relay_owner;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'relay: % may not hand the table to relay_owner and keeps it', current_user;
END
$$;
-- +goose StatementEnd
