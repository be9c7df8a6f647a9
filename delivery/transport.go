package delivery

import (
	"net"
	"net/http"
	"sync"

	"github.com/relaywebhooks/relay"
)

// transport is what a Sender needs of an [http.Transport].
type transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// transports are two that share nothing, so that what an endpoint does with
// HTTP/2 touches only those that asked for it.
type transports struct{ http1, http2 transport }

func newTransports(o Options, d *dialer) transports {
	return transports{http1: newTransport(o, d), http2: newTransport2(o, d)}
}

func (t transports) offering(http2 bool) transport {
	if http2 {
		return t.http2
	}
	return t.http1
}

func (t transports) closeIdle() {
	t.http1.CloseIdleConnections()
	t.http2.CloseIdleConnections()
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

func newTransport2(o Options, d *dialer) *http.Transport {
	t := newTransport(o, d)
	t.Protocols.SetHTTP2(true)
	t.DialTLSContext = d.dialTLS("h2", "http/1.1")
	t.IdleConnTimeout = min(o.IdleTimeout, maxHTTP2Idle)
	return t
}

// shared is a TLS connection, over which several HTTP/2 exchanges may go at a
// time. After one of them has failed, or was answered with more than anybody
// reads, it is closed as soon as none is left, and so it is if much arrives while
// there is none: otherwise an endpoint could go on sending frames, which cost us
// more than they cost it, long after its exchange.
type shared struct {
	net.Conn
	asked  bool // for a client certificate, in the handshake
	mu     sync.Mutex
	broken *failure // what it means if the connection breaks before more than an alert is heard
	heard  int      // bytes since the handshake
	users  int
	served bool // there has been an exchange; what came before was the handshake
	idle   int  // bytes that came since the last one
	failed bool
}

// agreed is called when the handshake is over for relay. With TLS 1.3 the endpoint
// sees only now what it was shown, and its alert is easily lost with the
// connection.
func (c *shared) agreed(certified bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = 0
	switch {
	case c.asked && certified:
		c.broken = &failure{class: classTLS, text: "the endpoint wants a client certificate, and broke the connection off when it had seen relay's"}
	case c.asked:
		c.broken = &failure{class: classTLS, text: "the endpoint wants a client certificate, and broke the connection off without one: register it with one"}
	}
}

// maxAlert is more than an alert takes, and less than what an endpoint sends that
// goes on.
const maxAlert = 64

// refusal is what it means that the connection broke, if nothing was heard on it.
func (c *shared) refusal() *failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// maxIdleBytes is room for what may arrive between two exchanges: a PING now and
// then, new settings, a farewell.
const maxIdleBytes = 16 << 10

// Read counts what comes while nothing was asked for.
func (c *shared) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heard += n; c.heard > maxAlert {
		c.broken = nil // it goes on
	}
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
