package consumer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
)

// idle stands for collaborators that nothing is asked of.
type idle struct {
	Log
	Policy
	Sender
	Endpoints
}

func (idle) Ready(context.Context) error { return nil }

func (idle) Overdue(context.Context, time.Duration, relay.Webhook, int) ([]relay.Webhook, error) {
	return nil, nil
}

// A process that starts while JetStream does not answer waits for it: a cluster
// may be electing, or a disk was full. (Fault campaign, seed 300.)
func TestAStartWaitsForJetStream(t *testing.T) {
	s, err := server.NewServer(&server.Options{JetStream: true, StoreDir: t.TempDir(), Port: -1, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server did not start")
	}
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	c, err := New(Options{
		Conn: conn, Log: idle{}, Calendar: idle{}, Policy: idle{}, Sender: idle{}, Endpoints: idle{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "run relay init") {
		t.Fatalf("without streams it ended with %v", err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Setup(t.Context(), js, StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	config := s.JetStreamConfig()
	if err := s.DisableJetStream(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	select {
	case err := <-ended:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(settleTimeout + time.Second): // longer than one question
	}
	config.StoreDir = strings.TrimSuffix(config.StoreDir, "/jetstream")
	if err := s.EnableJetStream(config); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended although JetStream answers: %v", err)
	case <-c.Ready():
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestOnlyALastingRefusalEndsAStart(t *testing.T) {
	s, err := server.NewServer(&server.Options{Port: -1, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	c := &Consumer{Options: Options{Conn: conn}}
	for _, tc := range []struct {
		err   error
		final bool
	}{
		{context.DeadlineExceeded, false},
		{nats.ErrNoResponders, false},
		{&jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "JetStream system temporarily unavailable"}, false},
		{jetstream.ErrJetStreamNotEnabled, false}, // as after a full disk
		{jetstream.ErrStreamNotFound, true},
		{jetstream.ErrConsumerNotFound, true},
		{jetstream.ErrJetStreamNotEnabledForAccount, true},
	} {
		if got := c.refusedForGood(missingStream(StreamQueue, DurableQueue, tc.err)); got != tc.final {
			t.Errorf("%v: final %v, want %v", tc.err, got, tc.final)
		}
	}
}
