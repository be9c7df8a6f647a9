package endpoint_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// An operator says whose endpoint is meant. Who does not gets the only one that there
// is, and where there are several a list of them and none.
func TestMeant(t *testing.T) {
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{}, relay.Endpoint{Name: "file", URL: "https://file.example/"})
	const shared, called = "https://shared.example/hook", "https://called.example/hook"
	of := map[string]string{}
	for _, tenant := range []string{"a", "b"} {
		of[tenant] = p.put(fmt.Sprintf(`{"name": "orders", "tenant": %q, "url": %q}`, tenant, shared)).State.Key
	}
	of["only"] = p.put(`{"name": "bills", "tenant": "b", "url": "https://bills.example/"}`).State.Key
	p.put(`{"name": "` + of["a"] + `", "tenant": "b", "url": "https://thief.example/"}`) // what is a's key is a name of b's
	p.exec(`INSERT INTO relay.endpoints (endpoint_key, url, host, tenant) VALUES ($1, $2, '', 'a'), ($3, $2, '', NULL)`,
		urlKey(t, p, "a", called), called, urlKey(t, p, "", called))
	fileKey := found(t, p, "file", "").Key

	a, b, none := "a", "b", ""
	const ambiguous = "is an endpoint of several tenants, name one of them or the key: "
	for _, c := range []struct {
		name   string
		tenant *string
		text   string
		key    string // "" for an error
		fault  string
	}{
		{"a name of two tenants", nil, "orders", "", `"orders" ` + ambiguous + `tenant "a" (key ` + of["a"] + `), tenant "b" (key ` + of["b"] + ")"},
		{"a name of one of them", &a, "orders", of["a"], ""},
		{"a name of the other", &b, "orders", of["b"], ""},
		{"a name of two tenants, and not of this one", &none, "orders", "orders", ""},
		{"a name of one tenant", nil, "bills", of["only"], ""},
		{"a name of another tenant", &a, "bills", "bills", ""},
		{"a name of no tenant", nil, "file", fileKey, ""},
		{"a name of no tenant, said", &none, "file", fileKey, ""},
		{"a URL that two have registered", nil, shared + "?x=1", "", ambiguous + `tenant "a" (key ` + of["a"]},
		{"a URL that one of two has registered", &b, shared, of["b"], ""},
		{"a URL that a third might publish", &none, shared, urlKey(t, p, "", shared), ""},
		{"a URL that two have published to", nil, called, "", ambiguous + "no tenant (key " + urlKey(t, p, "", called) + `), tenant "a" (key ` + urlKey(t, p, "a", called) + ")"},
		{"a URL that one of two has published to", &a, called, urlKey(t, p, "a", called), ""},
		{"a URL that nobody knows", nil, "https://never.example/", endpoint.Key("https://never.example/"), ""},
		{"a key", nil, of["b"], of["b"], ""},
		{"a key that another has as a name", nil, of["a"], of["a"], ""},
		{"a key of the tenant", &a, of["a"], of["a"], ""},
		{"a key of another tenant", &b, of["only"], of["only"], ""},
		{"a key of another tenant", &a, of["only"], "", of["only"] + ` belongs to tenant "b"`},
		{"a key of a URL of another tenant", &b, urlKey(t, p, "a", called), "", `belongs to tenant "a"`},
		{"a key of a URL of no tenant", &b, urlKey(t, p, "", called), "", "belongs to no tenant"},
		{"a key that nobody knows", &a, endpoint.Key("https://never.example/"), endpoint.Key("https://never.example/"), ""},
		{"nothing", nil, "", "", "no endpoint is named"},
		{"no URL", nil, "ftp://x.example/", "", "URL: scheme"},
	} {
		ep, err := p.store.Meant(t.Context(), c.tenant, c.text)
		if c.key != "" && (err != nil || ep.Key != c.key) || c.key == "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s, %q: %+v, %v\nwant key %q, fault %q", c.name, c.text, ep, err, c.key, c.fault)
		}
		if isAmbiguous := errors.Is(err, endpoint.ErrAmbiguous); isAmbiguous != strings.Contains(c.fault, ambiguous) {
			t.Errorf("%s: ambiguous %t", c.name, isAmbiguous)
		}
	}
}

// Where very many have one, the answer names some.
func TestMeantByVeryMany(t *testing.T) {
	var all []relay.Endpoint
	for i := range 1000 {
		all = append(all, relay.Endpoint{Name: "orders", Tenant: fmt.Sprintf("t%04d", i), URL: "https://a.example/"})
	}
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{}, all...)
	for _, text := range []string{"orders", "https://a.example/"} {
		_, err := p.store.Meant(t.Context(), nil, text)
		if err == nil || !strings.HasSuffix(err.Error(), ", 980 more") || len(err.Error()) > 2000 {
			t.Errorf("%v", err)
		}
	}
}

// urlKey is the key of a tenant's endpoint that is not registered.
func urlKey(t *testing.T, p *process, tenant, url string) string {
	t.Helper()
	ep, err := p.Find(tenant, "", url)
	if err != nil {
		t.Fatal(err)
	}
	return ep.Key
}
