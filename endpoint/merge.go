package endpoint

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/relaywebhooks/relay"
)

// sources are what a registry is made of: the configuration file and the table.
// Of an endpoint that stands in both, the file has the settings, and it is held if
// either says so.
type sources struct {
	mu        sync.Mutex
	file      map[string]relay.Endpoint  // by key
	rows      map[string]*relay.Endpoint // by key; Name is "" if the table has only its state
	contested map[title]bool             // URLs that more than one endpoint has claimed
}

// replace takes over what stands in the file.
func (r *Registry) replace(file map[string]relay.Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := make([]string, 0, len(file))
	for key, ep := range file {
		if ep.Released = r.file[key].Released; ep.Held == "" && r.file[key].Held != "" {
			ep.Released = time.Now()
		}
		file[key] = ep
		keys = append(keys, key)
	}
	for key := range r.file {
		if _, stays := file[key]; !stays {
			keys = append(keys, key)
		}
	}
	r.file = file
	r.show(keys)
}

// apply takes over what changed in the table: for each key the endpoint as it is
// now, or nil if it is no longer there. The endpoints must not be changed later.
func (r *Registry) apply(changed map[string]*relay.Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows == nil {
		r.rows = make(map[string]*relay.Endpoint, len(changed))
	}
	keys := make([]string, 0, len(changed))
	for key, ep := range changed {
		if ep == nil {
			delete(r.rows, key)
		} else {
			r.rows[key] = ep
		}
		keys = append(keys, key)
	}
	r.show(keys)
}

// reset is apply for a table that was read as a whole.
func (r *Registry) reset(all map[string]*relay.Endpoint) {
	r.mu.Lock()
	for key := range r.rows {
		if _, stays := all[key]; !stays {
			all[key] = nil
		}
	}
	r.mu.Unlock()
	r.apply(all)
}

// show brings what Find reads up to date for some keys. New places are taken
// before old ones are given up, so that what is registered before and after is
// never missing in between.
func (r *Registry) show(keys []string) {
	left := map[title]string{} // the URLs that they had, and who
	for _, key := range keys {
		old, had := load(&r.byKey, key)
		now := r.effective(key)
		if had && (now == nil || urlOf(old) != urlOf(now)) {
			left[urlOf(old)] = key
		}
		r.hold(key, now)
		if now != nil {
			r.put(old, now)
		}
	}
	for _, key := range keys {
		if old, had := load(&r.byKey, key); had && r.effective(key) == nil {
			r.byKey.Delete(key)
			r.byName.Delete(title{old.Tenant, old.Name}) // the key is made of the name, so it is nobody else's
		}
	}
	for url, key := range left {
		if ep, ok := load(&r.byURL, url); ok && ep.Key == key {
			r.bequeath(url)
		}
	}
}

// put shows an endpoint as it is now; old is nil if it is new.
func (r *Registry) put(old, now *relay.Endpoint) {
	if old != nil && sameTLS(old.TLS, now.TLS) {
		kept := *now
		kept.TLS = old.TLS
		now = &kept
	}
	r.byKey.Store(now.Key, now)
	r.byName.Store(title{now.Tenant, now.Name}, now)
	r.claim(now)
}

// effective is an endpoint as both sources have it, or nil if it is not
// registered.
func (r *Registry) effective(key string) *relay.Endpoint {
	row := r.rows[key]
	ep, inFile := r.file[key]
	switch {
	case inFile && row != nil:
		ep.Held = cmp.Or(row.Held, ep.Held)
		if row.Released.After(ep.Released) {
			ep.Released = row.Released
		}
		return &ep
	case inFile:
		return &ep
	case row != nil && row.Name != "":
		return row
	}
	return nil
}

// hold notes the state of an endpoint that is not registered.
func (r *Registry) hold(key string, registered *relay.Endpoint) {
	if row := r.rows[key]; registered == nil && row != nil {
		r.held.Store(key, row)
	} else {
		r.held.Delete(key)
	}
}

