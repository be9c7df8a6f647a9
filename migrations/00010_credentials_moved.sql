-- An endpoint's secrets belong to one origin: the scheme, host and port of its
-- URL, which they are sealed with. When somebody has moved them to another one,
-- the last time stands here.
--
-- An UPDATE of url takes effect as before within an origin, or where there are no
-- secrets. Elsewhere the secrets do not open, and the endpoint is held until the
-- URL is put back or they are put anew.

-- +goose Up

ALTER TABLE relay.endpoint_settings
    ADD COLUMN credentials_moved_at   timestamptz,
    ADD COLUMN credentials_moved_from text, -- the origin that they were meant for before
    ADD COLUMN credentials_moved_by   text;

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'relay_reader') THEN
        GRANT SELECT (credentials_moved_at, credentials_moved_from, credentials_moved_by)
            ON relay.endpoint_settings TO relay_reader;
    END IF;
END
$$;
-- +goose StatementEnd
