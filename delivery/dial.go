package delivery

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/relaywebhooks/relay"
)

// dialer makes the connections. Every address that it calls, the guard has
// seen.
type dialer struct {
	guard       *guard
	proxy       *proxy     // nil where relay connects by itself
	remoteNames bool       // the proxy looks names up
	net         net.Dialer // copied for each call
	timeout     time.Duration
	tls         *tls.Config // copied for each call
}

// newDialer expects options that are valid.
func newDialer(o Options) *dialer {
	d := &dialer{
		guard:   newGuard(o),
		net:     net.Dialer{KeepAlive: 30 * time.Second, Resolver: o.Resolver},
		timeout: o.ConnectTimeout,
		tls: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            o.RootCAs,
			ClientSessionCache: tls.NewLRUClientSessionCache(1024),
		},
		remoteNames: o.ProxyResolves,
	}
	if p, err := newProxy(o); err == nil {
		d.proxy = p
	}
	return d
}

func newTransport(o Options, d *dialer) *http.Transport {
	t := &http.Transport{
		Protocols:              new(http.Protocols),
		DialContext:            d.dial,
		DialTLSContext:         d.dialTLS("http/1.1"),
		DisableCompression:     true,
		MaxIdleConns:           o.MaxIdleConns,
		MaxIdleConnsPerHost:    o.MaxIdleConnsPerHost,
		IdleConnTimeout:        o.IdleTimeout,
		MaxResponseHeaderBytes: relay.MaxResponseHeader,
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// newTransport2 is apart from the other, so that what an endpoint does with
// HTTP/2 touches only those that asked for it.
func newTransport2(o Options, d *dialer) *http.Transport {
	t := newTransport(o, d)
	t.Protocols.SetHTTP2(true)
	t.DialTLSContext = d.dialTLS("h2", "http/1.1")
	t.IdleConnTimeout = min(o.IdleTimeout, maxHTTP2Idle)
	return t
}

// dial connects to host and port within the timeout.
func (d *dialer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	return d.connect(ctx, address)
}

// dialTLS connects and shakes hands, both within the timeout.
func (d *dialer) dialTLS(protocols ...string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, d.timeout)
		defer cancel()
		conn, err := d.connect(ctx, address)
		if err != nil {
			return nil, err
		}
		config := d.tls.Clone()
		config.NextProtos = protocols
		host, _, _ := net.SplitHostPort(address)
		config.ServerName = strings.TrimSuffix(host, ".")
		secure := tls.Client(&shared{Conn: conn}, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, d.tlsFailure(host, err)
		}
		return secure, nil
	}
}

// connect tries the addresses of a host until one takes the connection. Those
// that the guard refuses are passed over; the host is refused if all of them
// are.
func (d *dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &failure{class: classRequest, text: "no host and port in the URL"}
	}
	if d.proxy != nil {
		return d.throughProxy(ctx, host, port)
	}
	var seen sightings
	n := d.net
	n.ControlContext = func(_ context.Context, network, address string, _ syscall.RawConn) error {
		return seen.note(d.guard.check(network, address))
	}
	conn, err := n.DialContext(ctx, "tcp", address)
	if err == nil {
		return conn, nil
	}
	if refusal := seen.refusal(); refusal != nil {
		return nil, &failure{class: classBlocked, text: host + ": " + refusal.Error()}
	}
	return nil, d.dialFailure(host, port, err)
}

// sightings is what the guard said about the addresses of one host. They are
// tried side by side, so it is locked.
type sightings struct {
	mu      sync.Mutex
	allowed bool
	refused error
}

func (s *sightings) note(refused error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowed = s.allowed || refused == nil
	s.refused = cmp.Or(s.refused, refused)
	return refused
}

// refusal is nil if there was an address that could have been called.
func (s *sightings) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.allowed {
		return nil
	}
	return s.refused
}

func (d *dialer) dialFailure(host, port string, err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case lookup.IsNotFound:
			return &failure{class: classDNS, text: host + ": no such host"}
		case lookup.IsTimeout:
			return &failure{class: classDNS, text: host + ": looking up the name timed out"}
		}
		return &failure{class: classDNS, text: host + ": looking up the name failed"}
	}
	to := net.JoinHostPort(host, port)
	if isTimeout(err) {
		return &failure{class: classTimeout, text: to + ": no connection within " + d.timeout.String()}
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return &failure{class: classConnect, text: to + ": " + number.Error()}
	}
	return &failure{class: classConnect, text: to + ": no connection"}
}

func (d *dialer) tlsFailure(host string, err error) *failure {
	if isTimeout(err) {
		return &failure{class: classTimeout, text: host + ": no TLS handshake within " + d.timeout.String()}
	}
	if isReset(err) {
		return &failure{class: classTLS, text: host + ": the connection broke during the TLS handshake"}
	}
	return &failure{class: classTLS, text: clean(host + ": " + tlsText(err))}
}

// shared is a TLS connection, over which several HTTP/2 exchanges may go at a
// time. After one of them has failed, or was answered with more than anybody
// reads, it is closed as soon as none is left, and so it is if much arrives while
// there is none: otherwise an endpoint could go on sending frames, which cost us
// more than they cost it, long after its exchange.
type shared struct {
	net.Conn
	mu     sync.Mutex
	users  int
	served bool // there has been an exchange; what came before was the handshake
	idle   int  // bytes that came since the last one
	failed bool
}

// maxIdleBytes is room for what may arrive between two exchanges: a PING now and
// then, new settings, a farewell.
const maxIdleBytes = 16 << 10

// Read counts what comes while nothing was asked for.
func (c *shared) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users > 0 || !c.served {
		return n, err
	}
	if c.idle += n; c.idle > maxIdleBytes {
		_ = c.Close()
	}
	return n, err
}

func (c *shared) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users++
	c.served, c.idle = true, 0
}

func (c *shared) leave(failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users--
	c.failed = c.failed || failed
	if c.failed && c.users == 0 {
		_ = c.Close()
	}
}
