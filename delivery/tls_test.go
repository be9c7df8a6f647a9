package delivery

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

// authority signs certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	a.cert = a.sign(t, a.cert, a.cert, &key.PublicKey)
	return a
}

func (a *authority) sign(t testing.TB, c, parent *x509.Certificate, public *ecdsa.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue makes a certificate for loopback, or what edit makes of it.
func (a *authority) issue(t testing.TB, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "receiver"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if edit != nil {
		edit(c)
	}
	return tls.Certificate{Certificate: [][]byte{a.sign(t, c, a.cert, &key.PublicKey).Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func roots(s *httptest.Server) *x509.CertPool {
	p := x509.NewCertPool()
	if c := s.Certificate(); c != nil {
		p.AddCert(c)
	}
	return p
}

// quietServer answers 200 and does nothing else.
func quietServer(t testing.TB, secure bool) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// silenced keeps failed handshakes out of the test's output.
func silenced(s *httptest.Server) {
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
}

func TestTLSFailures(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	cases := []struct {
		name   string
		config *tls.Config
		want   string // in the text
	}{
		{"T1 self-signed", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{theirs.cert.Raw}, PrivateKey: theirs.key}}}, "certificate"},
		{"T2 expired", &tls.Config{Certificates: []tls.Certificate{ours.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })}}, "expired"},
		{"T3 wrong host", &tls.Config{Certificates: []tls.Certificate{ours.issue(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"example.com"} })}}, "127.0.0.1"},
		{"T4 unknown authority", &tls.Config{Certificates: []tls.Certificate{theirs.issue(t, nil)}}, "unknown authority"},
		{"T5 TLS 1.1 at most", &tls.Config{
			Certificates: []tls.Certificate{ours.issue(t, nil)},
			MinVersion:   tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
		}, "protocol version"},
		{"client certificate wanted", &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}, ClientAuth: tls.RequireAnyClientCert}, "certificate"},
		{"T9 huge chain", &tls.Config{Certificates: []tls.Certificate{hugeChain(t, ours)}}, ""},
	}
	for _, c := range cases {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP2 %v", c.name, http2), func(t *testing.T) {
				r := unstartedReceiver(t, func(http.ResponseWriter, *http.Request) { t.Error("a request came") })
				r.TLS = c.config
				silenced(r.Server)
				r.StartTLS()
				s := newSender(t, func(o *Options) { o.RootCAs = ours.pool() })
				a := s.Send(t.Context(), relay.Endpoint{HTTP2: http2}, webhookTo(r.URL+"/?s3cret"))
				wantFailure(t, a, relay.Error, "tls")
				if !strings.Contains(a.Err, c.want) || strings.Contains(a.Err, "s3cret") || a.Unanswered {
					t.Error(show(a))
				}
			})
		}
	}
}

// hugeChain is a chain that is larger than a handshake may be.
func hugeChain(t *testing.T, a *authority) tls.Certificate {
	t.Helper()
	c := a.issue(t, nil)
	for len(c.Certificate) < 1200 {
		c.Certificate = append(c.Certificate, a.cert.Raw)
	}
	return c
}

func TestHandshakeHangs(t *testing.T) { // T6
	url, _ := rawServer(t, func(_ int, c net.Conn) { untilClosed(c) })
	s := newSender(t, func(o *Options) { o.ConnectTimeout = 150 * time.Millisecond })
	a := s.Send(t.Context(), relay.Endpoint{}, webhookTo(strings.Replace(url, "http:", "https:", 1)))
	wantFailure(t, a, relay.Error, "timeout")
	if a.Took > time.Second || !strings.Contains(a.Err, "TLS handshake within 150ms") {
		t.Error(show(a))
	}
}

func TestPlainHTTPBehindHTTPS(t *testing.T) { // T7
	url, _ := rawServer(t, func(_ int, c net.Conn) {
		_, _ = bufio.NewReader(c).ReadByte()
		write(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		untilClosed(c)
	})
	a := newSender(t).Send(t.Context(), relay.Endpoint{}, webhookTo(strings.Replace(url, "http:", "https:", 1)))
	wantFailure(t, a, relay.Error, "tls")
	if !strings.Contains(a.Err, "does not speak TLS") {
		t.Error(show(a))
	}
}

func TestTLS(t *testing.T) {
	ours := newAuthority(t)
	for _, c := range []struct {
		http2, offered bool // by the endpoint's settings, by the server
		want           string
	}{
		{false, true, "HTTP/1.1"}, {true, true, "HTTP/2.0"}, {true, false, "HTTP/1.1"},
	} {
		r := unstartedReceiver(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
		r.TLS = &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}}
		r.EnableHTTP2 = c.offered
		r.StartTLS()
		s := newSender(t, func(o *Options) { o.RootCAs = ours.pool() })
		for range 3 {
			wantResponse(t, s.Send(t.Context(), relay.Endpoint{HTTP2: c.http2}, webhookTo(r.URL)), http.StatusOK, []byte("ok"))
		}
		r.mu.Lock()
		for _, q := range r.requests {
			if q.Proto != c.want {
				t.Errorf("%+v: %s", c, q.Proto)
			}
		}
		if len(r.requests) != 3 || len(r.conns) != 1 {
			t.Errorf("%+v: %d requests over %d connections", c, len(r.requests), len(r.conns))
		}
		r.mu.Unlock()
	}
}

// countClosed tells of every connection that has ended.
func countClosed(closed chan<- struct{}) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
}

// After a failed exchange an HTTP/2 connection is not kept: what the endpoint
// goes on sending over it would be read for nothing.
func TestFailedHTTP2ConnectionsAreClosed(t *testing.T) {
	ours := newAuthority(t)
	release := make(chan struct{})
	r := unstartedReceiver(t, func(_ http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			<-release
		}
	})
	r.TLS = &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}}
	r.EnableHTTP2 = true
	closed := make(chan struct{}, 8)
	r.Config.ConnState = countClosed(closed)
	r.StartTLS()
	defer close(release)
	s := newSender(t, func(o *Options) { o.RootCAs = ours.pool() })
	ep := relay.Endpoint{HTTP2: true}
	wantResponse(t, s.Send(t.Context(), ep, webhookTo(r.URL)), http.StatusOK, nil)
	ep.Timeout = 100 * time.Millisecond
	wantFailure(t, s.Send(t.Context(), ep, webhookTo(r.URL+"/slow")), relay.Error, "timeout")
	select {
	case <-closed:
	case <-time.After(2 * time.Second):
		t.Fatal("the connection stays open")
	}
	a := s.Send(t.Context(), ep, webhookTo(r.URL))
	if a.Unanswered { // net/http did not know yet that the connection is gone, and policy tries again
		wantFailure(t, a, relay.Error, "reset")
		a = s.Send(t.Context(), ep, webhookTo(r.URL))
	}
	wantResponse(t, a, http.StatusOK, nil)
}

// net/http may send a request over a connection that it does not know to be gone,
// and then says that it cannot send it again. No endpoint has answered.
func TestARequestThatCannotBeRepeatedIsUnanswered(t *testing.T) {
	var x exchange
	x.connected.Store(true)
	x.reused.Store(true)
	var a relay.Attempt
	x.blame(t.Context(), errors.New("net/http: cannot rewind body after connection loss"), &a)
	wantFailure(t, a, relay.Error, "reset")
	if !a.Unanswered {
		t.Error("policy would not send it again at once")
	}
}
