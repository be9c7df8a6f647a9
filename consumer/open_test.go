package consumer_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// natsServer is a NATS server that is replaced by one with or without JetStream,
// on the same address and store.
type natsServer struct {
	*server.Server
	t    *testing.T
	dir  string
	port int
}

func startServer(t *testing.T) *natsServer {
	t.Helper()
	s := &natsServer{t: t, dir: t.TempDir(), port: -1}
	s.start(true)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *natsServer) start(jetStream bool) {
	s.t.Helper()
	var err error
	s.Server, err = server.NewServer(&server.Options{
		JetStream: jetStream, StoreDir: s.dir, Host: "127.0.0.1", Port: s.port, NoSigs: true, MaxPayload: 2 << 20,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(relaytest.Patience) {
		s.t.Fatal("the server did not start")
	}
	if at, ok := s.Addr().(*net.TCPAddr); ok {
		s.port = at.Port
	}
}

func (s *natsServer) stop() { s.Shutdown(); s.WaitForShutdown() }

func (s *natsServer) replace(jetStream bool) {
	s.t.Helper()
	s.stop()
	s.start(jetStream)
}

// client is a connection that finds every one of the servers.
func (s *natsServer) client() (*nats.Conn, jetstream.JetStream) {
	s.t.Helper()
	conn, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return conn, js
}

// idle stands for collaborators that nothing is asked of.
type idle struct {
	consumer.Log
	consumer.Policy
	consumer.Sender
	consumer.Endpoints
}

func (idle) Ready(context.Context) error { return nil }

func (idle) Overdue(context.Context, time.Duration, relay.Webhook, int) ([]relay.Webhook, error) {
	return nil, nil
}

func (idle) Failing(context.Context, time.Duration) ([]relay.Failing, error) { return nil, nil }

// A process that starts while JetStream does not answer waits for it: a cluster
// may be electing, or a disk was full. (Fault campaign, seed 300.)
func TestAStartWaitsForJetStream(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	conn, js := s.client()
	c, err := consumer.New(consumer.Options{
		Conn: conn, Log: idle{}, Calendar: idle{}, Policy: idle{}, Sender: idle{}, Endpoints: idle{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "run relay init") {
		t.Fatalf("without streams it ended with %v", err)
	}
	if _, err := consumer.Setup(t.Context(), js, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	s.replace(false)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	select {
	case err := <-ended:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(6 * time.Second): // longer than one question
	}
	s.replace(true)
	select {
	case err := <-ended:
		t.Fatalf("it ended although JetStream answers: %v", err)
	case <-c.Ready():
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
