package endpoint

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
)

// The changes of an endpoint, as they stand in the subject of an event.
const (
	Registered = "registered"
	Changed    = "changed"
	Deleted    = "deleted"
	Paused     = "paused"
	Resumed    = "resumed"
	Disabled   = "disabled"
	Enabled    = "enabled"
)

// Change is something that is or was done to an endpoint.
type Change struct {
	What              string // one of Registered to Enabled
	Key, Tenant, Name string // Name is "" if it is known by its URL alone
	URL               string // without its query; "" if it is not known
	Reason, By        string // for people; may be ""
	CredentialsFrom   string // the origin for which its secrets were meant until now; "" if they have not been moved
}

// changed brings this process up to date and tells of a change.
func (s *Store) changed(ctx context.Context, c Change) {
	if err := s.refresh(context.WithoutCancel(ctx), patience); err != nil {
		s.o.Logger.Warn().Err(err).Str("endpoint", c.Key).Msg("a change was written; it takes effect when Postgres answers again")
	}
	level := zerolog.InfoLevel
	if c.What == Disabled {
		level = zerolog.WarnLevel
	}
	s.o.Logger.WithLevel(level).Str("endpoint", c.Key).Str("endpoint_name", c.Name).Str("url", c.URL).Str("reason", c.Reason).Str("by", c.By).
		Func(func(e *zerolog.Event) {
			if c.CredentialsFrom != "" {
				e.Str("credentials_moved_from", c.CredentialsFrom)
			}
		}).
		Msg("endpoint " + c.What)
	s.o.OnChange(c)
}

// Disable holds the events of an endpoint until it is enabled. It may stand in the
// table, in the configuration file, or be known by its URL alone. If it is disabled
// already nothing changes: the first reason stays, and nobody is told again. If it
// was never heard of, the error is [ErrUnknown].
func (s *Store) Disable(ctx context.Context, endpointKey, reason string) error {
	c, err := s.who(ctx, endpointKey)
	if err != nil {
		return err
	}
	c.What, c.Reason, c.By = Disabled, reason, "relay"
	return s.Set(ctx, c)
}

// Set pauses, resumes, disables or enables the endpoint of c. While it is paused or
// disabled its events are held; that it is one of them already is no error, and
// nobody is told. A second pause has a new reason, a second disabling has not.
func (s *Store) Set(ctx context.Context, c Change) error {
	c.Reason, c.By = clipped(c.Reason), clipped(c.By)
	var tag pgconn.CommandTag
	var err error
	switch c.What {
	case Resumed, Enabled:
		tag, err = s.o.Pool.Exec(ctx, map[string]string{Resumed: resumeRow, Enabled: enableRow}[c.What], c.Key, c.By)
	case Paused, Disabled:
		revive := c.Name == "" || s.o.Registry.inFile(c.Key) // else what was deleted meanwhile stays so
		tag, err = s.o.Pool.Exec(ctx, map[string]string{Paused: pauseRow, Disabled: disableRow}[c.What],
			c.Key, c.Tenant, c.Name, c.URL, c.By, c.Reason, revive)
	default:
		return fmt.Errorf("endpoint: %q is no state of an endpoint", c.What)
	}
	if err != nil {
		return failed("note that %s is %s: %w", c.Key, c.What, err)
	}
	if tag.RowsAffected() > 0 {
		s.changed(ctx, c)
	}
	return nil
}

const (
	pauseRow = `
INSERT INTO relay.endpoint_settings AS s (endpoint_key, tenant, name, url, updated_by, paused_at, pause_reason)
VALUES ($1, $2, nullif($3, ''), nullif($4, ''), nullif($5, ''), now(), nullif($6, ''))
ON CONFLICT (endpoint_key) DO UPDATE SET deleted_at = NULL, updated_by = excluded.updated_by,
    paused_at = coalesce(s.paused_at, now()), pause_reason = excluded.pause_reason
WHERE s.deleted_at IS NULL OR $7`

	disableRow = `
INSERT INTO relay.endpoint_settings AS s (endpoint_key, tenant, name, url, updated_by, disabled_at, disabled_reason)
VALUES ($1, $2, nullif($3, ''), nullif($4, ''), nullif($5, ''), now(), nullif($6, ''))
ON CONFLICT (endpoint_key) DO UPDATE SET deleted_at = NULL, updated_by = excluded.updated_by,
    disabled_at = now(), disabled_reason = excluded.disabled_reason
WHERE s.disabled_at IS NULL AND (s.deleted_at IS NULL OR $7)`

	resumeRow = `UPDATE relay.endpoint_settings SET paused_at = NULL, pause_reason = NULL, updated_by = nullif($2, '')
WHERE endpoint_key = $1 AND deleted_at IS NULL AND paused_at IS NOT NULL`

	enableRow = `UPDATE relay.endpoint_settings SET disabled_at = NULL, disabled_reason = NULL, updated_by = nullif($2, '')
WHERE endpoint_key = $1 AND deleted_at IS NULL AND disabled_at IS NOT NULL`
)

// who finds out what is known of a key: it is registered, or held, or was called
// before. Else the error is [ErrUnknown].
func (s *Store) who(ctx context.Context, key string) (Change, error) {
	if ep, known := s.o.Registry.ByKey(key); known {
		return Change{Key: key, Tenant: ep.Tenant, Name: ep.Name, URL: withoutQuery(ep.URL)}, nil
	}
	c := Change{Key: key}
	if !isKey(key) { // nor would Postgres take every text that a person may write
		return c, fmt.Errorf("endpoint: %.80q %w", key, ErrUnknown)
	}
	err := s.o.Pool.QueryRow(ctx, `SELECT url, coalesce(tenant, '') FROM relay.endpoints WHERE endpoint_key = $1 AND name IS NULL`, key).
		Scan(&c.URL, &c.Tenant)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return c, fmt.Errorf("endpoint: %s %w", key, ErrUnknown)
	case err != nil:
		return c, failed("look up %s: %w", key, err)
	}
	return c, nil
}

// maxNote bounds what people write beside a change, in bytes.
const maxNote = 500

// clipped is a text that may stand in the table, a log line and an event.
func clipped(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) > maxNote {
		text = strings.ToValidUTF8(text[:maxNote], "") + "…"
	}
	return strings.TrimSpace(text)
}
