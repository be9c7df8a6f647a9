package consumer

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/relaywebhooks/relay"
)

// SubjectTenant and a tenant make a subject that is the tenant's alone: what is
// published there, or below, belongs to that tenant whatever it says. So NATS
// permissions bind a producer to a tenant.
const SubjectTenant = SubjectOutbound + ".tenant."

// tenantBySubject returns the tenant that a subject belongs to; "" if it belongs
// to none, where the message alone says whose it is.
func tenantBySubject(subject string) (string, error) {
	if subject+"." == SubjectTenant {
		return "", fmt.Errorf("subject: %s names no tenant: publish to %s<tenant>", subject, SubjectTenant)
	}
	below, ok := strings.CutPrefix(subject, SubjectTenant)
	if !ok {
		return "", nil
	}
	tenant, _, _ := strings.Cut(below, ".")
	switch {
	case len(tenant) > relay.MaxName:
		return "", fmt.Errorf("subject: its tenant has %d bytes, more than %d", len(tenant), relay.MaxName)
	case hasControl(tenant) || strings.ContainsRune(tenant, utf8.RuneError):
		return "", errors.New("subject: its tenant has control characters or invalid UTF-8")
	}
	return tenant, nil
}

// TenantSubject returns the subject on which a tenant publishes; "" if its name is
// no word of a subject, because of a dot, a space or a wildcard. Such a tenant
// can be named in a message only, which binds no producer.
func TenantSubject(tenant string) string {
	if tenant == "" || strings.ContainsAny(tenant, ".*> \t\r\n\f\v") || len(tenant) > relay.MaxName {
		return ""
	}
	if found, err := tenantBySubject(SubjectTenant + tenant); err != nil || found != tenant {
		return ""
	}
	return SubjectTenant + tenant
}

// tenant holds what the message says about its tenant against its subject, which
// decides.
func (r *reading) tenant(m meta) {
	owner, err := tenantBySubject(m.subject)
	switch {
	case err != nil:
		r.faults = append(r.faults, err)
		r.w.Tenant = ""
		return
	case owner == "":
		return
	case r.w.Tenant != "" && r.w.Tenant != owner:
		r.fault("tenant", "the subject says %s, the message says %s", clip(owner), clip(r.w.Tenant))
	}
	r.w.Tenant = owner
}

// errNoTenant is the fault of a message without a tenant, where one is needed.
var errNoTenant = errors.New("tenant: missing: publish to " + SubjectTenant + "<tenant>, or name one in the message")

// owned refuses what belongs to no tenant, if Options.TenantRequired says so. What
// relay copied was let in before.
func (c *Consumer) owned(m message, w relay.Webhook) error {
	if c.TenantRequired && w.Tenant == "" && !m.copied {
		return errNoTenant
	}
	return nil
}
