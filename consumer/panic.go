package consumer

import (
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
)

// survive keeps a panic over one message from taking down the process and all
// that is in its hands. The message is left: it comes again after AckWait, and
// an event whose claim was left over relay.MaxUnrecorded times is poison.
func (c *Consumer) survive(m jetstream.Msg) {
	if p := recover(); p != nil {
		c.log.Error().Interface("panic", p).Str("subject", m.Subject()).Bytes("stack", debug.Stack()).
			Msg("panic over one message; it will be delivered again")
	}
}

// unreadable is all that is certain about a message that cannot even be looked
// at.
func unreadable(m meta, expiresAfter time.Duration) relay.Webhook {
	w := relay.Webhook{
		Key: m.key, Generation: m.generation, EndpointKey: relay.InvalidEndpoint,
		ID: m.id, ExpiresAt: later(m.key.Time, m.replayed).Add(expiresAfter),
	}
	w.Tenant, _ = tenantBySubject(m.subject) // its fault is not worth another one
	if w.ID == "" {
		w.ID = "evt_" + m.key.String()
	}
	return w
}
