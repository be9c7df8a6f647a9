package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// N17: a relay whose password is taken away under it says so and waits, without an
// end and without a restart. Once it may sign in again, it goes on.
func TestRevokedCredentials(t *testing.T) {
	t.Parallel()
	users := func(password string) []byte {
		return fmt.Appendf(nil, "http: \"127.0.0.1:-1\", authorization { users: [{ user: relay, password: %s }, { user: producer, password: producer }] }", password)
	}
	o := embedded.NATSOptions{ConfigFile: file(t, string(users("first"))), Dir: t.TempDir(), Port: -1}
	server, err := embedded.StartNATS(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { server.Shutdown() }()
	address, err := url.Parse(server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	if o.Port, err = strconv.Atoi(address.Port()); err != nil {
		t.Fatal(err)
	}
	restart := func(password string) {
		t.Helper()
		server.Shutdown()
		if err := os.WriteFile(o.ConfigFile, users(password), 0o600); err != nil {
			t.Fatal(err)
		}
		if server, err = embedded.StartNATS(o); err != nil {
			t.Fatal(err)
		}
	}
	r := relaytest.Observe(t, withUser(t, server.ClientURL(), "producer", "producer"), testdb.New(t), consumer.StreamOptions{})

	l := mustLoad(t, sources{set: []string{
		"nats.url=" + server.ClientURL(), "nats.user=relay", "nats.password=first", "postgres.url=" + r.URL,
		"admin.address=127.0.0.1:0", "delivery.allow=127.0.0.0/8", "signing.secrets=" + string(relaytest.Secret),
	}})
	l.anyPort = true
	s := &servers{log: zerolog.Nop()}
	defer s.close()
	if err := s.open(t.Context(), l.Config); err != nil {
		t.Fatal(err)
	}
	made, err := newApp(t.Context(), l, s)
	if err != nil {
		t.Fatal(err)
	}
	a := running{made, t}
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	requireReady(t, r, a)
	restart("second")
	requireCheck(t, r, a, "nats", "Authorization Violation")
	before := connections(t, server)
	if !r.Eventually(func() bool { return connections(t, server) > before+5 }) {
		t.Fatal("relay does not ask again and again whether it may sign in")
	}
	select {
	case err := <-ended:
		t.Fatalf("relay ended: %v", err)
	default:
	}
	restart("first")
	requireReady(t, r, a)
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
}

// connections is how many clients have come to a server so far, those included that
// it refused.
func connections(t *testing.T, server *embedded.NATS) (n int) {
	t.Helper()
	for _, address := range server.Listeners() {
		if strings.HasSuffix(server.ClientURL(), address) {
			continue // to ask there would be one more
		}
		answer, err := http.Get("http://" + address + "/varz")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var found struct {
			Total int `json:"total_connections"`
		}
		if err := json.NewDecoder(answer.Body).Decode(&found); err != nil {
			t.Fatal(err)
		}
		return found.Total
	}
	t.Fatal("no listener tells how many connections there were")
	return 0
}
