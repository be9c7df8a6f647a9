package endpoint

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/relaywebhooks/relay"
)

const (
	// listed is how many endpoints an answer has at most. Each page is a walk through
	// all there are.
	listed = 5000
	// listedBytes is about how long it may be: it must fit into one message, and
	// names and URLs may be long.
	listedBytes = 512 << 10
)

// Listing is the answer of list: endpoints by tenant and name, and then those that
// are held without being registered.
type Listing struct {
	Endpoints []Listed `json:"endpoints"`
	Count     int      `json:"count"`          // of all that match
	Next      string   `json:"next,omitempty"` // what to ask for as after, if there are more
}

// Listed is one endpoint of a [Listing].
type Listed struct {
	Endpoint string `json:"endpoint"` // its key
	Tenant   string `json:"tenant,omitempty"`
	Name     string `json:"name,omitempty"`
	URL      string `json:"url,omitempty"` // without its query
	Source   string `json:"source"`        // database, file, or url: known by that alone
	Held     string `json:"held,omitempty"`
}

func (s *Service) list(_ context.Context, r request) (any, error) {
	var tenant *string
	var held bool
	var after place
	limit := listed
	if len(strings.TrimSpace(string(r.body))) > 0 {
		found := readObject(r.body, map[string]any{"tenant": &tenant, "held": &held, "after": &after, "limit": &limit})
		if limit < 1 || limit > listed {
			found = append(found, fmt.Errorf("limit: is %d, want 1 to %d", limit, listed))
		}
		if len(found) > 0 {
			return nil, errors.Join(found...)
		}
	}
	if after == (place{}) {
		s.o.Store.look()
	}
	registry := s.o.Store.o.Registry
	found, count := registry.page(after, limit+1, func(ep *relay.Endpoint) bool {
		return (tenant == nil || ep.Tenant == *tenant) && (!held || ep.Held != "")
	})
	l := Listing{Endpoints: []Listed{}, Count: count}
	size := 0
	for _, ep := range found[:min(len(found), limit)] {
		one := registry.listed(ep)
		text, _ := json.Marshal(one) // texts always have a JSON
		if size += len(text); size > listedBytes && len(l.Endpoints) > 0 {
			break
		}
		l.Endpoints = append(l.Endpoints, one)
	}
	if n := len(l.Endpoints); n < len(found) {
		l.Next = placeOf(found[n-1]).String()
	}
	return l, nil
}

func (r *Registry) listed(ep *relay.Endpoint) Listed {
	source := "database"
	switch {
	case ep.Name == "":
		source = "url"
	case r.inFile(ep.Key):
		source = "file"
	}
	return Listed{
		Endpoint: ep.Key, Tenant: ep.Tenant, Name: ep.Name, URL: withoutQuery(ep.URL), Source: source, Held: clipped(ep.Held),
	}
}

// page returns the endpoints that come next after a place, n at most and in their
// order, and how many match in all. It sorts no more than it has to: a hundred
// thousand are some thirty pages.
func (r *Registry) page(after place, n int, match func(*relay.Endpoint) bool) (next []*relay.Endpoint, count int) {
	inOrder := func(a, b *relay.Endpoint) int { return placeOf(a).compare(placeOf(b)) }
	trim := func() {
		slices.SortFunc(next, inOrder)
		next = next[:min(n, len(next))]
	}
	full := false // so that the last one is where the page ends
	look := func(_, v any) bool {
		ep, ok := v.(*relay.Endpoint)
		if !ok || ep.Name == "" && ep.Held == "" || !match(ep) {
			return true
		}
		count++
		if placeOf(ep).compare(after) <= 0 || full && inOrder(ep, next[n-1]) > 0 {
			return true
		}
		if next = append(next, ep); len(next) == 2*n {
			trim()
			full = true
		}
		return true
	}
	r.byKey.Range(look)
	r.held.Range(look)
	trim()
	return next, count
}

// place is where an endpoint stands in a list. It does not matter whether it still
// does. The zero value is before all.
type place struct {
	alone  bool // without a name: by its key, after those that have one
	tenant string
	name   string
}

func placeOf(ep *relay.Endpoint) place {
	if ep.Name == "" {
		return place{alone: true, name: ep.Key}
	}
	return place{tenant: ep.Tenant, name: ep.Name}
}

func (p place) compare(q place) int {
	switch {
	case p.alone != q.alone && p.alone:
		return 1
	case p.alone != q.alone:
		return -1
	case p.tenant != q.tenant:
		return strings.Compare(p.tenant, q.tenant)
	}
	return strings.Compare(p.name, q.name)
}

// String is the place in one word, for the next question.
func (p place) String() string {
	kind := "name"
	if p.alone {
		kind = "key"
	}
	return base64.RawURLEncoding.EncodeToString([]byte(kind + "\x00" + p.tenant + "\x00" + p.name))
}

// UnmarshalJSON reads what String wrote.
func (p *place) UnmarshalJSON(raw []byte) error {
	var text string
	_ = json.Unmarshal(raw, &text) // if it is none, it is no place either
	plain, err := base64.RawURLEncoding.DecodeString(text)
	parts := strings.Split(string(plain), "\x00")
	if err != nil || len(parts) != 3 || parts[0] != "name" && parts[0] != "key" {
		return errors.New("is not what an answer had as next")
	}
	*p = place{alone: parts[0] == "key", tenant: parts[1], name: parts[2]}
	return nil
}
