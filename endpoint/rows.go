package endpoint

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// row is one of relay.endpoint_settings.
type row struct {
	key, tenant, name, url string
	settings               []byte // JSON; nil if it has none
	pausedAt               *time.Time
	pauseReason            string
	disabledAt             *time.Time
	disabledReason         string
	releasedAt, deletedAt  *time.Time
	revision               int64
	moved                  moved
	createdAt, updatedAt   time.Time
	updatedBy              string
}

// moved is the last time that the secrets went along to another origin.
type moved struct {
	at       *time.Time // nil: never
	from, by string
}

const columns = `endpoint_key, tenant, coalesce(name, ''), coalesce(url, ''), settings, paused_at, coalesce(pause_reason, ''),
	disabled_at, coalesce(disabled_reason, ''), released_at, deleted_at, revision, created_at, updated_at, coalesce(updated_by, ''),
	credentials_moved_at, coalesce(credentials_moved_from, ''), coalesce(credentials_moved_by, '')`

// rows reads those that match a condition.
func (s *Store) rows(ctx context.Context, where string, args ...any) ([]row, error) {
	found, err := s.o.Pool.Query(ctx, "SELECT "+columns+" FROM relay.endpoint_settings WHERE "+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, scanRow)
}

func scanRow(from pgx.CollectableRow) (r row, err error) {
	err = from.Scan(&r.key, &r.tenant, &r.name, &r.url, &r.settings, &r.pausedAt, &r.pauseReason, &r.disabledAt, &r.disabledReason,
		&r.releasedAt, &r.deletedAt, &r.revision, &r.createdAt, &r.updatedAt, &r.updatedBy, &r.moved.at, &r.moved.from, &r.moved.by)
	return r, err
}

// row returns that of a key, as if it were empty if there is none.
func (s *Store) row(ctx context.Context, key string) (row, error) {
	found, err := s.rows(ctx, "endpoint_key = $1", key)
	if err != nil || len(found) == 0 {
		return row{key: key}, err
	}
	return found[0], nil
}

// exists reports whether the row is in the table and stands for something.
func (r row) exists() bool { return r.revision != 0 && r.deletedAt == nil }

// held says why its endpoint is not called, or "".
func (r row) held() string {
	const none = "no reason was given"
	switch {
	case r.disabledAt != nil:
		return "disabled: " + cmp.Or(r.disabledReason, none)
	case r.pausedAt != nil:
		return "paused: " + cmp.Or(r.pauseReason, none)
	}
	return ""
}

// failure is an error of the database, and not of who asked.
type failure struct{ error }

// Unwrap returns what failed.
func (f failure) Unwrap() error { return f.error }

func failed(format string, args ...any) error {
	return failure{fmt.Errorf("endpoint: "+format, args...)}
}

// fieldOf returns the field that a fault begins with.
func fieldOf(fault error) string {
	field, _, _ := strings.Cut(fault.Error(), ":")
	field, _, _ = strings.Cut(field, ".")
	return field
}
