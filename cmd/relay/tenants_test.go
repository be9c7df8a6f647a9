package main

import (
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay/policy"
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
