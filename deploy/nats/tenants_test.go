package nats_test

import (
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
)

// TestAProducerIsBoundToItsTenant: a copy of the user producer, with the rights
// that README.md gives the producer of a tenant, publishes for that tenant alone.
func TestAProducerIsBoundToItsTenant(t *testing.T) {
	setPasswords(t)
	o, err := server.ProcessConfigFile("nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	o.Port, o.HTTPPort, o.StoreDir = server.RANDOM_PORT, 0, t.TempDir()
	i := slices.IndexFunc(o.Users, func(u *server.User) bool { return u.Username == producer })
	o.Users = append(o.Users, &server.User{
		Username: "acme", Password: password("acme"), Account: o.Users[i].Account,
		Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"webhooks.outbound.tenant.acme", "webhooks.outbound.tenant.acme.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_acme.>"}},
		},
	})
	s := start(t, o)
	setUp(t, s, consumer.StreamOptions{})
	c := connect(t, s, "acme")
	for _, subject := range []string{"webhooks.outbound.tenant.acme", "webhooks.outbound.tenant.acme.orders"} {
		if ack, err := c.js.Publish(t.Context(), subject, []byte("{}"), jetstream.WithMsgID(subject)); err != nil || ack.Stream != consumer.StreamQueue {
			t.Errorf("publish to %s: %+v, %v", subject, ack, err)
		}
	}
	refusesPublish(t, c, []string{
		"webhooks.outbound", "webhooks.outbound.orders", "webhooks.outbound.tenant", "webhooks.outbound.tenant.b",
		"webhooks.outbound.tenant.b.acme", "webhooks.outbound.tenant.acme2", "webhooks.outbound.acme", "webhooks.due.key",
	})
	refusesSubscribe(t, c, except(others, "_INBOX_acme"))
}

// TestARegistrarMovesNoSecrets: a copy of the user operator, with the rights that
// README.md gives a program which registers endpoints.
func TestARegistrarMovesNoSecrets(t *testing.T) {
	setPasswords(t)
	o, err := server.ProcessConfigFile("nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	o.Port, o.HTTPPort, o.StoreDir = server.RANDOM_PORT, 0, t.TempDir()
	i := slices.IndexFunc(o.Users, func(u *server.User) bool { return u.Username == operator })
	o.Users = append(o.Users, &server.User{
		Username: "registrar", Password: password("registrar"), Account: o.Users[i].Account,
		Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"relay.endpoints.*"}, Deny: []string{"relay.endpoints.move"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_registrar.>"}},
		},
	})
	s := start(t, o)
	c := connect(t, s, "registrar")
	for _, verb := range []string{"put", "get", "list", "try"} {
		if err := c.PublishRequest("relay.endpoints."+verb, c.NewInbox(), []byte("{}")); err != nil || c.wasRefused(t, "relay.endpoints."+verb) {
			t.Errorf("may not ask relay.endpoints.%s: %v", verb, err)
		}
	}
	refusesPublish(t, c, []string{"relay.endpoints.move", "relay.dead.replay", "relay.lanes.bury", "webhooks.outbound"})
	refusesSubscribe(t, c, except(others, "_INBOX_registrar"))
}
