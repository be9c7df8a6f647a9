// Publisher publishes two webhooks from Go: one as an envelope, one raw.
//
//	go run ./examples/publisher http://127.0.0.1:8080/hook
//
// It finds NATS at NATS_URL, or at nats://127.0.0.1:4222, where relay dev
// listens. Nothing of relay is imported: any NATS client can do this.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: publisher <url of the receiver>")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "publisher:", err)
		os.Exit(1)
	}
}

func run(receiver string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server := os.Getenv("NATS_URL")
	if server == "" {
		server = nats.DefaultURL
	}
	conn, err := nats.Connect(server)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", server, err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	if err := publishEnvelope(ctx, js, receiver); err != nil {
		return fmt.Errorf("publish the envelope: %w", err)
	}
	if err := publishRaw(ctx, js, receiver); err != nil {
		return fmt.Errorf("publish the raw message: %w", err)
	}
	return nil
}

// publishEnvelope publishes one JSON object that says everything. Its payload
// becomes the HTTP body, byte for byte.
func publishEnvelope(ctx context.Context, js jetstream.JetStream, receiver string) error {
	envelope, err := json.Marshal(map[string]any{
		"url":          receiver,
		"id":           "order-17-paid",
		"event_type":   "order.paid",
		"payload":      map[string]any{"order": 17, "total": "12.50"},
		"metadata":     map[string]any{"customer": "c-42"},
		"max_attempts": 8,
	})
	if err != nil {
		return err
	}
	// A message id makes it safe to publish again when the answer got lost:
	// JetStream then says that it has this one already.
	ack, err := js.Publish(ctx, "webhooks.outbound", envelope, jetstream.WithMsgID("order-17-paid"))
	if err != nil {
		return err
	}
	// JetStream's acknowledgement is the promise: from here on the webhook is
	// delivered, or it stands among the dead letters with a reason.
	fmt.Printf("order-17-paid is message %d of %s\n", ack.Sequence, ack.Stream)
	return nil
}

// publishRaw publishes a message that is the HTTP body, whatever it is. Its
// headers say the rest.
func publishRaw(ctx context.Context, js jetstream.JetStream, receiver string) error {
	raw := nats.NewMsg("webhooks.outbound")
	raw.Header.Set("Relay-Url", receiver)
	raw.Header.Set("Relay-Id", "invoice-17")
	raw.Header.Set("Relay-Content-Type", "text/csv")
	raw.Data = []byte("order,total\n17,12.50\n")
	ack, err := js.PublishMsg(ctx, raw)
	if err != nil {
		return err
	}
	fmt.Printf("invoice-17 is message %d of %s\n", ack.Sequence, ack.Stream)
	return nil
}
