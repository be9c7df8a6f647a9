package delivery

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

// trusted are settings that trust the authority alone, and show the certificates
// that are given: one, or none.
func (a *authority) trusted(t testing.TB, show ...tls.Certificate) *relay.TLS {
	t.Helper()
	settings := &relay.TLS{Authorities: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})}
	for _, c := range show {
		key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		settings.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
		settings.Key = relay.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	}
	if err := relay.CheckTLS(settings); err != nil {
		t.Fatal(err)
	}
	return settings
}

// client issues a certificate for relay itself.
func (a *authority) client(t testing.TB, name string, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	return a.issue(t, func(c *x509.Certificate) {
		c.Subject, c.IPAddresses, c.ExtKeyUsage = pkix.Name{CommonName: name}, nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if edit != nil {
			edit(c)
		}
	})
}

// secureReceiver answers with the name in the certificate that it was shown.
func secureReceiver(t testing.TB, config *tls.Config) *receiver {
	t.Helper()
	r := unstartedReceiver(t, func(w http.ResponseWriter, q *http.Request) {
		name := "nobody"
		if shown := q.TLS.PeerCertificates; len(shown) > 0 {
			name = shown[0].Subject.CommonName
		}
		_, _ = w.Write([]byte(name))
	})
	r.TLS, r.EnableHTTP2 = config, true
	silenced(r.Server)
	r.StartTLS()
	return r
}

// TestOwnTLS: whom an endpoint with TLS settings of its own trusts, and to whom
// relay shows its certificate.
func TestOwnTLS(t *testing.T) {
	ours, theirs, global := newAuthority(t), newAuthority(t), newAuthority(t)
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }
	plain := func(by *authority) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{by.issue(t, nil)}} }
	wants := func(by *authority) *tls.Config {
		c := plain(by)
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ours.pool()
		return c
	}
	onlyCertificate := ours.trusted(t, ours.client(t, "relay", nil))
	onlyCertificate.Authorities = nil
	cases := []struct {
		name   string
		server *tls.Config
		own    *relay.TLS
		want   string // the answer, or what the text of the failure says
		failed bool
	}{
		{"T12 own authorities", plain(ours), ours.trusted(t), "nobody", false},
		{"T12 without own authorities", plain(ours), nil, "signed by an unknown authority", true},
		{"T12 the authorities of all are not asked where there are own", plain(global), ours.trusted(t), "signed by an unknown authority", true},
		{"T12 nor another endpoint's", plain(theirs), ours.trusted(t), "signed by an unknown authority", true},
		{"T2 own authorities, expired", &tls.Config{Certificates: []tls.Certificate{ours.issue(t, expired)}}, ours.trusted(t), "has expired", true},
		{"T3 own authorities, wrong name", &tls.Config{Certificates: []tls.Certificate{ours.issue(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"example.com"} })}}, ours.trusted(t), "is for another name", true},
		{"T5 own authorities, TLS 1.1", &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, ours.trusted(t), "protocol version", true},
		{"a certificate that nobody asks for", plain(ours), ours.trusted(t, ours.client(t, "relay", nil)), "nobody", false},
		{"a certificate that is wanted", wants(ours), ours.trusted(t, ours.client(t, "relay", nil)), "relay", false},
		{"a certificate and the authorities of all", wants(global), onlyCertificate, "relay", false},
		{"no certificate", wants(ours), ours.trusted(t), "wants a client certificate", true},
		{"no certificate, nor anything else", wants(global), nil, "wants a client certificate", true},
		{"a certificate of another authority", wants(ours), ours.trusted(t, theirs.client(t, "relay", nil)), "wants a client certificate, and", true},
		{"a certificate that has expired", wants(ours), ours.trusted(t, ours.client(t, "relay", expired)), "wants a client certificate, and", true},
		{"a certificate for servers", wants(ours), ours.trusted(t, ours.issue(t, nil)), "wants a client certificate, and", true},
	}
	for _, c := range cases {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, http2 := range []bool{false, true} {
				config := c.server.Clone()
				if config.MaxVersion == 0 {
					config.MaxVersion = version
				}
				t.Run(fmt.Sprintf("%s, %s, HTTP/2 %v", c.name, tls.VersionName(version), http2), func(t *testing.T) {
					r := secureReceiver(t, config)
					s := newSender(t, func(o *Options) { o.RootCAs = global.pool() })
					for range 2 { // the second over the same connection, if there is one
						a := s.Send(t.Context(), relay.Endpoint{HTTP2: http2, TLS: c.own}, webhookTo(r.URL+"/?s3cret"))
						if !c.failed {
							wantResponse(t, a, http.StatusOK, []byte(c.want))
							continue
						}
						wantFailure(t, a, relay.Error, "tls")
						if !strings.Contains(a.Err, c.want) || strings.Contains(a.Err, "s3cret") || a.Unanswered {
							t.Error(show(a))
						}
					}
					requests, conns := r.counts()
					if want := map[bool]int{true: 0, false: 2}[c.failed]; requests != want || conns > 1 {
						t.Errorf("%d requests over %d connections", requests, conns)
					}
				})
			}
		}
	}
}

