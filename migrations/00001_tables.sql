-- The tables. Times are the database's own clock unless a comment says otherwise.

-- +goose Up

-- One row an event, keyed by the moment and the sequence at which JetStream
-- first stored it. The webhook id is the producer's and not unique.
CREATE TABLE relay.webhooks (
    accepted_at         timestamptz NOT NULL, -- JetStream's clock
    seq                 bigint      NOT NULL,
    generation          integer     NOT NULL DEFAULT 0, -- each replay adds 1
    webhook_id          text        NOT NULL,
    tenant              text,
    event_type          text,
    endpoint_key        text        NOT NULL,
    endpoint_name       text,
    url                 text        NOT NULL,
    method              text        NOT NULL,
    content_type        text,
    headers             jsonb       NOT NULL DEFAULT '{}',
    body                bytea       NOT NULL,
    metadata            jsonb,
    idempotency_key     text,
    status              text        NOT NULL
        CONSTRAINT webhooks_status CHECK (status IN ('pending', 'processing', 'delivered', 'failed', 'dead')),
    place               text        NOT NULL DEFAULT 'queue',
    reason              text,
    attempts            integer     NOT NULL DEFAULT 0, -- of all generations, unrecorded ones not counted
    generation_attempts integer     NOT NULL DEFAULT 0, -- of this generation
    max_attempts        integer,
    last_status         integer, -- HTTP status of the latest attempt; null: no answer
    scheduled_at        timestamptz, -- as the producer asked
    expires_at          timestamptz,
    next_due            timestamptz,
    delivered_at        timestamptz,
    failed_at           timestamptz, -- also of dead ones
    claim               uuid, -- the attempt that may be under way now
    claimed_by          text,
    claimed_until       timestamptz,
    last_claim          uuid, -- the claim recorded last: makes a repeated record harmless
    unrecorded_streak   integer     NOT NULL DEFAULT 0, -- attempts in a row that ended with a dead process
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),

    -- The indexed faces of status, place and next_due. They stay null on the
    -- way from a first attempt to its success, so that this update touches no
    -- index at all (a heap-only update), which an index on status would undo.
    backlog_of text GENERATED ALWAYS AS (CASE WHEN status = 'pending' THEN endpoint_key END) STORED,
    wake_at    timestamptz GENERATED ALWAYS AS (CASE WHEN place = 'schedule' THEN next_due END) STORED,

    PRIMARY KEY (accepted_at, seq)
) PARTITION BY RANGE (accepted_at);

CREATE INDEX webhooks_webhook_id ON relay.webhooks (webhook_id);
CREATE INDEX webhooks_endpoint ON relay.webhooks (endpoint_key, accepted_at);
CREATE INDEX webhooks_backlog ON relay.webhooks (backlog_of, accepted_at) WHERE backlog_of IS NOT NULL;
CREATE INDEX webhooks_wake ON relay.webhooks (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX webhooks_failed ON relay.webhooks (failed_at) WHERE failed_at IS NOT NULL;

-- One row an attempt, never changed. It lies in the partition of its event's
-- acceptance, so that an event and its history are dropped together.
CREATE TABLE relay.attempts (
    accepted_at      timestamptz      NOT NULL,
    seq              bigint           NOT NULL,
    attempt_id       uuid             NOT NULL,
    generation       integer          NOT NULL,
    number           integer          NOT NULL, -- within the generation, from 1
    kind             text             NOT NULL
        CONSTRAINT attempts_kind CHECK (kind IN ('response', 'error', 'blocked', 'unrecorded')),
    success          boolean          NOT NULL,
    started_at       timestamptz      NOT NULL, -- relay's clock; of an unrecorded one: when it was claimed
    duration_ms      double precision,
    status           integer,
    response_headers jsonb,
    response_body    bytea, -- bytes, not text: a receiver may answer anything
    truncated        boolean          NOT NULL DEFAULT false,
    error_class      text,
    error_message    text,
    worker           text,
    endpoint_key     text             NOT NULL,
    PRIMARY KEY (accepted_at, seq, attempt_id) -- leads to an event's history as well
) PARTITION BY RANGE (accepted_at);

CREATE INDEX attempts_started ON relay.attempts USING brin (started_at);

-- One row an endpoint that was ever called. The counts equal the attempts
-- that were inserted, unrecorded ones left out.
CREATE TABLE relay.endpoints (
    endpoint_key    text        PRIMARY KEY,
    url             text        NOT NULL, -- without its query
    host            text        NOT NULL,
    name            text,
    circuit_state   text        NOT NULL DEFAULT 'closed',
    circuit_until   timestamptz,
    failure_count   bigint      NOT NULL DEFAULT 0,
    success_count   bigint      NOT NULL DEFAULT 0,
    last_success_at timestamptz,
    last_failure_at timestamptz,
    first_seen_at   timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- Which event holds an idempotency key. A dead or failed event gives it back.
CREATE TABLE relay.idempotency (
    tenant      text        NOT NULL,
    key         text        NOT NULL,
    accepted_at timestamptz NOT NULL,
    seq         bigint      NOT NULL,
    webhook_id  text        NOT NULL,
    PRIMARY KEY (tenant, key)
);

CREATE INDEX idempotency_accepted ON relay.idempotency USING brin (accepted_at);
