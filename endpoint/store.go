package endpoint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
)

// StoreOptions are the settings of a [Store]. Pool and Registry are required.
type StoreOptions struct {
	Pool *pgxpool.Pool
	// Registry is given what stands in the table, and asks for it when it is asked
	// for a name that it does not know.
	Registry *Registry
	// Sealer seals secrets. Defaults to one without keys: then endpoints can have
	// no secrets in the table.
	Sealer *Sealer
	// Compile makes a template, which is JSON, into what shapes webhooks; its error
	// is for people. Defaults to refusing every template.
	Compile func(template []byte) (relay.Shaper, error)
	// Longest is the longest timeout that an endpoint may have. Defaults to 10
	// minutes.
	Longest time.Duration
	// Poll is how often changes are looked for. Defaults to 250 ms.
	Poll time.Duration
	// OnChange is called after each change that was made through this Store, and
	// must not block. Defaults to nothing.
	OnChange func(Change)
	// Logger defaults to silence.
	Logger zerolog.Logger
}

const (
	defaultPoll    = 250 * time.Millisecond
	defaultLongest = 10 * time.Minute
	patience       = 5 * time.Second // with Postgres, for one question
	loadPatience   = time.Minute     // while relay starts
	lookPatience   = 2 * time.Second // of who asks for an unknown name
	pageSize       = 2000            // rows read at a time
)

// Store keeps the endpoints that are registered in the database, and which
// endpoints are paused or disabled: the table relay.endpoint_settings. What
// changes there, by whatever process or by hand, is in the Registry within a
// second. It is safe for concurrent use.
type Store struct {
	o         StoreOptions
	templates *compiler

	clock func() time.Time // the machine's
	ahead atomic.Int64     // by how much Postgres' clock is, in nanoseconds

	reading  sync.Mutex // of everything below
	began    time.Time  // of the latest reading that succeeded
	revision int64      // up to which the Registry knows the table
	ending   map[string]time.Time
	faulty   map[string]string // what was wrong with a row, by key: it is logged once

	locks  sync.Mutex // of locked, which is asked for while others read
	locked map[string]locked
}

// NewStore makes a Store. [Store.Load] is to be called before webhooks are sent,
// and [Store.Run] keeps up with changes.
func NewStore(o StoreOptions) *Store {
	o.Poll, o.Longest = cmp.Or(o.Poll, defaultPoll), cmp.Or(o.Longest, defaultLongest)
	if o.Sealer == nil {
		o.Sealer = &Sealer{}
	}
	if o.OnChange == nil {
		o.OnChange = func(Change) {}
	}
	s := &Store{o: o, clock: time.Now, templates: newCompiler(o.Compile), ending: map[string]time.Time{}, faulty: map[string]string{}, locked: map[string]locked{}}
	o.Registry.look = s.look
	return s
}

// Load reads the whole table.
func (s *Store) Load(ctx context.Context) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.revision = 0
	if err := s.read(ctx, loadPatience); err != nil {
		return fmt.Errorf("endpoint: read the registered endpoints: %w", err)
	}
	return nil
}

// Run takes over changes until ctx ends. While Postgres is away the Registry stays
// as it is.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(s.o.Poll)
	defer tick.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := s.refresh(ctx, patience)
		switch {
		case err != nil && ctx.Err() == nil && !away:
			s.o.Logger.Warn().Err(err).Msg("cannot read the registered endpoints; those known stay as they are")
		case err == nil && away:
			s.o.Logger.Info().Msg("the registered endpoints can be read again")
		}
		away = err != nil
	}
}

// look has the table read, for somebody who asks for what is not there. Who waits
// while another reads shares the next reading: what was written before the question
// is in it.
func (s *Store) look() {
	if err := s.refresh(context.Background(), lookPatience); err != nil {
		s.o.Logger.Debug().Err(err).Msg("cannot look for an endpoint that is not known")
	}
}

// refresh takes over what has changed, unless that was done since it was called.
func (s *Store) refresh(ctx context.Context, patience time.Duration) error {
	asked := time.Now()
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.began.After(asked) {
		return nil
	}
	return s.read(ctx, patience)
}

const latestRevision = `SELECT coalesce(max(revision), 0), clock_timestamp() FROM relay.endpoint_settings`

// now is the time by Postgres' clock, by which every process goes where a secret
// ends: one whose own clock is wrong must not end it for the others, nor sign
// longer or shorter than they do.
func (s *Store) now() time.Time { return s.clock().Add(time.Duration(s.ahead.Load())) }

// read brings the Registry up to date, with s.reading held. patience is for each
// question to Postgres. A change of many rows is taken over page by page: what was
// read counts, also if the next page does not come.
func (s *Store) read(ctx context.Context, patience time.Duration) error {
	began := time.Now()
	latest, err := s.latest(ctx, patience)
	if err != nil {
		return err
	}
	whole := s.revision == 0 || latest < s.revision // the database is another, or was restored
	revision, all := s.revision, map[string]*relay.Endpoint{}
	if whole {
		revision = 0
	}
	for more := latest != revision; more; {
		rows, err := s.within(ctx, patience, `revision > $1 ORDER BY revision LIMIT $2`, revision, pageSize)
		if err != nil {
			return err
		}
		s.take(rows, all)
		if len(rows) > 0 {
			revision = rows[len(rows)-1].revision
		}
		if more = len(rows) == pageSize; !whole {
			s.o.Registry.apply(all)
			s.revision, all = revision, map[string]*relay.Endpoint{}
		}
	}
	if whole {
		s.o.Registry.reset(all)
	}
	s.revision = revision
	if err := s.end(ctx, patience); err != nil {
		return err
	}
	s.began = began
	return nil
}

