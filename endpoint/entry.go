package endpoint

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/relaywebhooks/relay"
)

// Entry is an endpoint as people see it: its settings without secrets, and how it
// stands.
type Entry struct {
	settings
	State State `json:"state"`
}

// State is how an endpoint stands.
type State struct {
	Key            string     `json:"key"`
	Source         string     `json:"source"` // database, file, or url: known by that alone
	Held           string     `json:"held,omitempty"`
	PausedAt       *time.Time `json:"paused_at,omitempty"`
	PauseReason    string     `json:"pause_reason,omitempty"`
	DisabledAt     *time.Time `json:"disabled_at,omitempty"`
	DisabledReason string     `json:"disabled_reason,omitempty"`
	ReleasedAt     *time.Time `json:"released_at,omitempty"`
	CreatedAt      time.Time  `json:"created_at,omitzero"`
	UpdatedAt      time.Time  `json:"updated_at,omitzero"`
	UpdatedBy      string     `json:"updated_by,omitempty"`

	// The last time that its secrets went along to another origin, unseen.
	CredentialsMovedAt   *time.Time `json:"credentials_moved_at,omitempty"`
	CredentialsMovedFrom string     `json:"credentials_moved_from,omitempty"`
	CredentialsMovedBy   string     `json:"credentials_moved_by,omitempty"`
}

// Get returns the endpoint of a key, as it is now. If it is neither registered nor
// held nor was ever either, the error is [ErrUnknown].
func (s *Store) Get(ctx context.Context, key string) (Entry, error) {
	r, err := s.row(ctx, key)
	if err != nil {
		return Entry{}, failed("read %s: %w", key, err)
	}
	e := Entry{State: State{
		Key: key, Source: "url", Held: r.held(), PausedAt: r.pausedAt, PauseReason: r.pauseReason,
		DisabledAt: r.disabledAt, DisabledReason: r.disabledReason, ReleasedAt: r.releasedAt,
		CreatedAt: r.createdAt, UpdatedAt: r.updatedAt, UpdatedBy: r.updatedBy,
		CredentialsMovedAt: r.moved.at, CredentialsMovedFrom: r.moved.from, CredentialsMovedBy: r.moved.by,
	}}
	known, registered := load(&s.o.Registry.byKey, key)
	switch {
	case registered && s.o.Registry.inFile(key):
		e.settings, e.State.Source = settingsOf(*known), "file"
		e.State.Held = cmp.Or(e.State.Held, s.o.Registry.heldInFile(key))
	case r.exists() && r.settings != nil:
		e.State.Source = "database"
		if e.settings, err = readStored(r.settings); err != nil {
			e.settings, e.State.Held = settings{}, "faulty: its settings cannot be used: "+err.Error()
		} else if registered && e.State.Held == "" {
			e.State.Held = known.Held // which may be faulty
		}
		e.Tenant, e.Name, e.URL, e.Revision = r.tenant, r.name, r.url, r.revision
	case r.exists():
		e.settings = settings{Tenant: r.tenant, URL: r.url}
	default:
		return Entry{}, fmt.Errorf("endpoint: %s %w", key, ErrUnknown)
	}
	e.settings = e.shown()
	return e, nil
}

// settingsOf are those of an endpoint of the configuration file.
func settingsOf(ep relay.Endpoint) settings {
	s := settings{
		Tenant: ep.Tenant, Name: ep.Name, URL: ep.URL, ContentType: ep.ContentType, Timeout: duration(ep.Timeout), Rate: ep.Rate,
		Burst: ep.Burst, Concurrency: ep.Concurrency, MaxAttempts: ep.MaxAttempts, SuccessCodes: ep.SuccessCodes, HTTP2: ep.HTTP2, Heed: ep.Heed,
		Headers: map[string]secret{},
	}
	bare, query, _ := strings.Cut(ep.URL, "?")
	s.URL, s.Query = bare, secret(query)
	for _, one := range ep.Secrets {
		s.Secrets = append(s.Secrets, signing{Secret: secret(one)})
	}
	for name := range ep.Header {
		s.Headers[name] = hidden
	}
	for _, d := range ep.Schedule {
		s.Schedule = append(s.Schedule, duration(d))
	}
	if ep.TLS != nil {
		s.CA, s.Certificate, s.Key = string(ep.TLS.Authorities), string(ep.TLS.Certificate), secret(ep.TLS.Key)
	}
	return s
}
