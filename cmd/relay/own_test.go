package main

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/embedded"
)

// startNATS starts an embedded server and connects to it.
func startNATS(t *testing.T, o embedded.NATSOptions) (*embedded.NATS, *nats.Conn) {
	t.Helper()
	server, err := embedded.StartNATS(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	conn, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return server, conn
}

// listen counts the connections to a socket of this machine.
func listen(t *testing.T, address string) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Errorf("%s was called", address)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// spellings are ways to say this machine.
func spellings(t *testing.T) []string {
	t.Helper()
	hosts := []string{"127.0.0.1", "127.0.0.2", "localhost", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "127.1"}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			hosts = append(hosts, p.Addr().String())
		}
	}
	return hosts
}

// A35: whatever networks and ports are allowed, no webhook goes to the servers
// that relay stands on, nor to its own listeners, however this machine is
// spelled.
func TestOwnServersAreNeverCalled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte("port: -1\nhttp: \"127.0.0.1:-1\"\nwebsocket { host: 127.0.0.1, port: -1, no_tls: true }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server, conn := startNATS(t, embedded.NATSOptions{Dir: t.TempDir(), ConfigFile: file})
	admin, postgres, standby := listen(t, "0.0.0.0:0"), listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	pool, err := pgxpool.New(t.Context(), "postgres://relay@127.0.0.1:"+postgres+",localhost:"+standby+"/relay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)

	own := &ownServers{admin: ":" + admin, conn: conn, pool: pool, embedded: server}
	own.look(t.Context())
	ports := []string{admin, postgres, standby}
	for _, hostport := range server.Listeners() {
		_, port, _ := net.SplitHostPort(hostport)
		ports = append(ports, port)
	}
	if u, err := url.Parse(server.ClientURL()); err != nil || !slices.Contains(ports, u.Port()) || len(ports) != 6 {
		t.Fatalf("the ports are %v, of NATS %s", ports, server.ClientURL())
	}
	s, err := delivery.New(delivery.Options{Deny: own.list, AnyPort: true, Allow: []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.CloseIdle()
	for _, port := range ports {
		for _, host := range spellings(t) {
			a := s.Send(t.Context(), relay.Endpoint{}, relay.Webhook{ID: "a", URL: "http://" + host + ":" + port + "/"})
			if a.Kind != relay.Blocked && a.Class != "dns" {
				t.Errorf("%s:%s: %s %s %s", host, port, a.Kind, a.Class, a.Err)
			}
		}
	}
	// Another port of the same machine may be called.
	receiver := &http.Server{Handler: http.NotFoundHandler()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = receiver.Serve(l) }()
	defer receiver.Close()
	a := s.Send(t.Context(), relay.Endpoint{}, relay.Webhook{ID: "a", URL: "http://" + l.Addr().String() + "/"})
	if a.Status != http.StatusNotFound {
		t.Errorf("another port: %s %s", a.Class, a.Err)
	}
}

// What is known of a server stays known while its name cannot be looked up.
func TestOwnServersAreNotForgotten(t *testing.T) {
	ctx := t.Context()
	if got := resolve(ctx, "/var/run/postgresql:5432"); got != nil {
		t.Errorf("a Unix socket is at %v", got)
	}
	if got := resolve(ctx, "127.0.0.1:0"); got != nil {
		t.Errorf("port 0 is at %v", got)
	}
	if got := resolve(ctx, "192.0.2.7:5432"); !slices.Equal(got, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:5432")}) {
		t.Errorf("another machine is at %v", got)
	}
	_, conn := startNATS(t, embedded.NATSOptions{Dir: t.TempDir(), Port: -1})
	pool, err := pgxpool.New(ctx, "postgres://relay@db.invalid:5432/relay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	before := netip.MustParseAddrPort("10.0.0.7:5432")
	own := &ownServers{admin: "127.0.0.1:1", conn: conn, pool: pool, found: map[string][]netip.AddrPort{"db.invalid:5432": {before}}}
	own.look(ctx)
	if !slices.Contains(own.list(), before) {
		t.Errorf("the database's address was forgotten: %v", own.list())
	}
}
