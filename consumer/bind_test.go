package consumer_test

import (
	"testing"
	"time"

	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// The queue's stream is made anew under a relay that works, which knows that its
// database has the same owner as before; so relays that are started later work
// as well. No relay would on a stream that was made at another time.
func TestAStreamMadeAnewTakesThePlaceOfTheOneBefore(t *testing.T) {
	r := relaytest.Start(t)
	made := func() (at time.Time) {
		if err := r.DB.QueryRow(t.Context(), "SELECT created_at FROM relay.stream").Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	first := made()
	if err := r.JS.DeleteStream(t.Context(), consumer.StreamQueue); err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Setup(t.Context(), r.JS, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	if !r.Eventually(func() bool { return made().After(first) }) {
		t.Fatalf("the database still belongs to the stream of %s", first)
	}
	r.Stop()
	again := relaytest.Start(t, relaytest.Options{NATS: r.NATS, DatabaseURL: r.URL})
	again.RequireDelivered(again.Publish(map[string]any{"url": again.Receiver.URL}))
	if err := audit.New(r.DB, audit.Options{}).Bind(t.Context(), time.Time{}, first); err == nil {
		t.Error("the stream that is gone may have the database as well")
	}
}
