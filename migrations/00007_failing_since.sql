-- Since when an endpoint has been failing, so that relay can disable one that has
-- failed for days.

-- +goose Up

-- The first failure after the last success, of those that count against the
-- endpoint: what it answers to one webhook alone, such as 404, does not. Null: it
-- is not failing.
ALTER TABLE relay.endpoints ADD COLUMN failing_since timestamptz;
