package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
)

// schemaVersion is the migration that the SQL of this package needs.
const schemaVersion = 10

const (
	readyFor     = time.Second      // how long an answer of Ready is kept
	readyTimeout = 2 * time.Second  // of its question
	complainEach = 10 * time.Second // how often a lasting failure is logged
)

// failure is a lasting inability of one committer.
type failure struct {
	since, logged time.Time
	err           error
}

// health knows how the log fares. It is safe for concurrent use.
type health struct {
	mu       sync.Mutex
	failures map[string]*failure  // by name of the committer
	held     map[string]time.Time // when a kind was last said to wait for locked rows

	asking sync.Mutex // one question at a time
	asked  time.Time
	answer error
}

func (h *health) failed(kind string, err error, log *zerolog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.failures == nil {
		h.failures = map[string]*failure{}
	}
	f := h.failures[kind]
	if f == nil {
		f = &failure{since: now}
		h.failures[kind] = f
	}
	f.err = err
	if now.Sub(f.logged) < complainEach {
		return
	}
	f.logged = now
	if misconfigured(err) {
		log.Error().Err(err).Str("kind", kind).Time("since", f.since).
			Msg("Postgres cannot be written to as it is set up; is it migrated? see `relay doctor`. Nothing is sent meanwhile")
		return
	}
	log.Warn().Err(err).Str("kind", kind).Time("since", f.since).
		Msg("Postgres does not answer; trying again, nothing is lost")
}

func (h *health) recovered(kind string, log *zerolog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.failures[kind]
	if f == nil {
		return
	}
	delete(h.failures, kind)
	log.Info().Str("kind", kind).Dur("down_ms", time.Since(f.since)).Msg("Postgres answers again")
}

// heldUp tells that calls wait for another session's lock, one of them for key.
func (h *health) heldUp(kind string, calls int, key relay.Key, log *zerolog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held == nil {
		h.held = map[string]time.Time{}
	}
	if time.Since(h.held[kind]) < complainEach {
		return
	}
	h.held[kind] = time.Now()
	log.Warn().Str("kind", kind).Int("webhooks", calls).Str("event", key.String()).
		Msg("another session of Postgres holds a lock on rows; their webhooks wait for its end, all others go on")
}

// failing returns the failures that last, or nil.
func (h *health) failing() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for kind, f := range h.failures {
		errs = append(errs, fmt.Errorf("audit: no %s committed since %s: %w",
			kind, f.since.UTC().Format(time.RFC3339), f.err))
	}
	return errors.Join(errs...)
}

// Ready returns nil if Postgres answers, has the schema that this relay needs,
// lets this user write to it and takes what is written; else it says what is
// wrong. It asks Postgres at
// most once a second, waits no longer than two seconds, and answers from
// memory otherwise, so it may be called at will.
func (l *Log) Ready(ctx context.Context) error {
	if err := l.health.failing(); err != nil {
		return err
	}
	h := &l.health
	h.asking.Lock()
	defer h.asking.Unlock()
	if time.Since(h.asked) < readyFor {
		return h.answer
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), readyTimeout,
		fmt.Errorf("no answer in %v", readyTimeout))
	defer cancel()
	h.answer = checkReady(ctx, l.pool)
	h.asked = time.Now()
	return h.answer
}

// checkReady returns an error in words if this relay cannot work on the schema.
func checkReady(ctx context.Context, pool *pgxpool.Pool) error {
	s, err := readSchema(ctx, pool)
	if err == nil && s.lacks != "" {
		return fault{fmt.Sprintf("the database user %s may not write (it lacks %s)", s.user, s.lacks), grantApp}
	}
	return err
}

// schema is what a user finds in the database.
type schema struct {
	version int64
	user    string
	lacks   string // the rights without which it cannot write; "" if it can
}

const (
	readSchemaSQL = `SELECT coalesce(max(version_id), 0), current_user::text, concat_ws(', ',
			CASE WHEN NOT has_table_privilege('relay.attempts', 'INSERT') THEN 'INSERT on relay.attempts' END,
			CASE WHEN NOT has_table_privilege('relay.webhooks', 'INSERT') THEN 'INSERT on relay.webhooks' END,
			CASE WHEN NOT has_table_privilege('relay.webhooks', 'UPDATE') THEN 'UPDATE on relay.webhooks' END)
		FROM relay.migrations WHERE is_applied`

	grantApp = "GRANT relay_app TO the user with which relay signs in"
	migrate  = "run `relay migrate`"
)

// fault is something wrong with the database of which it is known what mends it.
type fault struct{ found, advice string }

func (f fault) Error() string { return "audit: " + f.found + "; " + f.advice }

// readSchema returns the schema, and an error in words if it is none that this
// relay knows how to use. Whether the user may write is for the caller to see.
func readSchema(ctx context.Context, pool *pgxpool.Pool) (s schema, err error) {
	err = pool.QueryRow(ctx, readSchemaSQL).Scan(&s.version, &s.user, &s.lacks)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case "42P01", "3F000":
			return s, fault{"the database has no schema relay", migrate}
		case "42501":
			return s, fault{e.Message, grantApp}
		}
	}
	if err != nil {
		return s, fmt.Errorf("audit: ask Postgres for its schema: %w", err)
	}
	if s.version < schemaVersion {
		return s, fault{fmt.Sprintf("the schema has version %d and this relay needs %d", s.version, schemaVersion), migrate}
	}
	return s, nil
}
