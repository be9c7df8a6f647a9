package nats_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
)

// TestBothFilesKeepWhatRelayPromises: nothing confirmed is lost, and the largest
// webhook can be copied.
func TestBothFilesKeepWhatRelayPromises(t *testing.T) {
	setPasswords(t)
	t.Setenv("NATS_SERVER_NAME", "nats-1")
	for _, file := range []string{"nats-server.conf", filepath.Join(clusterFiles(t), "cluster.conf")} {
		o, err := server.ProcessConfigFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !o.SyncAlways || o.MaxPayload != relay.MaxBody+64<<10 || o.JetStreamMaxStore <= 0 || o.StoreDir == "" {
			t.Errorf("%s: sync always %v, max_payload %d, max_file_store %d, store_dir %q",
				file, o.SyncAlways, o.MaxPayload, o.JetStreamMaxStore, o.StoreDir)
		}
		if o.NoAuthUser != "" || o.Host != "127.0.0.1" && o.TLSConfig == nil {
			t.Errorf("%s: open to strangers on %s", file, o.Host)
		}
		if o.HTTPHost != "127.0.0.1" {
			t.Errorf("%s: statistics for everyone on %s", file, o.HTTPHost)
		}
	}
}

// TestMissingPasswordStopsTheServer: there is no server without a password that
// somebody forgot to set.
func TestMissingPasswordStopsTheServer(t *testing.T) {
	for _, user := range []string{relayUser, provisioner, producer, operator} {
		setPasswords(t)
		if err := os.Unsetenv(passwordVariable(user)); err != nil {
			t.Fatal(err)
		}
		if _, err := server.ProcessConfigFile("nats-server.conf"); err == nil {
			t.Errorf("the configuration works without %s", passwordVariable(user))
		}
	}
}

func TestLargestWebhookIsStored(t *testing.T) {
	s := startServer(t)
	setUp(t, s, consumer.StreamOptions{})
	p := connect(t, s, producer)
	if _, err := p.js.Publish(t.Context(), "webhooks.outbound", make([]byte, relay.MaxBody-1<<10)); err != nil {
		t.Errorf("just below the limit: %v", err)
	}
	_, err := p.js.Publish(t.Context(), "webhooks.outbound", make([]byte, relay.MaxBody+1))
	if refused, ok := errors.AsType[*jetstream.APIError](err); !ok || refused.ErrorCode != 10054 {
		t.Errorf("beyond the limit: %v, want that the message is too large", err)
	}
}

// TestEveryFileIsHeld: no JSON file is left over from a stream that is gone.
func TestEveryFileIsHeld(t *testing.T) {
	streams, consumers, _ := files()
	names, err := filepath.Glob("*.json")
	if err != nil {
		t.Fatal(err)
	}
	if left := slices.DeleteFunc(names, func(name string) bool { return streams[name] != nil || consumers[name] != nil }); len(left) > 0 {
		t.Errorf("the code knows nothing of %v", left)
	}
}
