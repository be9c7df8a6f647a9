package endpoint

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/relaywebhooks/relay"
)

var (
	// ErrUnknown means that no endpoint is registered under a name, or that a key
	// or a URL is nobody's.
	ErrUnknown = errors.New("is not registered")
	// ErrInFile means that an endpoint's settings stand in the configuration file.
	ErrInFile = errors.New("stands in the configuration file: change it there and reload relay; " +
		"pause, resume, disable and enable work here too")
	// ErrChanged means that somebody else has changed the endpoint since it was read.
	ErrChanged = errors.New("has been changed meanwhile: get it again")
)

// Put registers an endpoint, or replaces the settings of one, by a JSON object of
// settings; by says who does it, for people. A secret that is given as [hidden]
// stays what it was, as long as the endpoint stays at its origin: scheme, host and
// port. With a revision that is not the endpoint's, the error is [ErrChanged]. It
// joins every fault of the settings, each beginning with its field.
func (s *Store) Put(ctx context.Context, request []byte, by string) (Entry, error) {
	return s.write(ctx, request, by, false)
}

// Move is Put for who may have secrets sent to another origin without knowing
// them: what is given as [hidden] goes along. The endpoint's [State], the event and
// the log say so.
func (s *Store) Move(ctx context.Context, request []byte, by string) (Entry, error) {
	return s.write(ctx, request, by, true)
}

func (s *Store) write(ctx context.Context, request []byte, by string, along bool) (Entry, error) {
	in, err := readSettings(request)
	if _, ok := errors.AsType[unreadError](err); ok {
		return Entry{}, err
	}
	key := nameKey(in.Tenant, in.Name)
	if s.o.Registry.inFile(key) {
		return Entry{}, fmt.Errorf("name: %.80q %w", in.Name, ErrInFile)
	}
	old, oldErr := s.row(ctx, key)
	if oldErr != nil {
		return Entry{}, failed("read %.80q: %w", in.Name, oldErr)
	}
	from, merged := s.merge(&in, old, along)
	found := faults(err)
	found = append(found, without(merged, found)...)
	found = append(found, without(in.check(s.o.Longest), found)...)
	found = append(found, without(s.checkTemplate(ctx, in.Template), found)...)
	if len(found) > 0 {
		return Entry{}, errors.Join(found...)
	}
	if in.Revision != 0 && (!old.exists() || in.Revision != old.revision) {
		return Entry{}, fmt.Errorf("revision: the endpoint %w", ErrChanged)
	}
	return s.put(ctx, in, old, by, from)
}

// merge puts secrets that stay in the place of those that are hidden. Where they
// leave their origin, they may do so only along with a move: from says which one it
// was. What signs is one of them. It is not sent, but with it relay vouches for
// whatever a producer writes, and its new receiver could hand that on to the old one.
func (s *Store) merge(in *settings, old row, along bool) (from string, faulty []error) {
	var before settings
	var unreadable, may error
	if old.exists() && old.settings != nil {
		before, unreadable = s.open(old)
	}
	if unreadable != nil {
		before = settings{}
	}
	was, is := originOf(old.url), originOf(in.URL)
	if is != "" && is != was && !along { // what is no URL is a fault of its own
		may = fmt.Errorf("%s was meant for %s and does not go along to %s: write it out, "+
			"or move all that is hidden there by relay endpoint put --move-credentials or relay.endpoints.move", hidden, was, is)
	}
	kept, err := in.keep(before, may)
	if faulty = faults(err); len(faulty) > 0 && unreadable != nil {
		faulty = append(faulty, faults(unreadable)...)
	}
	if kept > 0 && is != was {
		from = was
	}
	return from, faulty
}

// put writes settings that were checked in the place of what was read before. from
// is the origin that their secrets have left, if they have.
func (s *Store) put(ctx context.Context, in settings, old row, by, from string) (Entry, error) {
	canonical, err := relay.CheckURL(in.endpoint().URL)
	if err != nil {
		return Entry{}, err
	}
	bare, query, _ := strings.Cut(canonical, "?")
	in.URL, in.Query = bare, secret(query)
	sealed, err := s.seal(old.key, in)
	if err != nil {
		return Entry{}, err
	}
	ofURL := title{in.Tenant, bare}.hash() // was paused before it had a name, perhaps
	tag, err := s.o.Pool.Exec(ctx, putRow, old.key, in.Tenant, in.Name, bare, sealed, clipped(by), old.revision, ofURL, from)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.ConstraintName == "endpoint_settings_url" {
		return Entry{}, fmt.Errorf("url: %s is the URL of another endpoint too; a query makes no difference", bare)
	}
	if err != nil {
		return Entry{}, failed("write %.80q: %w", in.Name, err)
	}
	if tag.RowsAffected() == 0 {
		return Entry{}, fmt.Errorf("revision: the endpoint %w", ErrChanged)
	}
	what := Changed
	if !old.exists() || old.settings == nil {
		what = Registered
	}
	s.changed(ctx, Change{What: what, Key: old.key, Tenant: in.Tenant, Name: in.Name, URL: bare, By: clipped(by), CredentialsFrom: from})
	return s.Get(ctx, old.key)
}

