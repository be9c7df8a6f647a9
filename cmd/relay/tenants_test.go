package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

func TestTenantsInTheConfiguration(t *testing.T) {
	l := mustLoad(t, sources{
		file: file(t, `
tenants:
  rate: 10
  named:
    acme.example: {rate: 100, burst: 200}
    b: {share: 0.25}
    c: {}
consumer: {require_tenant: true}
`),
		environ: []string{"RELAY_TENANTS_NAMED_B_RATE=7", "RELAY_TENANTS_SHARE=0.5"},
		set:     []string{"tenants.named.acme.example.share=0.75"},
	})
	o := l.policyOptions()
	if want := (policy.TenantOptions{Rate: 10, Share: 0.5}); o.Tenant != want {
		t.Errorf("each tenant has %+v, want %+v", o.Tenant, want)
	}
	for name, want := range map[string]policy.TenantOptions{
		"acme.example": {Rate: 100, Burst: 200, Share: 0.75}, "b": {Rate: 7, Share: 0.25}, "c": {},
	} {
		if o.Tenants[name] != want {
			t.Errorf("%s has %+v, want %+v", name, o.Tenants[name], want)
		}
	}
	if err := o.Validate(); err != nil || !l.consumerOptions(zerolog.Nop()).TenantRequired {
		t.Errorf("a tenant is not required, or %v", err)
	}
	l = mustLoad(t, sources{file: file(t, "endpoints: {orders: {url: 'https://a.example/', tenant: acme}}\n")})
	registry, err := newEndpoints(l.Config)
	if err != nil {
		t.Fatal(err)
	}
	if ep, err := registry.Find("acme", "orders", ""); err != nil || ep.Tenant != "acme" {
		t.Errorf("%+v, %v", ep, err)
	}
	if ep, err := registry.Find("", "orders", ""); err == nil {
		t.Errorf("nobody's is %+v", ep)
	}
	_, err = load(sources{file: file(t, "tenants:\n  named:\n    a: {rates: 1}\n    b: {share: 2}\n    c: 5\n")})
	for _, want := range []string{"tenants.named.a.rates", "did you mean tenants.named.a.rate?", "tenants.named.b.share", "must be at most 1", "tenants.named.c"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the faults do not say %q: %v", want, err)
		}
	}
}

// A webhook id may be one of several tenants'. Then explain lists them, and tells of
// the one that is named.
func TestExplainAsksWhose(t *testing.T) {
	r := relaytest.Start(t)
	send := func(id string, args ...string) {
		t.Helper()
		must(t, nil, set(r, append([]string{"send", "--id", id, "--url", r.Receiver.URL, "{}"}, args...)...)...)
		r.Next()
		r.RequireDelivered(id)
	}
	send("alone", "--tenant=a")
	must(t, []string{"alone is delivered", "of tenant a"}, set(r, "explain", "alone")...)
	for _, tenant := range []string{"a", "b", "b", "o'brien & co", ""} {
		args := []string{"send", "--id", "same", "--url", r.Receiver.URL, "{}"}
		if tenant != "" {
			args = append(args, "--tenant", tenant)
		}
		must(t, nil, set(r, args...)...)
		r.Next()
	}
	r.RequireDelivered("same")
	for _, args := range [][]string{{"explain", "same"}, {"explain", "same", "--json"}} {
		mustRefuse(t, []string{
			`"same" is a webhook id of several tenants; say whose:`,
			"\n  --tenant='' ", "\n  --tenant=a ", "\n  --tenant=b ", "\n  --tenant='o'\\''brien & co' ", "  2 events, the newest of 20",
		}, set(r, args...)...)
	}
	for tenant, want := range map[string]int{"a": 1, "b": 2, "": 1, "o'brien & co": 1} {
		out := must(t, []string{"same is delivered"}, set(r, "explain", "same", "--tenant="+tenant)...)
		if strings.Count(out, "same is delivered") != want || tenant != "" && strings.Count(out, "of tenant "+tenant+"\n") != want ||
			tenant == "" && strings.Contains(out, "of tenant") {
			t.Errorf("%q:\n%s", tenant, out)
		}
	}
	must(t, []string{`"tenant": "a"`}, set(r, "explain", "same", "--tenant=a", "--json")...)
	if said := mustFail(t, set(r, "explain", "same", "--tenant=c%d")...); !strings.Contains(said, `knows no webhook "same" of tenant "c%d": not`) {
		t.Error(said)
	}
	if said := mustFail(t, set(r, "explain", "alone", "--tenant=")...); !strings.Contains(said, `knows no webhook "alone" that belongs to no tenant`) {
		t.Error(said)
	}
}

