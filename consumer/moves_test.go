package consumer_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/relaytest"
)

// limit changes the configuration of a stream.
func limit(t *testing.T, r *relaytest.Relay, name string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	stream, err := r.JS.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	change(&config)
	if _, err := r.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// requireRefusal waits until the one refusal that stands says all the texts.
func requireRefusal(t *testing.T, r *relaytest.Relay, texts ...string) {
	t.Helper()
	var refused []consumer.Refusal
	if !r.Eventually(func() bool { refused = r.Consumer.Stats().Refused; return len(refused) == 1 }) {
		t.Fatalf("refusals %v, want one", refused)
	}
	for _, text := range texts {
		if said := refused[0].Error(); !strings.Contains(said, text) {
			t.Errorf("no %q in %q", text, said)
		}
	}
}

func requireNoRefusal(t *testing.T, r *relaytest.Relay) {
	t.Helper()
	if !r.Eventually(func() bool { return len(r.Consumer.Stats().Refused) == 0 }) {
		t.Errorf("%v stands although it was mended", r.Consumer.Stats().Refused)
	}
}

// What cannot be buried, because its stream is full, is neither lost nor
// acknowledged; healthy events go by; and it is buried by itself when there is
// room.
func TestWhatCannotBeBuriedWaits(t *testing.T) {
	t.Parallel()
	for name, full := range map[string]struct {
		change, mend func(*jetstream.StreamConfig)
		text         string
	}{
		"for the number of letters": {
			func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 }, func(c *jetstream.StreamConfig) { c.MaxMsgs = -1 },
			"maximum messages exceeded",
		},
		"for their size": {
			func(c *jetstream.StreamConfig) { c.MaxBytes = 1 }, func(c *jetstream.StreamConfig) { c.MaxBytes = -1 },
			"maximum bytes exceeded",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := relaytest.Start(t)
			dying := relaytest.NewReceiver(t)
			dying.Always(relaytest.Status(http.StatusGone))
			r.RequireDead(r.Publish(map[string]any{"url": dying.URL}))
			limit(t, r, consumer.StreamDead, full.change)
			ids := make([]string, 5)
			for i := range ids {
				ids[i] = r.Publish(map[string]any{"url": dying.URL, "id": fmt.Sprint("dying_", i)})
			}
			requireRefusal(t, r, consumer.StreamDead+" has taken no dead letters since ", full.text, "raise the limits of the stream")
			for range 20 {
				r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
			}
			for _, id := range ids {
				r.RequireStatus(id, "dead")
			}
			requireStored(t, r, consumer.StreamQueue, len(ids))
			requireStored(t, r, consumer.StreamDead, 1)
			limit(t, r, consumer.StreamDead, full.mend)
			for _, id := range ids {
				r.RequireDead(id)
			}
			requireNoRefusal(t, r)
			requireEmpty(t, r)
			if n := len(dying.Requests()); n != len(ids)+1 {
				t.Errorf("%d requests for %d events: waiting for the burial made more", n, len(ids)+1)
			}
		})
	}
}

// More events than JetStream lets wait unacknowledged cannot be buried. They
// wait as schedules, and healthy events go by.
func TestWhatCannotBeBuriedLeavesRoomForOthers(t *testing.T) {
	t.Parallel()
	const most, blocked = 10, 30
	r := relaytest.Start(t, relaytest.Options{Consumer: consumer.Options{MaxAckPending: most, MaxSleep: time.Second}})
	durable, err := r.JS.Consumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue)
	if err != nil {
		t.Fatal(err)
	}
	config := durable.CachedInfo().Config
	config.MaxAckPending = most
	if _, err := r.JS.UpdateConsumer(t.Context(), consumer.StreamQueue, config); err != nil {
		t.Fatal(err)
	}
	limit(t, r, consumer.StreamDead, func(c *jetstream.StreamConfig) { c.MaxBytes = 1 })
	dying := relaytest.NewReceiver(t)
	dying.Always(relaytest.Status(http.StatusGone))
	for i := range blocked {
		r.Publish(map[string]any{"url": dying.URL, "id": fmt.Sprint("blocked_", i)})
	}
	requireRefusal(t, r)
	for range 20 {
		r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
	}
	limit(t, r, consumer.StreamDead, func(c *jetstream.StreamConfig) { c.MaxBytes = -1 })
	for i := range blocked {
		r.RequireDead(fmt.Sprint("blocked_", i))
	}
	requireNoRefusal(t, r)
	requireEmpty(t, r)
}

// An event that cannot be laid aside for later waits where it is.
func TestWhatCannotBeScheduledWaits(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	limit(t, r, consumer.StreamLater, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 })
	id := r.Publish(map[string]any{"url": r.Receiver.URL, "scheduled_at": time.Now().Add(time.Hour).Format(time.RFC3339)})
	requireRefusal(t, r, consumer.StreamLater+" has taken no waiting events since ", "message size exceeds maximum allowed")
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
	r.RequireStatus(id, "pending")
	requireStored(t, r, consumer.StreamQueue, 1)
	limit(t, r, consumer.StreamLater, func(c *jetstream.StreamConfig) { c.MaxMsgSize = -1 })
	if !r.Eventually(func() bool { return count(t, r, "webhooks.later.>") == 1 && stored(t, r, consumer.StreamQueue) == 0 }) {
		t.Error("it was not scheduled when there was room")
	}
	requireNoRefusal(t, r)
}

// A server that denies the subject says so to the connection only.
func TestADeniedBurialIsNamed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nats.conf")
	users := `authorization { users: [
		{ user: test, password: test }
		{ user: relay, password: relay, permissions { publish: { deny: ["webhooks.dead.>"] } } }
	] }
	no_auth_user: test
	`
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: t.TempDir(), Port: -1, ConfigFile: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	options := relaytest.Options{NATS: server, NATSURL: strings.Replace(server.ClientURL(), "nats://", "nats://relay:relay@", 1)}
	r := relaytest.Start(t, options)
	dying := relaytest.NewReceiver(t)
	dying.Always(relaytest.Status(http.StatusGone))
	id := r.Publish(map[string]any{"url": dying.URL})
	requireRefusal(t, r, consumer.StreamDead, "Permissions Violation for Publish", "let relay's user publish there")
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
	r.Stop()
	options.NATSURL, options.DatabaseURL = "", r.URL
	allowed := relaytest.Start(t, options)
	allowed.RequireDead(id)
	requireEmpty(t, allowed)
}