// Who refuses a certificate need not say so: with TLS 1.3 the handshake is over for
// relay before the endpoint has seen what it asked for.
func TestAClientCertificateIsRefusedInSilence(t *testing.T) {
	ours := newAuthority(t)
	asking := &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"}, SessionTicketsDisabled: true}
	indifferent := asking.Clone()
	indifferent.ClientAuth = tls.NoClientCert
	for _, c := range []struct {
		server *tls.Config
		own    *relay.TLS
		class  string
		want   string
	}{
		{asking, ours.trusted(t), "tls", "without one: register it with one"},
		{asking, ours.trusted(t, ours.client(t, "relay", nil)), "tls", "when it had seen relay's"},
		{indifferent, ours.trusted(t), "reset", "broke before an answer"},
	} {
		for _, http2 := range []bool{false, true} {
			url, _ := rawServer(t, func(_ int, plain net.Conn) {
				if err := tls.Server(plain, c.server).Handshake(); err == nil {
					reset(plain)
				}
			})
			a := newSender(t).Send(t.Context(), relay.Endpoint{HTTP2: http2, TLS: c.own}, webhookTo(strings.Replace(url, "http:", "https:", 1)))
			wantFailure(t, a, relay.Error, c.class)
			if !strings.Contains(a.Err, c.want) || a.Unanswered {
				t.Error(show(a))
			}
		}
	}
}

// T12: a connection that one endpoint's authorities vouched for is not for another,
// nor is the session that was begun on it.
func TestConnectionsOfOwnTLSAreNotShared(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	r := secureReceiver(t, &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}, ClientAuth: tls.RequestClientCert})
	s := newSender(t)
	for _, http2 := range []bool{false, true} {
		first := relay.Endpoint{HTTP2: http2, TLS: ours.trusted(t, ours.client(t, "first", nil))}
		second := relay.Endpoint{HTTP2: http2, TLS: ours.trusted(t, ours.client(t, "second", nil))}
		for range 3 {
			wantResponse(t, s.Send(t.Context(), first, webhookTo(r.URL)), http.StatusOK, []byte("first"))
			wantResponse(t, s.Send(t.Context(), second, webhookTo(r.URL)), http.StatusOK, []byte("second"))
			for _, stranger := range []*relay.TLS{nil, theirs.trusted(t)} {
				a := s.Send(t.Context(), relay.Endpoint{HTTP2: http2, TLS: stranger}, webhookTo(r.URL))
				wantFailure(t, a, relay.Error, "tls")
			}
		}
	}
	if requests, conns := r.counts(); requests != 12 || conns != 4 {
		t.Errorf("%d requests over %d connections, want 12 over 4", requests, conns)
	}
	if tr, ok := s.common.http1.(*http.Transport); !ok || tr.TLSClientConfig != nil {
		t.Error("a transport has settings of its own for TLS")
	}
}

// A client certificate is exchanged while webhooks are under way: none fails, and
// who sends with the new settings shows the new certificate.
func TestAClientCertificateIsReplacedUnderLoad(t *testing.T) {
	ours := newAuthority(t)
	for _, http2 := range []bool{false, true} {
		r := secureReceiver(t, &tls.Config{
			Certificates: []tls.Certificate{ours.issue(t, nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool(),
		})
		s := newSender(t)
		const rotations = 20
		settings := make([]*relay.TLS, rotations)
		for i := range settings {
			settings[i] = ours.trusted(t, ours.client(t, fmt.Sprint(i), nil))
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range settings {
					for range 5 {
						a := s.Send(t.Context(), relay.Endpoint{HTTP2: http2, TLS: settings[i]}, webhookTo(r.URL))
						if a.Unanswered { // policy sends it again
							a = s.Send(t.Context(), relay.Endpoint{HTTP2: http2, TLS: settings[i]}, webhookTo(r.URL))
						}
						if a.Kind != relay.Response || string(a.Body) != fmt.Sprint(i) {
							t.Errorf("certificate %d: %s", i, show(a))
						}
					}
				}
			})
		}
		wg.Wait()
	}
}

