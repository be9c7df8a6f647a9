package consumer

import (
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

// What names no expires_at has its whole time from when it could first be sent, and
// no end while its endpoint is held.
func TestExpiryCountsFromTheLastMomentThatMatters(t *testing.T) {
	const after = 72 * time.Hour
	accepted := acceptedAt
	at := func(hours int) time.Time { return accepted.Add(time.Duration(hours) * time.Hour) }
	for name, c := range map[string]struct {
		meta     meta
		webhook  relay.Webhook
		endpoint relay.Endpoint
		want     time.Time
	}{
		"accepted":                          {want: at(72)},
		"scheduled":                         {webhook: relay.Webhook{ScheduledAt: at(2)}, want: at(74)},
		"replayed":                          {meta: meta{replayed: at(50)}, want: at(122)},
		"released before":                   {endpoint: relay.Endpoint{Released: at(-1)}, want: at(72)},
		"released after":                    {endpoint: relay.Endpoint{Released: at(100)}, want: at(172)},
		"released after it was scheduled":   {webhook: relay.Webhook{ScheduledAt: at(2)}, endpoint: relay.Endpoint{Released: at(3)}, want: at(75)},
		"scheduled after it was released":   {webhook: relay.Webhook{ScheduledAt: at(4)}, endpoint: relay.Endpoint{Released: at(3)}, want: at(76)},
		"held":                              {endpoint: relay.Endpoint{Held: "paused: x", Released: at(3)}},
		"held, and its producer said when":  {webhook: relay.Webhook{ExpiresAt: at(1)}, endpoint: relay.Endpoint{Held: "paused: x"}, want: at(1)},
		"released after its producer's end": {webhook: relay.Webhook{ExpiresAt: at(1)}, endpoint: relay.Endpoint{Released: at(3)}, want: at(1)},
	} {
		c.webhook.Key = relay.NewKey(accepted, 1)
		if got := expiry(c.meta, c.webhook, c.endpoint, after); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	now := at(0)
	for expires, want := range map[time.Time]bool{{}: false, now: true, now.Add(1): false, now.Add(-1): true} {
		if expired(relay.Webhook{ExpiresAt: expires}, now) != want {
			t.Errorf("expires %v: want %t", expires, want)
		}
	}
}