// claim gives an endpoint its URL, unless another has more right to it: the file
// goes first, then the lower key, so that all processes decide alike.
func (r *Registry) claim(ep *relay.Endpoint) {
	url := urlOf(ep)
	if url.text == "" {
		return
	}
	if other, taken := load(&r.byURL, url); taken && other.Key != ep.Key && r.has(other.Key, url) {
		if r.contested == nil {
			r.contested = map[title]bool{}
		}
		r.contested[url] = true
		if r.prior(other, ep) {
			return
		}
	}
	r.byURL.Store(url, ep)
}

// has reports whether a URL is an endpoint's, as things are now.
func (r *Registry) has(key string, url title) bool {
	ep := r.effective(key)
	return ep != nil && urlOf(ep) == url
}

// prior reports whether a has more right to a URL than b.
func (r *Registry) prior(a, b *relay.Endpoint) bool {
	_, aInFile := r.file[a.Key]
	_, bInFile := r.file[b.Key]
	if aInFile != bInFile {
		return aInFile
	}
	return a.Key < b.Key
}

// bequeath finds whoever else has claimed a URL that was given up.
func (r *Registry) bequeath(url title) {
	var heir *relay.Endpoint
	if r.contested[url] {
		r.byKey.Range(func(_, v any) bool {
			if ep, ok := v.(*relay.Endpoint); ok && urlOf(ep) == url && (heir == nil || r.prior(ep, heir)) {
				heir = ep
			}
			return true
		})
	}
	if heir == nil {
		r.byURL.Delete(url)
	} else {
		r.byURL.Store(url, heir)
	}
}

// inFile reports whether an endpoint's settings stand in the configuration file.
func (r *Registry) inFile(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.file[key]
	return ok
}

// heldInFile says why an endpoint is not called for as long as the configuration
// file says so; "" if it does not.
func (r *Registry) heldInFile(key string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file[key].Held
}

func urlOf(ep *relay.Endpoint) title { return title{ep.Tenant, withoutQuery(ep.URL)} }

// sameTLS reports whether two settings say the same. Then the old ones stay, because
// connections are told apart by the pointer.
func sameTLS(old, now *relay.TLS) bool {
	return old != nil && now != nil && old.Key == now.Key &&
		bytes.Equal(old.Authorities, now.Authorities) && bytes.Equal(old.Certificate, now.Certificate)
}

// table is the configuration file's endpoints while they are looked through.
type table struct {
	byKey map[string]relay.Endpoint
	byURL map[title]string // the names, by canonical URL without query
}

func newTable(size int) table {
	return table{byKey: make(map[string]relay.Endpoint, size), byURL: make(map[title]string, size)}
}

// add takes an endpoint into the table under its name and its URL.
func (t *table) add(ep relay.Endpoint) (faults []error) {
	canonical, err := relay.CheckURL(ep.URL)
	if err != nil {
		return []error{err}
	}
	ep.URL, ep.Key = canonical, nameKey(ep.Tenant, ep.Name)
	url := urlOf(&ep)
	if _, taken := t.byKey[ep.Key]; taken {
		faults = append(faults, errors.New("the name is taken by another endpoint"))
	}
	if other, taken := t.byURL[url]; taken {
		faults = append(faults, fmt.Errorf("%s is the URL of %q too; a query makes no difference", url.text, other))
	}
	t.byKey[ep.Key], t.byURL[url] = ep, ep.Name
	return faults
}

// describe names an endpoint in an error, also one that has no name.
func describe(ep relay.Endpoint, i int) string {
	if ep.Name == "" {
		return fmt.Sprintf("number %d", i+1)
	}
	return fmt.Sprintf("%.80q", ep.Name)
}

// nameKey is the key of a registered endpoint.
func nameKey(tenant, name string) string { return title{tenant, "name:" + name}.hash() }
