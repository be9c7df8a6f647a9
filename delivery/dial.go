package delivery

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// dialer makes the connections. Every address that it calls, the guard has
// seen.
type dialer struct {
	guard       *guard
	proxy       *proxy     // nil where relay connects by itself
	remoteNames bool       // the proxy looks names up
	net         net.Dialer // copied for each call
	timeout     time.Duration
	tls         *tls.Config      // copied for each call
	certificate *tls.Certificate // relay's own, or nil
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
		plain := &shared{Conn: conn}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			plain.asked = true
			return cmp.Or(d.certificate, &tls.Certificate{}), nil
		}
		secure := tls.Client(plain, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, d.tlsFailure(host, err, plain.asked)
		}
		plain.agreed(d.certificate != nil)
		if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
			x.dialled.Store(plain)
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

func (d *dialer) tlsFailure(host string, err error, asked bool) *failure {
	if isTimeout(err) {
		return &failure{class: classTimeout, text: host + ": no TLS handshake within " + d.timeout.String()}
	}
	if isReset(err) {
		return &failure{class: classTLS, text: host + ": the connection broke during the TLS handshake"}
	}
	return &failure{class: classTLS, text: clean(host + ": " + tlsText(err, asked, d.certificate != nil))}
}
