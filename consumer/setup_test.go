package consumer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// What differs is named, setting by setting; what relay does not care for stays
// as the operator set it.
func TestCompareSaysWhatDiffers(t *testing.T) {
	t.Parallel()
	conn, err := relaytest.StartNATS(t).Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Setup(t.Context(), js, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	dead, err := js.Stream(t.Context(), consumer.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	config := dead.CachedInfo().Config
	config.MaxAge, config.MaxBytes = time.Hour, 1<<30
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	found, err := consumer.Compare(t.Context(), js, consumer.StreamOptions{AckWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		consumer.StreamQueue: "", consumer.StreamQueue + "/" + consumer.DurableQueue: "ack_wait is 45s, want 1m0s",
		consumer.StreamLater: "", consumer.StreamLater + "/" + consumer.DurableDue: "ack_wait is 45s, want 1m0s",
		consumer.StreamDead: "max_age is 1h0m0s, want 720h0m0s",
	}
	for _, c := range found {
		if got := strings.Join(c.Differs, "; "); got != want[c.Name] || (c.Done == "different") != (got != "") {
			t.Errorf("%s is %s: %q, want %q", c.Name, c.Done, got, want[c.Name])
		}
	}
	if _, err := consumer.Setup(t.Context(), js, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	again, err := js.Stream(t.Context(), consumer.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	if c := again.CachedInfo().Config; c.MaxAge != 30*24*time.Hour || c.MaxBytes != 1<<30 {
		t.Errorf("updated to max_age %v and max_bytes %d", c.MaxAge, c.MaxBytes)
	}
}
