package endpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// locked is a registered endpoint whose secrets were sealed with keys that the
// Sealer lacks. It is held: nothing is sent to it.
type locked struct {
	tenant, name string
	keyIDs       []string // of those keys, sorted
}

// Locked returns nil, or an error that says which registered endpoints have secrets
// that were sealed with keys that the Sealer lacks, as of the latest reading of the
// table, and what to do. They are held. It waits for nothing.
func (s *Store) Locked() error {
	const most = 5
	s.locks.Lock()
	defer s.locks.Unlock()
	var names, ids []string
	for _, l := range s.locked {
		names, ids = append(names, title{l.tenant, l.name}.describe()), append(ids, l.keyIDs...)
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	slices.Sort(ids)
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("%d more", more))
	}
	return fmt.Errorf("endpoint: secrets of registered endpoints are sealed with keys that are not in sealing.keys (%s), and nothing is sent unsigned: %s; "+
		"put those keys back (SECURITY.md says what to do if they are lost)", strings.Join(slices.Compact(ids), ", "), strings.Join(names, ", "))
}

// lock notes whether a row is locked, by what opening it came to.
func (s *Store) lock(r row, err error) {
	s.locks.Lock()
	defer s.locks.Unlock()
	if ids := missingKeys(err); len(ids) > 0 {
		s.locked[r.key] = locked{r.tenant, r.name, ids}
	} else {
		delete(s.locked, r.key)
	}
}

// missingKeys returns the ids of the keys that an error of [Store.open] misses, sorted.
func missingKeys(err error) (ids []string) {
	for _, fault := range faults(err) {
		if unknown, ok := errors.AsType[*UnknownKeyError](fault); ok {
			ids = append(ids, unknown.ID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Rekeyed is what [Store.Rekey] has done.
type Rekeyed struct {
	Endpoints int            // registered endpoints that were looked at
	Resealed  int            // those whose secrets were sealed anew, or would be
	Before    map[string]int // those among them that a key had sealed, by its id
	Faulty    []string       // those that stay as they are, and why
}

// Rekey seals the secrets of every registered endpoint anew that are not all sealed
// with the first key. It may be interrupted and repeated, and run beside relays,
// which take each change over as any other. A row that somebody changes at the same
// time is read again. If dry is set nothing is changed. progress is called now and
// then with what was done so far.
//
// Once it has found nothing faulty, and every relay process seals with the first
// key, the others are needed no longer.
func (s *Store) Rekey(ctx context.Context, dry bool, progress func(Rekeyed)) (Rekeyed, error) {
	done := Rekeyed{Before: map[string]int{}}
	if len(s.o.Sealer.KeyIDs()) == 0 {
		return done, ErrNoSealingKey
	}
	for after := ""; ; progress(done) {
		rows, err := s.rows(ctx, sealedRows+` AND endpoint_key > $1 ORDER BY endpoint_key LIMIT $2`, after, rekeyPage)
		if err != nil {
			return done, fmt.Errorf("endpoint: read what is sealed: %w", err)
		}
		if len(rows) == 0 {
			return done, nil
		}
		done.Endpoints += len(rows)
		after = rows[len(rows)-1].key
		for len(rows) > 0 {
			if rows, err = s.reseal(ctx, rows, dry, &done); err != nil {
				return done, fmt.Errorf("endpoint: seal anew: %w", err)
			}
		}
	}
}

const (
	// rekeyPage is how many rows are sealed anew in one transaction, which holds up
	// other changes of endpoints meanwhile.
	rekeyPage = 200

	sealedRows = `deleted_at IS NULL AND settings IS NOT NULL`

	resealRows = `
UPDATE relay.endpoint_settings s SET settings = n.settings::jsonb, updated_by = 'relay rekey'
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS n (endpoint_key, settings, revision)
WHERE s.endpoint_key = n.endpoint_key AND s.revision = n.revision
RETURNING s.endpoint_key`
)

// reseal seals rows anew, and returns those that somebody has changed since they
// were read.
func (s *Store) reseal(ctx context.Context, rows []row, dry bool, done *Rekeyed) ([]row, error) {
	stale := map[string][]string{} // the ids of the keys that sealed a row, by the row's key
	var keys, texts []string
	var revisions []int64
	for _, r := range rows {
		ids, text, err := s.resealed(r)
		if err != nil {
			done.Faulty = append(done.Faulty, title{r.tenant, r.name}.describe()+": "+err.Error())
		} else if len(ids) > 0 {
			stale[r.key] = ids
			keys, texts, revisions = append(keys, r.key), append(texts, text), append(revisions, r.revision)
		}
	}
	if len(keys) > 0 && !dry {
		written, err := s.o.Pool.Query(ctx, resealRows, keys, texts, revisions)
		if err == nil {
			keys, err = pgx.CollectRows(written, pgx.RowTo[string])
		}
		if err != nil {
			return nil, err
		}
	}
	for _, key := range keys {
		done.Resealed++
		for _, id := range stale[key] {
			done.Before[id]++
		}
		delete(stale, key)
	}
	if len(stale) == 0 {
		return nil, nil
	}
	return s.rows(ctx, sealedRows+` AND endpoint_key = ANY($1)`, slices.Collect(maps.Keys(stale)))
}

// resealed returns which other keys than the first sealed secrets of a row, and its
// settings with all of them sealed anew.
func (s *Store) resealed(r row) (ids []string, text string, err error) {
	stored, err := readStored(r.settings)
	if err != nil {
		return nil, "", err
	}
	_ = stored.secrets(func(_ string, value *secret) error {
		if s.o.Sealer.Stale(string(*value)) {
			id, _, _ := parseSealed(string(*value)) // if it is not sealed, open says so
			ids = append(ids, id)
		}
		return nil
	})
	if len(ids) == 0 {
		return nil, "", nil
	}
	opened, err := s.open(r)
	if err != nil {
		return nil, "", err
	}
	raw, err := s.seal(r.key, opened)
	slices.Sort(ids)
	return slices.Compact(ids), string(raw), err
}

// describe names an endpoint for people.
func (t title) describe() string {
	if t.tenant == "" {
		return fmt.Sprintf("%.80q", t.text)
	}
	return fmt.Sprintf("%.80q of tenant %.80q", t.text, t.tenant)
}