// latest is the revision of the latest change. It sets the clock as well.
func (s *Store) latest(ctx context.Context, patience time.Duration) (revision int64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %s", patience))
	defer cancel()
	var now time.Time
	if err = s.o.Pool.QueryRow(ctx, latestRevision).Scan(&revision, &now); err == nil {
		s.ahead.Store(int64(now.Sub(s.clock())))
	}
	return revision, err
}

// within is rows, if they come soon.
func (s *Store) within(ctx context.Context, patience time.Duration, where string, args ...any) ([]row, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %s", patience))
	defer cancel()
	return s.rows(ctx, where, args...)
}

// end takes secrets away whose time is over.
func (s *Store) end(ctx context.Context, patience time.Duration) error {
	var over []string
	for key, at := range s.ending {
		if !s.now().Before(at) {
			over = append(over, key)
		}
	}
	for page := range slices.Chunk(over, pageSize) {
		rows, err := s.within(ctx, patience, `endpoint_key = ANY($1)`, page)
		if err != nil {
			return err
		}
		changed := make(map[string]*relay.Endpoint, len(rows))
		s.take(rows, changed)
		s.o.Registry.apply(changed)
	}
	return nil
}

// known is what relay is to know of a row.
type known struct {
	endpoint *relay.Endpoint // nil: it was deleted
	end      time.Time       // when the next of its secrets signs no more; zero if none ever does
	fault    error           // why it cannot be used
}

// take puts what the Registry is to know of rows into found. Opening them is all
// computing, so that all cores have a part of it.
func (s *Store) take(rows []row, found map[string]*relay.Endpoint) {
	all := make([]known, len(rows))
	part := (len(rows) + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0)
	var working sync.WaitGroup
	for from := 0; from < len(rows); from += part {
		working.Go(func() {
			for i := from; i < min(from+part, len(rows)); i++ {
				all[i] = s.known(rows[i])
			}
		})
	}
	working.Wait()
	for i, r := range rows {
		delete(s.ending, r.key)
		if !all[i].end.IsZero() {
			s.ending[r.key] = all[i].end
		}
		s.note(r, all[i].fault)
		found[r.key] = all[i].endpoint
	}
}

// known reads a row. One that cannot be read is held, so that nothing is sent
// unsigned or to where it does not belong.
func (s *Store) known(r row) (k known) {
	if r.deletedAt != nil {
		return known{}
	}
	k.endpoint = &relay.Endpoint{Key: r.key, Tenant: r.tenant, URL: r.url}
	if r.settings != nil {
		k.fill(s, r)
	}
	if held := r.held(); held != "" {
		k.endpoint.Held = held
	}
	if r.releasedAt != nil {
		k.endpoint.Released = *r.releasedAt
	}
	return k
}

// fill completes an endpoint by its settings, or holds it. A row whose key is not
// that of its name registers nothing.
func (k *known) fill(s *Store, r row) {
	if nameKey(r.tenant, r.name) != r.key {
		k.fault = errors.New("endpoint_key does not belong to tenant and name: register the endpoint by relay endpoint put")
		return
	}
	ep := k.endpoint
	ep.Name = r.name
	opened, err := s.open(r)
	if err == nil {
		var left settings
		left, k.end = opened.expired(s.now())
		*ep = left.endpoint()
		ep.Shape = s.shaper(opened.Template)
		if ep.URL, err = relay.CheckURL(ep.URL); err == nil {
			err = errors.Join(check(*ep)...)
		}
	}
	if err != nil {
		ep.Held = "faulty: its settings cannot be used: " + err.Error()
	}
	k.fault = err
}

// note says what is wrong with a row, once.
func (s *Store) note(r row, err error) {
	s.lock(r, err)
	if err == nil {
		delete(s.faulty, r.key)
		return
	}
	if s.faulty[r.key] != err.Error() {
		s.faulty[r.key] = err.Error()
		s.o.Logger.Error().Err(err).Str("endpoint", r.key).Str("endpoint_name", r.name).
			Msg("the settings of a registered endpoint cannot be used")
	}
}

// open reads the settings of a row, with its secrets.
func (s *Store) open(r row) (settings, error) {
	out, err := readStored(r.settings)
	if err != nil {
		return settings{}, err
	}
	at := originOf(r.url)
	err = out.secrets(func(field string, value *secret) error {
		plain, err := s.o.Sealer.Open(string(*value), about(r.key, at, field))
		*value = secret(plain)
		return err
	})
	out.Tenant, out.Name, out.URL, out.Revision = r.tenant, r.name, r.url, r.revision
	return out, err
}

// seal returns the JSON that stands in the table.
func (s *Store) seal(key string, in settings) ([]byte, error) {
	out, at := in.clone(), originOf(in.URL)
	err := out.secrets(func(field string, value *secret) error {
		sealed, err := s.o.Sealer.Seal(string(*value), about(key, at, field))
		*value = secret(sealed)
		return err
	})
	if err != nil {
		return nil, err
	}
	out.Tenant, out.Name, out.URL, out.Revision = "", "", "", 0
	return json.Marshal(out)
}

// faults returns the single faults of an error.
func faults(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, faults(e)...)
	}
	return all
}

// without leaves out the faults of fields that have one already.
func without(more, already []error) []error {
	seen := maps.Collect(func(yield func(string, bool) bool) {
		for _, e := range already {
			if !yield(fieldOf(e), true) {
				return
			}
		}
	})
	var left []error
	for _, e := range more {
		if !seen[fieldOf(e)] {
			left = append(left, e)
		}
	}
	return left
}
