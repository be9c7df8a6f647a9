// Package endpoint is the registry of endpoints and their settings. They stand in
// the configuration file or in the database, where [Store] reads and writes them
// and [Service] lets operators change them. An endpoint that is not registered is
// made from the URL alone: scheme, host, port and path, without the query.
//
//	endpoint.go  Registry: whom a webhook goes to; and what an endpoint's key is
//	merge.go     how the file's endpoints and the table's become one registry
//	settings.go  the JSON of an endpoint's settings; read.go reads it, check.go judges it
//	store.go     Store: the table; write.go changes it, state.go pauses and disables
//	compile.go   templates, one at a time
//	seal.go      Sealer: keeps secrets unreadable in the table; rekey.go replaces its key
//	meant.go     which endpoint a person means
//	service.go   Service: the NATS micro service; answers.go and list.go have its verbs
package endpoint

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/relaywebhooks/relay"
)

// Registry knows the registered endpoints, and those that are held. It is safe
// for concurrent use, and reading takes no lock.
type Registry struct {
	// What Find reads. The values are *relay.Endpoint and never changed.
	byKey  sync.Map
	byName sync.Map // by title
	byURL  sync.Map // by title: the canonical URL without query
	held   sync.Map // by key: endpoints that are not registered, with Held and Released alone

	sources // what those are made of

	look func() // has the table read now; nil without one
}

// title is a name or a URL, which belongs to one tenant.
type title struct{ tenant, text string }

// New makes a registry of the configuration file's endpoints. Each needs a name
// and a URL, both of which belong to it alone; queries do not make URLs different.
// A Key is set for each, whatever it was. The error names every fault of every
// endpoint.
func New(endpoints []relay.Endpoint) (*Registry, error) {
	r := &Registry{}
	if err := r.Replace(endpoints); err != nil {
		return nil, err
	}
	return r, nil
}

// Replace exchanges all endpoints of the configuration file at once. If there is
// any fault the registry stays as it is. Those of the database are not touched;
// where both have one, the file has its settings, and it is held as long as either
// says that it is paused or disabled.
func (r *Registry) Replace(endpoints []relay.Endpoint) error {
	t := newTable(len(endpoints))
	var faults []error
	for i, ep := range endpoints {
		for _, fault := range append(check(ep), t.add(ep)...) {
			faults = append(faults, fmt.Errorf("endpoint: %s: %w", describe(ep, i), fault))
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	r.replace(t.byKey)
	return nil
}

// Find returns the endpoint that a webhook goes to, with the canonical URL to
// send to. Each tenant has names and endpoints of its own, and "" is a tenant like
// any other.
//
// If name is set, it is the registered endpoint of that name and its own URL;
// rawURL is not looked at. An unknown name is looked up in the database, and an
// error if it is not there either. Else the endpoint is the one registered for
// rawURL, or if there is none, one without settings, which may be held all the
// same; the URL to send to is rawURL with its query. The error for a URL that relay cannot
// send to is that of [relay.CheckURL].
//
// The slices and maps in the result are shared and must not be changed.
func (r *Registry) Find(tenant, name, rawURL string) (relay.Endpoint, error) {
	if name != "" {
		ep, ok := r.named(tenant, name)
		if !ok && r.look != nil {
			r.look() // it may have been registered a moment ago
			ep, ok = r.named(tenant, name)
		}
		if !ok {
			return relay.Endpoint{}, fmt.Errorf("endpoint: no endpoint %.80q is registered, or no longer: "+
				"register it (relay endpoint put), or publish with a URL", name)
		}
		return *ep, nil
	}
	canonical, err := relay.CheckURL(rawURL)
	if err != nil {
		return relay.Endpoint{}, fmt.Errorf("endpoint: %w", err)
	}
	return r.ofURL(tenant, canonical), nil
}

func (r *Registry) ofURL(tenant, canonical string) (ep relay.Endpoint) {
	found := title{tenant, withoutQuery(canonical)}
	if known, ok := load(&r.byURL, found); ok {
		ep = *known
	} else {
		ep.Tenant, ep.Key = tenant, found.hash()
		if state, ok := load(&r.held, ep.Key); ok {
			ep.Held, ep.Released = state.Held, state.Released
		}
	}
	ep.URL = canonical
	return ep
}

func (r *Registry) named(tenant, name string) (*relay.Endpoint, bool) {
	return load(&r.byName, title{tenant, name})
}

func load(m *sync.Map, key any) (*relay.Endpoint, bool) {
	v, _ := m.Load(key)
	ep, ok := v.(*relay.Endpoint)
	return ep, ok
}

// ByKey returns the endpoint with a key, if the registry knows anything about it:
// most of all whether it is held. The result is as shared as that of Find.
func (r *Registry) ByKey(key string) (relay.Endpoint, bool) {
	ep, ok := load(&r.byKey, key)
	if !ok {
		ep, ok = load(&r.held, key)
	}
	if !ok {
		return relay.Endpoint{}, false
	}
	return *ep, true
}

// All returns every registered endpoint, by tenant and name. The caller may change
// the slice, but not what its items point to.
func (r *Registry) All() []relay.Endpoint {
	var all []relay.Endpoint
	r.byKey.Range(func(_, v any) bool {
		if ep, ok := v.(*relay.Endpoint); ok {
			all = append(all, *ep)
		}
		return true
	})
	slices.SortFunc(all, func(a, b relay.Endpoint) int {
		return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Name, b.Name))
	})
	return all
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

// isKey reports whether a text has the form of a key.
func isKey(text string) bool {
	const length = 26 // said too, because the decoder skips line breaks
	raw, err := letters.DecodeString(text)
	return len(text) == length && len(raw) == 16 && err == nil
}

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