// However many settings there were, only so many transports are kept, and what
// nobody has used for long goes first.
func TestOwnTLSIsForgotten(t *testing.T) {
	s := newSender(t, func(o *Options) { o.IdleTimeout = time.Minute })
	now := time.Now()
	use := func(settings *relay.TLS, at time.Time) transports {
		t.Helper()
		tr, err := s.trusting(settings, at)
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	kept, old := &relay.TLS{}, &relay.TLS{}
	before := use(kept, now)
	use(old, now)
	for i := range maxOwn + 10 {
		at := now.Add(time.Duration(i) * time.Millisecond)
		use(&relay.TLS{}, at)
		if use(kept, at) != before {
			t.Fatalf("after %d others it is another", i)
		}
	}
	if len(s.own.held) != maxOwn || s.own.held[old] != nil {
		t.Errorf("%d are held; the oldest %v", len(s.own.held), s.own.held[old])
	}
	use(&relay.TLS{}, now.Add(time.Hour))
	if len(s.own.held) != 1 {
		t.Errorf("after an hour %d are held", len(s.own.held))
	}
}

// New settings leave no connection behind.
func TestConnectionsOfOldTLSSettingsEnd(t *testing.T) {
	ours := newAuthority(t)
	closed := make(chan struct{}, 64)
	for _, http2 := range []bool{false, true} {
		r := unstartedReceiver(t, nil)
		r.TLS, r.EnableHTTP2 = &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}}, true
		r.Config.ConnState = countClosed(closed)
		r.StartTLS()
		s := newSender(t, func(o *Options) { o.IdleTimeout = 100 * time.Millisecond })
		for range 10 {
			wantResponse(t, s.Send(t.Context(), relay.Endpoint{HTTP2: http2, TLS: ours.trusted(t)}, webhookTo(r.URL)), http.StatusOK, nil)
		}
		for i := range 10 {
			select {
			case <-closed:
			case <-time.After(10 * time.Second):
				t.Fatalf("%d of 10 connections stay open", 10-i)
			}
		}
	}
}

func TestOwnTLSThatCannotBeUsed(t *testing.T) {
	ours := newAuthority(t)
	good := ours.trusted(t, ours.client(t, "relay", nil))
	other := ours.trusted(t, ours.client(t, "relay", nil))
	s := newSender(t)
	for _, c := range []struct {
		url  string
		tls  relay.TLS
		want string
	}{
		{"https://127.0.0.1:1/", relay.TLS{Authorities: []byte("canary")}, "authorities"},
		{"https://127.0.0.1:1/", relay.TLS{Certificate: good.Certificate, Key: other.Key}, "do not match"},
		{"https://127.0.0.1:1/", relay.TLS{Certificate: good.Certificate, Key: "canary"}, "cannot be read"},
		{"http://127.0.0.1:1/", *good, "does not begin with https://"},
	} {
		a := s.Send(t.Context(), relay.Endpoint{TLS: &c.tls}, webhookTo(c.url))
		wantFailure(t, a, relay.Error, "request")
		if !strings.Contains(a.Err, c.want) || strings.Contains(a.Err, "canary") {
			t.Error(show(a))
		}
	}
}

// The media type is the webhook's, else the endpoint's, else that of JSON.
func TestContentTypes(t *testing.T) {
	r := newReceiver(t, nil)
	s := newSender(t)
	var want []string
	for _, c := range []struct{ webhook, endpoint, want string }{
		{"", "", "application/json"}, {"", "text/csv", "text/csv"}, {"text/plain", "text/csv", "text/plain"}, {"text/plain", "", "text/plain"},
	} {
		w := webhookTo(r.URL)
		w.ContentType = c.webhook
		wantResponse(t, s.Send(t.Context(), relay.Endpoint{ContentType: c.endpoint}, w), http.StatusOK, nil)
		want = append(want, c.want)
	}
	var got []string
	for _, q := range r.requests {
		got = append(got, q.Header.Get("Content-Type"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	wantFailure(t, s.Send(t.Context(), relay.Endpoint{ContentType: "a/b\r\nX: y"}, webhookTo(r.URL)), relay.Error, "request")
}

// T12: whom an endpoint trusts is no concern of the proxy's.
func TestOwnAuthoritiesAreNotForTheProxy(t *testing.T) {
	ours := newAuthority(t)
	r := secureReceiver(t, &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}, ClientAuth: tls.RequestClientCert})
	s := newSender(t, func(o *Options) { o.Proxy = relay.Secret(r.URL) })
	a := s.Send(t.Context(), relay.Endpoint{TLS: ours.trusted(t, ours.client(t, "relay", nil))}, webhookTo("https://127.0.0.1:1/"))
	wantFailure(t, a, relay.Error, "proxy")
	if !strings.Contains(a.Err, "no TLS with the proxy") {
		t.Error(show(a))
	}
}
