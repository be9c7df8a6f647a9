package endpoint_test

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func ExampleRegistry_Find() {
	registry, err := endpoint.New([]relay.Endpoint{
		{Name: "orders", URL: "https://shop.example/hooks/orders", Concurrency: 4},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	byName, _ := registry.Find("", "orders", "")
	byURL, _ := registry.Find("", "", "https://SHOP.example:443/hooks/orders?shop=7")
	fmt.Println(byURL.Name, byURL.Concurrency, byURL.URL)
	fmt.Println(byURL.Key == byName.Key)
	_, err = registry.Find("", "invoices", "")
	fmt.Println(err)
	// Output:
	// orders 4 https://shop.example/hooks/orders?shop=7
	// true
	// endpoint: no endpoint "invoices" is registered, or no longer: register it (relay endpoint put), or publish with a URL
}

// One key is one circuit, one lane, one rate: spellings must not matter, and
// different endpoints must not meet.
func TestKeyIsOfTheCanonicalForm(t *testing.T) {
	same := [][]string{
		{
			"https://a.example/x", "HTTPS://A.Example/x", "https://a.example:443/x",
			"https://a.example/x?token=1", "https://a.example/x?", "https://a.example:0443/x?y=/z?",
		},
		{"http://a.example", "http://a.example/", "http://a.example:80/?x"},
		{"https://[2001:db8::1]/", "https://[2001:DB8:0:0::1]:443"},
	}
	seen := map[string]string{}
	for _, spellings := range same {
		for _, url := range spellings {
			if endpoint.Key(url) != endpoint.Key(spellings[0]) {
				t.Errorf("%s and %s have two keys", url, spellings[0])
			}
		}
		seen[endpoint.Key(spellings[0])] = spellings[0]
	}
	different := []string{
		"http://a.example/x", "https://a.example:444/x", "https://a.example/X", "https://a.example/x/",
		"https://b.example/x", "http://a.example:443/", "", "no url", "name:orders",
	}
	for _, url := range different {
		if other, met := seen[endpoint.Key(url)]; met {
			t.Errorf("%q and %q share a key", url, other)
		}
		seen[endpoint.Key(url)] = url
	}
}

// Keys stand in NATS subjects and in Postgres: changing them loses lanes and
// history, so these may never change.
func TestKeysAreForEver(t *testing.T) {
	registry, err := endpoint.New([]relay.Endpoint{{Name: "orders", URL: "https://shop.example/"}})
	if err != nil {
		t.Fatal(err)
	}
	orders, err := registry.Find("", "orders", "")
	if err != nil {
		t.Fatal(err)
	}
	if found, ok := registry.ByKey(orders.Key); !ok || found.Name != "orders" || found.Key != orders.Key {
		t.Errorf("by its key: %+v, %t", found, ok)
	}
	if found, ok := registry.ByKey(endpoint.Key("https://shop.example/")); ok {
		t.Errorf("by the key of its URL: %+v", found)
	}
	if got, want := orders.Key, "uvx5nwb6pa2uf6wt24djyzgcge"; got != want {
		t.Errorf("the key of endpoint orders is %s, was %s", got, want)
	}
	if got, want := endpoint.Key("https://shop.example/hooks"), "bf6vmnqgc6ahfpaczqwg7tayfq"; got != want {
		t.Errorf("the key of a URL is %s, was %s", got, want)
	}
}

func TestKeyIsOneSubjectToken(t *testing.T) {
	token := regexp.MustCompile(`^[a-z2-7]{26}$`)
	rapid.Check(t, func(t *rapid.T) {
		url := rapid.String().Draw(t, "url")
		if key := endpoint.Key(url); !token.MatchString(key) || key == relay.InvalidEndpoint {
			t.Fatalf("the key of %q is %q", url, key)
		}
	})
}

func TestFindByURL(t *testing.T) {
	registry, err := endpoint.New([]relay.Endpoint{
		{Name: "orders", URL: "https://Shop.example:443/orders?key=1", Rate: 5},
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ url, name, to string }{
		{"https://shop.example/orders?shop=2", "orders", "https://shop.example/orders?shop=2"},
		{"https://SHOP.example/orders", "orders", "https://shop.example/orders"},
		{"https://shop.example/orders/", "", "https://shop.example/orders/"},
		{"http://shop.example/orders", "", "http://shop.example/orders"},
		{"https://other.example?a=b", "", "https://other.example/?a=b"},
	}
	for _, test := range tests {
		ep, err := registry.Find("", "", test.url)
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if ep.Name != test.name || ep.URL != test.to {
			t.Errorf("%s: found %q at %s, want %q at %s", test.url, ep.Name, ep.URL, test.name, test.to)
		}
		if test.name == "" && ep.Key != endpoint.Key(test.url) {
			t.Errorf("%s: has the key %s, want that of its URL", test.url, ep.Key)
		}
		if test.name != "" && ep.Rate != 5 {
			t.Errorf("%s: has not the settings of %s", test.url, test.name)
		}
	}
}

func TestFindRefuses(t *testing.T) {
	registry, err := endpoint.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"", "shop.example", "file:///etc/passwd", "https://user:hunter2@shop.example/", "https://a b/"} {
		ep, err := registry.Find("", "", url)
		if err == nil {
			t.Errorf("%q: found %+v", url, ep)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error shows the password: %v", url, err)
		}
	}
	long := strings.Repeat("x", 1<<20)
	if _, err := registry.Find("", long, ""); err == nil || len(err.Error()) > 300 {
		t.Errorf("a long name gave an error of %d bytes", len(fmt.Sprint(err)))
	}
}

func TestNewNamesEveryFault(t *testing.T) {
	_, err := endpoint.New([]relay.Endpoint{
		{
			Name: "all", URL: "ftp://shop.example/", Timeout: -1, Concurrency: -1, Rate: math.NaN(), Burst: -1, MaxAttempts: 101,
			Schedule: []time.Duration{time.Second, -1}, SuccessCodes: []relay.CodeRange{{From: 299, To: 200}},
			Secrets: []relay.Secret{secret, "whsec_c2hvcnQ="}, Header: http.Header{"Host": {"x"}, "X-A": {"a", "b\n"}},
			ContentType: "json", TLS: &relay.TLS{Authorities: []byte("ca.pem"), Key: "canary"},
		},
		{URL: "https://a.example/"},
		{Name: "b", URL: "https://a.example/?b"},
		{Name: "b", URL: "https://b.example/"},
		{Name: strings.Repeat("n", 300), URL: "https://n.example"},
		{Name: "x\n", URL: "https://x.example"},
	})
	want := []string{
		`"all": URL: scheme "ftp"`, `"all": timeout`, `"all": concurrency`, `"all": rate`, `"all": burst`, `"all": max_attempts`,
		`"all": schedule: wait 2`, `"all": success_codes: 299–200`, `"all": secrets: number 2`, `"all": headers: header Host`, `"all": headers: header X-A`,
		`"all": content_type: is "json"`, `"all": ca: is not PEM`, `"all": certificate: is missing`, `"all": url: does not begin with https://`,
		`number 2: name: is missing`, `"b": https://a.example/ is the URL of "" too`, `"b": the name is taken`,
		`name: is longer than 256 bytes`, `name: holds a control character`,
	}
	if err == nil {
		t.Fatal("no fault was found")
	}
	for _, fault := range want {
		if !strings.Contains(err.Error(), fault) {
			t.Errorf("no fault %q", fault)
		}
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != len(want) {
		t.Errorf("%d faults, want %d:\n%v", got, len(want), err)
	}
	if strings.Contains(err.Error(), "c2hvcnQ") || strings.Contains(err.Error(), "canary") {
		t.Error("an error shows a secret")
	}
}

func TestReplaceIsAllOrNothing(t *testing.T) {
	registry, err := endpoint.New([]relay.Endpoint{{Name: "orders", URL: "https://old.example/"}})
	if err != nil {
		t.Fatal(err)
	}
	before, _ := registry.Find("", "orders", "")
	if err := registry.Replace([]relay.Endpoint{{Name: "new", URL: "https://new.example/"}, {Name: "bad"}}); err == nil {
		t.Error("Replace took an endpoint without a URL")
	}
	if ep, err := registry.Find("", "orders", ""); err != nil || ep.URL != "https://old.example/" {
		t.Errorf("after a refused Replace: %+v, %v", ep, err)
	}
	if err := registry.Replace([]relay.Endpoint{{Name: "orders", URL: "https://new.example/"}}); err != nil {
		t.Fatal(err)
	}
	after, err := registry.Find("", "orders", "")
	if err != nil || after.URL != "https://new.example/" || after.Key != before.Key {
		t.Errorf("a new URL: %+v, %v; the key was %s", after, err, before.Key)
	}
	if ep, _ := registry.Find("", "", "https://old.example/"); ep.Name != "" {
		t.Error("the old URL is still registered")
	}
	if all := registry.All(); len(all) != 1 || all[0].Key != before.Key {
		t.Errorf("All returned %v", all)
	}
}

func TestFindWhileReplacing(t *testing.T) {
	registry, err := endpoint.New([]relay.Endpoint{{Name: "a", URL: "https://a.example/"}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 200 {
				if i == 0 {
					if err := registry.Replace([]relay.Endpoint{{Name: "a", URL: "https://a.example/"}}); err != nil {
						t.Error(err)
					}
				} else if _, err := registry.Find("", "a", ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkFindByURL(b *testing.B) {
	registry, err := endpoint.New([]relay.Endpoint{{Name: "a", URL: "https://a.example/"}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Find("", "", "https://shop.example/hooks/orders?shop=7"); err != nil {
			b.Fatal(err)
		}
	}
}

// Issue 5, tenants: what one registers or calls is no concern of another's.
func TestTenantsHaveEndpointsOfTheirOwn(t *testing.T) {
	const url = "https://shop.example/hooks"
	registry, err := endpoint.New([]relay.Endpoint{
		{Name: "orders", URL: url, Rate: 1},
		{Name: "orders", URL: url, Tenant: "acme", Rate: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for tenant, rate := range map[string]float64{"": 1, "acme": 2, "other": 0} {
		ep, err := registry.Find(tenant, "", url)
		if err != nil || ep.Rate != rate || ep.Tenant != tenant {
			t.Errorf("the URL of tenant %q: %+v, %v", tenant, ep, err)
		}
		if other, taken := keys[ep.Key]; taken {
			t.Errorf("tenants %q and %q share a key", tenant, other)
		}
		keys[ep.Key] = tenant
		byName, err := registry.Find(tenant, "orders", "")
		if tenant == "other" {
			if err == nil {
				t.Error("a tenant can name another's endpoint")
			}
		} else if err != nil || byName.Key != ep.Key {
			t.Errorf("the name of tenant %q: %+v, %v", tenant, byName, err)
		}
	}
}
