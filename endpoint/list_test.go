package endpoint_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
)

// pages asks for all pages of a list, and calls between after each.
func pages(t *testing.T, r *relaytest.Relay, request map[string]any, between func(endpoint.Listing)) (all []endpoint.Listed) {
	t.Helper()
	for range 10_000 {
		body, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		var page endpoint.Listing
		if err := json.Unmarshal([]byte(must(t, r.Conn, "list", string(body))), &page); err != nil {
			t.Fatal(err)
		}
		if all = append(all, page.Endpoints...); page.Next == "" {
			return all
		}
		between(page)
		request["after"] = page.Next
	}
	t.Fatal("the list has no end")
	return nil
}

// Every endpoint stands in the list once, in its order, whatever the size of the
// pages, and also if the one at which a page ended is deleted meanwhile.
func TestEveryEndpointIsListedOnce(t *testing.T) {
	t.Parallel()
	var file []relay.Endpoint
	var want []string
	for i := range 40 {
		tenant := fmt.Sprint("t", i%3)
		file = append(file, relay.Endpoint{Name: fmt.Sprintf("e%02d", i), Tenant: tenant, URL: fmt.Sprintf("https://e%d.example/", i)})
		want = append(want, fmt.Sprintf("%s e%02d", tenant, i))
	}
	r := relaytest.Start(t, relaytest.Options{Endpoints: file})
	for _, name := range []string{"m1", "m2", "m3"} {
		must(t, r.Conn, "put", `{"name": "`+name+`", "tenant": "t1", "url": "https://`+name+`.example/"}`)
		want = append(want, "t1 "+name)
	}
	slices.Sort(want)
	var alone []string
	for i := range 5 {
		url := fmt.Sprintf("https://alone%d.example/", i)
		must(t, r.Conn, "pause", url)
		alone = append(alone, " "+endpoint.Key(url))
	}
	slices.Sort(alone)
	want = append(want, alone...)
	names := func(all []endpoint.Listed) (list []string) {
		for _, e := range all {
			if e.Name == "" {
				e.Name = e.Endpoint
			}
			list = append(list, e.Tenant+" "+e.Name)
		}
		return list
	}
	for _, limit := range []int{1, 2, 7, 47, 48, 49, 500} {
		got := names(pages(t, r, map[string]any{"limit": limit}, func(p endpoint.Listing) {
			if len(p.Endpoints) != limit || p.Count != len(want) {
				t.Errorf("a page has %d of %d", len(p.Endpoints), p.Count)
			}
		}))
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %q", limit, got)
		}
	}
	if got := pages(t, r, map[string]any{"limit": 2, "tenant": "t1"}, func(endpoint.Listing) {}); len(got) != 16 {
		t.Errorf("%d of a tenant", len(got))
	}
	got := names(pages(t, r, map[string]any{"limit": 1}, func(p endpoint.Listing) {
		if e := p.Endpoints[0]; e.Source == "database" {
			must(t, r.Conn, "delete", e.Endpoint)
		} else if e.Source == "url" {
			must(t, r.Conn, "resume", e.Endpoint)
		}
	}))
	if !slices.Equal(got, want) {
		t.Errorf("while they are deleted: %q", got)
	}
	if code, text := answerOf(t, r.Conn, "list", `{"after": "orders"}`); code != "400" || !strings.Contains(text, "after: is not what an answer had as next") {
		t.Errorf("%s %s", code, text)
	}
}

// A page of endpoints with long names and URLs fits into one message.
func TestAPageOfLongNamesFits(t *testing.T) {
	t.Parallel()
	var file []relay.Endpoint
	for i := range 700 {
		file = append(file, relay.Endpoint{
			Name: fmt.Sprintf("%03d%s", i, strings.Repeat("<", relay.MaxName-3)), Tenant: strings.Repeat("&", relay.MaxName),
			URL: fmt.Sprintf("https://e.example/%03d%s", i, strings.Repeat("x", 1900)),
		})
	}
	r := relaytest.Start(t, relaytest.Options{Endpoints: file})
	more := 0
	if got := pages(t, r, map[string]any{}, func(endpoint.Listing) { more++ }); len(got) != len(file) || more < 2 {
		t.Errorf("%d endpoints on %d pages", len(got), more+1)
	}
}

// A refusal fits into one message too, however much is wrong with a request.
func TestARefusalFits(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	many := `"` + strings.Repeat(`x","`, 100_000) + `x"`
	code, text := answerOf(t, r.Conn, "put", `{"name": "orders", "url": "https://orders.example/", "secrets": [`+many+`]}`)
	if code != "400" || !strings.Contains(text, "secrets: number 1: ") || !strings.Contains(text, "more\"]") {
		t.Errorf("%s %.500s", code, text)
	}
}