// putRow takes over the state of an endpoint that was known by its URL alone.
const putRow = `
INSERT INTO relay.endpoint_settings AS s (endpoint_key, tenant, name, url, settings, updated_by,
    paused_at, pause_reason, disabled_at, disabled_reason)
SELECT $1, $2, $3, $4, $5::jsonb, nullif($6, ''), u.paused_at, u.pause_reason, u.disabled_at, u.disabled_reason
FROM (SELECT) AS one
LEFT JOIN relay.endpoint_settings u ON u.endpoint_key = $8 AND u.deleted_at IS NULL
ON CONFLICT (endpoint_key) DO UPDATE SET
    tenant = excluded.tenant, name = excluded.name, url = excluded.url, settings = excluded.settings,
    updated_by = excluded.updated_by, deleted_at = NULL,
    credentials_moved_at = CASE WHEN $9::text <> '' THEN now() ELSE s.credentials_moved_at END,
    credentials_moved_from = CASE WHEN $9 <> '' THEN $9 ELSE s.credentials_moved_from END,
    credentials_moved_by = CASE WHEN $9 <> '' THEN excluded.updated_by ELSE s.credentials_moved_by END,
    created_at = CASE WHEN s.deleted_at IS NULL THEN s.created_at ELSE now() END
WHERE s.revision = $7`

// Delete takes an endpoint out of the registry. Events that name it become dead
// letters; those that have its URL are sent without its settings. The name may be
// used again.
func (s *Store) Delete(ctx context.Context, key, by string) error {
	if s.o.Registry.inFile(key) {
		return fmt.Errorf("endpoint: %s %w", key, ErrInFile)
	}
	old, err := s.row(ctx, key)
	if err != nil {
		return failed("read %s: %w", key, err)
	}
	if !old.exists() || old.settings == nil {
		return fmt.Errorf("endpoint: %s %w", key, ErrUnknown)
	}
	_, err = s.o.Pool.Exec(ctx, `UPDATE relay.endpoint_settings SET deleted_at = now(), settings = NULL, updated_by = nullif($2, ''),
		paused_at = NULL, pause_reason = NULL, disabled_at = NULL, disabled_reason = NULL,
		credentials_moved_at = NULL, credentials_moved_from = NULL, credentials_moved_by = NULL
		WHERE endpoint_key = $1 AND deleted_at IS NULL`, key, clipped(by))
	if err != nil {
		return failed("delete %s: %w", key, err)
	}
	s.changed(ctx, Change{What: Deleted, Key: key, Tenant: old.tenant, Name: old.name, URL: old.url, By: clipped(by)})
	return nil
}

// Rotate lets an endpoint sign with a new secret, and with its old ones for the
// overlap yet.
func (s *Store) Rotate(ctx context.Context, key string, next relay.Secret, overlap time.Duration, by string) (Entry, error) {
	if s.o.Registry.inFile(key) {
		return Entry{}, fmt.Errorf("endpoint: %s %w", key, ErrInFile)
	}
	old, err := s.row(ctx, key)
	if err != nil {
		return Entry{}, failed("read %s: %w", key, err)
	}
	if !old.exists() || old.settings == nil {
		return Entry{}, fmt.Errorf("endpoint: %s %w", key, ErrUnknown)
	}
	in, err := s.open(old)
	if err != nil {
		return Entry{}, fmt.Errorf("endpoint: open the secrets of %.80q: %w", old.name, err)
	}
	if len(in.Secrets) == 0 {
		return Entry{}, errors.New("secrets: the endpoint has none of its own, so its requests are signed with signing.secrets: " +
			"put both secrets, the new one first, and take the other away later")
	}
	now := s.now()
	end := now.Add(overlap).UTC().Truncate(time.Second)
	kept := in.Secrets
	in.Secrets = []signing{{Secret: secret(next)}}
	for _, one := range kept {
		if one.Until.IsZero() || one.Until.After(end) {
			one.Until = end
		}
		if overlap > 0 && one.Until.After(now) {
			in.Secrets = append(in.Secrets, one)
		}
	}
	if found := in.check(s.o.Longest); len(found) > 0 {
		return Entry{}, errors.Join(found...)
	}
	return s.put(ctx, in, old, by, "")
}
