// Package nats_test runs what this folder ships: it starts real servers from
// nats-server.conf and cluster.conf, and lets each user do its work and try what
// is not its work; and it holds the JSON files equal to the code.
package nats_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
)

// The users of accounts.conf, and one more that the tests add to the account
// RELAY: it may do everything, and looks what the others have done.
const (
	relayUser   = "relay"
	provisioner = "provisioner"
	producer    = "producer"
	operator    = "operator"
	onlooker    = "onlooker"
)

// patience bounds every wait for something that ought to happen.
const patience = 10 * time.Second

// setPasswords gives each user a password of its own, in the environment.
func setPasswords(t testing.TB) {
	t.Helper()
	for _, user := range []string{relayUser, provisioner, producer, operator} {
		t.Setenv(passwordVariable(user), password(user))
	}
}

func passwordVariable(user string) string { return "NATS_" + strings.ToUpper(user) + "_PASSWORD" }

// password is the same for a user of every partition.
func password(user string) string {
	user, _, _ = strings.Cut(user, "_")
	return "secret-of-" + user
}

// startServer starts the server of nats-server.conf on a free port and a
// directory of its own.
func startServer(t *testing.T) *server.Server {
	t.Helper()
	setPasswords(t)
	o, err := server.ProcessConfigFile("nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	o.Port, o.HTTPPort, o.StoreDir = server.RANDOM_PORT, 0, t.TempDir()
	return start(t, o)
}

func start(t testing.TB, o *server.Options) *server.Server {
	t.Helper()
	s := launch(t, o)
	ready(t, s)
	return s
}

// launch starts a server that may have to find others before it is ready.
func launch(t testing.TB, o *server.Options) *server.Server {
	t.Helper()
	o.NoSigs, o.NoLog = true, true
	addOnlooker(t, o)
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

func ready(t testing.TB, s *server.Server) {
	t.Helper()
	if !s.ReadyForConnections(time.Minute) { // three at once on a busy machine
		t.Fatalf("server %s is not ready", s.Name())
	}
}

func addOnlooker(t testing.TB, o *server.Options) {
	t.Helper()
	before := len(o.Users)
	for _, u := range o.Users {
		if partition, is := strings.CutPrefix(u.Username, relayUser); is {
			o.Users = append(o.Users, &server.User{Username: onlooker + partition, Password: password(onlooker), Account: u.Account})
		}
	}
	if len(o.Users) == before {
		t.Fatal("the configuration has no user relay")
	}
}

// client is a user's connection, which remembers what the server refused.
type client struct {
	*nats.Conn
	js jetstream.JetStream

	mu      sync.Mutex
	refused []string
}

func connect(t testing.TB, s *server.Server, user string, options ...nats.Option) *client {
	t.Helper()
	c := &client{}
	options = append(options,
		nats.UserInfo(user, password(user)), nats.CustomInboxPrefix("_INBOX_"+user), nats.Name(t.Name()+" "+user),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.refused = append(c.refused, err.Error())
		}))
	var err error
	if c.Conn, err = nats.Connect(s.ClientURL(), options...); err != nil {
		t.Fatalf("connect as %s: %v", user, err)
	}
	t.Cleanup(c.Close)
	if c.js, err = jetstream.New(c.Conn); err != nil {
		t.Fatal(err)
	}
	return c
}

// refusals returns what the server has refused so far.
func (c *client) refusals(t testing.TB) []string {
	t.Helper()
	flush(t, c) // what was refused before the answer to this is known after it
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

// wasRefused reports whether the last thing that the client did was refused.
// Unlike the error handler, LastError is set before the answer to a flush.
func (c *client) wasRefused(t *testing.T, subject string) bool {
	t.Helper()
	flush(t, c)
	err := c.LastError()
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), fmt.Sprintf("%q", subject))
}

func flush(t testing.TB, c *client) {
	t.Helper()
	if err := c.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
}

// setUp makes the streams and consumers, as relay init does.
func setUp(t *testing.T, s *server.Server, o consumer.StreamOptions) {
	t.Helper()
	setUpAs(t, s, provisioner, o)
}

func setUpAs(t testing.TB, s *server.Server, user string, o consumer.StreamOptions) {
	t.Helper()
	c := connect(t, s, user)
	defer c.Close()
	if _, err := consumer.Setup(t.Context(), c.js, o); err != nil {
		t.Fatal(err)
	}
	if refused := c.refusals(t); len(refused) > 0 {
		t.Errorf("the provisioner was refused:\n%s", strings.Join(refused, "\n"))
	}
}

// eventually waits until ok holds. Each look has a few seconds.
func eventually(t *testing.T, what string, ok func(context.Context) bool) {
	t.Helper()
	once := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		return ok(ctx)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2 * patience); !once(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}
