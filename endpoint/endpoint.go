// Package endpoint is the registry of endpoints and their settings. An endpoint
// that is not registered is made from the URL alone: scheme, host, port and
// path, without the query.
package endpoint

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"maps"
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
	byName map[string]relay.Endpoint
	byURL  map[string]relay.Endpoint // by canonical URL without query
}

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
		byName: make(map[string]relay.Endpoint, len(endpoints)),
		byURL:  make(map[string]relay.Endpoint, len(endpoints)),
	}
	var faults []error
	for i, ep := range endpoints {
		for _, fault := range append(check(ep), t.add(ep)...) {
			faults = append(faults, fmt.Errorf("endpoint: %s: %w", title(ep, i), fault))
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
	ep.URL, ep.Key = canonical, hash("name:"+ep.Name)
	bare := withoutQuery(canonical)
	if _, taken := t.byName[ep.Name]; taken {
		faults = append(faults, errors.New("the name is taken by another endpoint"))
	}
	if other, taken := t.byURL[bare]; taken {
		faults = append(faults, fmt.Errorf("%s is the URL of %q too; a query makes no difference", bare, other.Name))
	}
	t.byName[ep.Name], t.byURL[bare] = ep, ep
	return faults
}

// Find returns the endpoint that a webhook goes to, with the canonical URL to
// send to.
//
// If name is set, it is the registered endpoint of that name and its own URL;
// rawURL is not looked at. An unknown name is an error. Else the endpoint is
// the one registered for rawURL, or if there is none, one without settings; the
// URL to send to is rawURL with its query. The error for a URL that relay cannot
// send to is that of [relay.CheckURL].
//
// The slices and maps in the result are shared and must not be changed.
func (r *Registry) Find(name, rawURL string) (relay.Endpoint, error) {
	t := r.table.Load()
	if name != "" {
		ep, ok := t.byName[name]
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
	bare := withoutQuery(canonical)
	ep, ok := t.byURL[bare]
	if !ok {
		ep.Key = hash(bare)
	}
	ep.URL = canonical
	return ep, nil
}

// All returns every registered endpoint by name. The caller may change the map,
// but not what its values point to.
func (r *Registry) All() map[string]relay.Endpoint {
	return maps.Clone(r.table.Load().byName)
}

// Key returns the key of the endpoint that a URL belongs to if it is not
// registered: 26 characters a–z and 2–7, a hash of its canonical form without
// the query. A registered endpoint's key comes from its name instead, so that it
// keeps its lane and its history when its URL changes. For what is no URL the
// key is a hash of the text.
func Key(url string) string {
	canonical, err := relay.CheckURL(url)
	if err != nil {
		canonical = url
	}
	return hash(withoutQuery(canonical))
}

func withoutQuery(canonical string) string {
	bare, _, _ := strings.Cut(canonical, "?")
	return bare
}

// letters are base32's in lower case. 128 bits in 5-bit letters make 26 of them.
var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// hash never meets for a name and a URL: no canonical URL begins with "name:".
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return letters.EncodeToString(sum[:16])
}

// title names an endpoint in an error, also one that has no name.
func title(ep relay.Endpoint, i int) string {
	if ep.Name == "" {
		return fmt.Sprintf("number %d", i+1)
	}
	return fmt.Sprintf("%.80q", ep.Name)
}
