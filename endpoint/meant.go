package endpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay"
)

// ErrAmbiguous says that several tenants have an endpoint of a name or a URL, and
// that nobody has said which of them is meant.
var ErrAmbiguous = errors.New("is an endpoint of several tenants")

// Meant finds the endpoint that a person means, by its key, its URL or its name.
// Names and URLs are each tenant's own: tenant says whose, "" of what belongs to
// none, and nil that nobody has said. Then it is the only one that there is. Are
// there several, the error is [ErrAmbiguous] and lists them; none of them is picked.
//
// What is neither a URL nor a name that is known is taken for a key, which may be
// nobody's: only Key is set then. A key that belongs to another tenant than the one
// that was said is an error.
func (s *Store) Meant(ctx context.Context, tenant *string, text string) (relay.Endpoint, error) {
	switch {
	case text == "":
		return relay.Endpoint{}, errors.New("endpoint: no endpoint is named: want its name, its URL or its key")
	case strings.Contains(text, "://"):
		return s.meantURL(ctx, tenant, text)
	case isKey(text): // before names: nobody takes a key from another by a name
		ep, err := s.meantKey(ctx, tenant, text)
		if ep.URL != "" || err != nil {
			return ep, err
		}
	}
	r := s.o.Registry
	if tenant != nil {
		if ep, err := r.Find(*tenant, text, ""); err == nil {
			return ep, nil
		}
		return relay.Endpoint{Key: text}, nil
	}
	owners := r.owners(text)
	if len(owners) == 0 {
		s.look() // it may have been registered a moment ago
		owners = r.owners(text)
	}
	switch len(owners) {
	case 0:
		return relay.Endpoint{Key: text}, nil
	case 1:
		return r.Find(owners[0], text, "")
	}
	return relay.Endpoint{}, ambiguous(text, owners, func(tenant string) string { return nameKey(tenant, text) })
}

// meantURL is Meant for a URL. Whose it is says the registry, or the record of what
// was ever called: an endpoint needs no registration.
func (s *Store) meantURL(ctx context.Context, tenant *string, text string) (relay.Endpoint, error) {
	r := s.o.Registry
	canonical, err := relay.CheckURL(text)
	if err != nil {
		return relay.Endpoint{}, fmt.Errorf("endpoint: %w", err)
	}
	if tenant != nil {
		return r.ofURL(*tenant, canonical), nil
	}
	url := withoutQuery(canonical)
	owners := r.ownersOfURL(url)
	rows, _ := s.o.Pool.Query(ctx, `SELECT DISTINCT coalesce(tenant, '') FROM relay.endpoints WHERE url = $1 AND name IS NULL`, url) // CollectRows tells the error
	called, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return relay.Endpoint{}, failed("find out whose endpoint %s is (or say whose): %w", url, err)
	}
	for _, owner := range called {
		owners[owner] = true
	}
	switch tenants := slices.Sorted(maps.Keys(owners)); len(tenants) {
	case 0:
		return r.ofURL("", canonical), nil
	case 1:
		return r.ofURL(tenants[0], canonical), nil
	default:
		return relay.Endpoint{}, ambiguous(url, tenants, func(tenant string) string { return r.ofURL(tenant, canonical).Key })
	}
}

// meantKey is Meant for what looks like a key.
func (s *Store) meantKey(ctx context.Context, tenant *string, key string) (relay.Endpoint, error) {
	c, err := s.who(ctx, key)
	switch {
	case errors.Is(err, ErrUnknown):
		return relay.Endpoint{Key: key}, nil
	case err != nil:
		return relay.Endpoint{}, err
	case tenant != nil && c.Tenant != *tenant:
		return relay.Endpoint{}, fmt.Errorf("endpoint: %s belongs to %s", key, whose(c.Tenant))
	}
	return relay.Endpoint{Key: key, Tenant: c.Tenant, Name: c.Name, URL: c.URL}, nil
}

// owners returns the tenants that have registered a name.
func (r *Registry) owners(name string) (tenants []string) {
	r.byName.Range(func(known, _ any) bool {
		if t, ok := known.(title); ok && t.text == name {
			tenants = append(tenants, t.tenant)
		}
		return true
	})
	slices.Sort(tenants)
	return tenants
}

// ownersOfURL returns the tenants that have registered a URL, or hold it.
func (r *Registry) ownersOfURL(url string) map[string]bool {
	tenants := map[string]bool{}
	r.byURL.Range(func(known, _ any) bool {
		if t, ok := known.(title); ok && t.text == url {
			tenants[t.tenant] = true
		}
		return true
	})
	r.held.Range(func(_, held any) bool {
		if ep, ok := held.(*relay.Endpoint); ok && ep.Name == "" && withoutQuery(ep.URL) == url {
			tenants[ep.Tenant] = true
		}
		return true
	})
	return tenants
}

// ownersShown is how many tenants an error lists.
const ownersShown = 20

// ambiguous lists what may have been meant, so that whoever asked can ask again.
func ambiguous(text string, tenants []string, key func(tenant string) string) error {
	var each []string
	for _, t := range tenants[:min(len(tenants), ownersShown)] {
		each = append(each, whose(t)+" (key "+key(t)+")")
	}
	if more := len(tenants) - len(each); more > 0 {
		each = append(each, fmt.Sprintf("%d more", more))
	}
	return fmt.Errorf("endpoint: %.80q %w, name one of them or the key: %s", text, ErrAmbiguous, strings.Join(each, ", "))
}

// whose names a tenant for people.
func whose(tenant string) string {
	if tenant == "" {
		return "no tenant"
	}
	return fmt.Sprintf("tenant %.80q", tenant)
}
