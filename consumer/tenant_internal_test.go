package consumer

import (
	"strings"
	"testing"
)

func TestTenantSubject(t *testing.T) {
	for tenant, want := range map[string]string{
		"acme":                   "webhooks.outbound.tenant.acme",
		"株式会社":                   "webhooks.outbound.tenant.株式会社",
		strings.Repeat("x", 256): "webhooks.outbound.tenant." + strings.Repeat("x", 256),
		strings.Repeat("x", 257): "",
		"":                       "",
		"a.b":                    "",
		"a b":                    "",
		"*":                      "",
		"a>":                     "",
		"a\xff":                  "",
		"a\x00":                  "",
		"a\u00a0b":               "webhooks.outbound.tenant.a\u00a0b",
	} {
		if got := TenantSubject(tenant); got != want {
			t.Errorf("%q publishes on %q, want %q", tenant, got, want)
		}
		if got, err := tenantBySubject(want + ".orders"); want != "" && (got != tenant || err != nil) {
			t.Errorf("%s.orders is of %q, %v", want, got, err)
		}
	}
}
