// Package endpoint is the registry of endpoints and their settings. An endpoint
// that is not registered is made from the URL alone: scheme, host, port and
// path, without the query.
package endpoint

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/relaywebhooks/relay"
)

// Registry knows the registered endpoints. It is safe for concurrent use, and
// reading takes no lock.
type Registry struct {
	table atomic.Pointer[table] // never nil
}

// table is one state of the registry. It is never changed.
type table struct {
	byName map[title]relay.Endpoint
	byURL  map[title]relay.Endpoint // by canonical URL without query
	byKey  map[string]relay.Endpoint
}

// title is a name or a URL, which belongs to one tenant.
type title struct{ tenant, text string }

// New makes a registry of endpoints. Each needs a name and a URL, both of which
// belong to it alone; queries do not make URLs different. A Key is set for each,
// whatever it was. The error names every fault of every endpoint.
func New(endpoints []relay.Endpoint) (*Registry, error) {
	r := &Registry{}
	if err := r.Replace(endpoints); err != nil {
		return nil, err
	}
	return r, nil
}

// Replace exchanges all endpoints at once. If there is any fault the registry
// stays as it is.
func (r *Registry) Replace(endpoints []relay.Endpoint) error {
	t := &table{
		byName: make(map[title]relay.Endpoint, len(endpoints)),
		byURL:  make(map[title]relay.Endpoint, len(endpoints)),
		byKey:  make(map[string]relay.Endpoint, len(endpoints)),
	}
	var faults []error
	for i, ep := range endpoints {
		for _, fault := range append(check(ep), t.add(ep)...) {
			faults = append(faults, fmt.Errorf("endpoint: %s: %w", describe(ep, i), fault))
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	r.table.Store(t)
	return nil
}

// add takes an endpoint into the table under its name and its URL.
func (t *table) add(ep relay.Endpoint) (faults []error) {
	canonical, err := relay.CheckURL(ep.URL)
	if err != nil {
		return []error{err}
	}
	bare := withoutQuery(canonical)
	name, url := title{ep.Tenant, ep.Name}, title{ep.Tenant, bare}
	ep.URL, ep.Key = canonical, title{ep.Tenant, "name:" + ep.Name}.hash()
	if _, taken := t.byName[name]; taken {
		faults = append(faults, errors.New("the name is taken by another endpoint"))
	}
	if other, taken := t.byURL[url]; taken {
		faults = append(faults, fmt.Errorf("%s is the URL of %q too; a query makes no difference", bare, other.Name))
	}
	t.byName[name], t.byURL[url], t.byKey[ep.Key] = ep, ep, ep
	return faults
}

// Find returns the endpoint that a webhook goes to, with the canonical URL to
// send to. Each tenant has names and endpoints of its own, and "" is a tenant like
// any other.
//
// If name is set, it is the registered endpoint of that name and its own URL;
// rawURL is not looked at. An unknown name is an error. Else the endpoint is
// the one registered for rawURL, or if there is none, one without settings; the
// URL to send to is rawURL with its query. The error for a URL that relay cannot
// send to is that of [relay.CheckURL].
//
// The slices and maps in the result are shared and must not be changed.
func (r *Registry) Find(tenant, name, rawURL string) (relay.Endpoint, error) {
	t := r.table.Load()
	if name != "" {
		ep, ok := t.byName[title{tenant, name}]
		if !ok {
			return relay.Endpoint{}, fmt.Errorf(
				"endpoint: no endpoint %.80q is registered: add it to the configuration, or publish with a URL", name)
		}
		return ep, nil
	}
	canonical, err := relay.CheckURL(rawURL)
	if err != nil {
		return relay.Endpoint{}, fmt.Errorf("endpoint: %w", err)
	}
	found := title{tenant, withoutQuery(canonical)}
	ep, ok := t.byURL[found]
	if !ok {
		ep.Tenant, ep.Key = tenant, found.hash()
	}
	ep.URL = canonical
	return ep, nil
}

// ByKey returns the endpoint with a key, if the registry knows anything about it:
// most of all whether it is held. The result is as shared as that of Find.
func (r *Registry) ByKey(key string) (relay.Endpoint, bool) {
	ep, ok := r.table.Load().byKey[key]
	return ep, ok
}

// All returns every registered endpoint, by tenant and name. The caller may change
// the slice, but not what its items point to.
func (r *Registry) All() []relay.Endpoint {
	return slices.SortedFunc(maps.Values(r.table.Load().byName), func(a, b relay.Endpoint) int {
		return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Name, b.Name))
	})
}

// Key returns the key of the endpoint that a URL of no tenant belongs to if it is not
// registered: 26 characters a–z and 2–7, a hash of its canonical form without
// the query. A registered endpoint's key comes from its name instead, so that it
// keeps its lane and its history when its URL changes. For what is no URL the
// key is a hash of the text.
func Key(url string) string {
	canonical, err := relay.CheckURL(url)
	if err != nil {
		canonical = url
	}
	return title{"", withoutQuery(canonical)}.hash()
}

func withoutQuery(canonical string) string {
	bare, _, _ := strings.Cut(canonical, "?")
	return bare
}

// letters are base32's in lower case. 128 bits in 5-bit letters make 26 of them.
var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// hash never meets for a name and a URL, nor for two tenants: no canonical URL
// begins with "name:" or "tenant:", and no tenant holds a NUL.
func (t title) hash() string {
	s := t.text
	if t.tenant != "" {
		s = "tenant:" + t.tenant + "\x00" + s
	}
	sum := sha256.Sum256([]byte(s))
	return letters.EncodeToString(sum[:16])
}

// describe names an endpoint in an error, also one that has no name.
func describe(ep relay.Endpoint, i int) string {
	if ep.Name == "" {
		return fmt.Sprintf("number %d", i+1)
	}
	return fmt.Sprintf("%.80q", ep.Name)
}