// mustFail runs a command that finds nothing, and returns what it says.
func mustFail(t *testing.T, args ...string) string {
	t.Helper()
	var said journal
	p := &program{stdin: strings.NewReader(""), stdout: &said, stderr: &said}
	if status := p.run(args, nil); status != exitFailed {
		t.Errorf("relay %s: status %d", strings.Join(args, " "), status)
	}
	return said.take()
}

// The commands about endpoints, lanes and letters ask whose as well.
func TestCommandsAskWhose(t *testing.T) {
	gone := relaytest.NewReceiver(t)
	gone.Always(relaytest.Status(http.StatusInternalServerError))
	r := relaytest.Start(t, relaytest.Options{
		Endpoints: []relay.Endpoint{{Name: "orders", Tenant: "a", URL: gone.URL}, {Name: "orders", Tenant: "b", URL: gone.URL}},
		Policy:    policy.Options{Circuit: policy.CircuitOptions{Failures: 1, Executions: 1, Delay: time.Hour}},
	})
	for _, tenant := range []string{"a", "b"} {
		for _, id := range []string{"dies_", "waits_"} {
			args := []string{"send", "--tenant", tenant, "--endpoint", "orders", "--id", id + tenant, "{}"}
			if id == "dies_" {
				args = append(args, "--max-attempts=1")
			}
			must(t, nil, set(r, args...)...)
			if id == "dies_" {
				r.RequireDead(id + tenant)
			}
		}
	}
	if !r.Eventually(func() bool { return strings.Count(must(t, nil, set(r, "lane", "list")...), "waiting") == 2 }) {
		t.Fatal("nothing is parked")
	}
	for _, command := range []string{"replay", "lane list", "lane drain", "lane bury", "lane expire", "endpoint get", "endpoint pause", "endpoint delete", "endpoint try"} {
		mustRefuse(t, []string{`"orders" is an endpoint of several tenants`, `tenant "a" (key `, `tenant "b" (key `},
			set(r, append(strings.Fields(command), "orders")...)...)
	}
	must(t, []string{`"tenant": "b"`}, set(r, "endpoint", "get", "orders", "--tenant=b")...)
	must(t, []string{"ENDPOINT", "  a       1 "}, set(r, "lane", "list", "orders", "--tenant=a")...)
	must(t, []string{"nothing is parked"}, set(r, "lane", "list", "--tenant=")...)
	if out := must(t, []string{"  b       1 "}, set(r, "lane", "list", "--tenant=b")...); strings.Count(out, "waiting") != 1 {
		t.Error(out)
	}
	must(t, []string{"done: buried 1\n"}, set(r, "lane", "bury", "orders", "--tenant=b")...)
	r.RequireDead("waits_b")
	gone.Always(relaytest.Status(http.StatusOK))
	must(t, []string{"draining 1 events; relay lane list orders --tenant=a shows"}, set(r, "lane", "drain", "orders", "--tenant=a")...)
	r.RequireDelivered("waits_a")
	must(t, []string{"done: replayed 0\n"}, set(r, "replay", "all", "--tenant=c")...)
	must(t, []string{"done: replayed 1\n"}, set(r, "replay", "all", "--tenant=a")...)
	r.RequireDelivered("dies_a")
	if w := r.RequireDead("dies_b"); w.Generation != 0 {
		t.Errorf("b's letter was replayed: %+v", w)
	}
}
