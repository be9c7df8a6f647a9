package delivery

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/relaytest/hostile"
)

const (
	proxyUser     = "relay"
	proxyPassword = "pr0xy-s3cret"
)

// egress is a proxy that connects to one receiver, whatever it is asked for, and
// remembers what it was asked.
type egress struct {
	url string // with user and password
	to  string // host and port; "" for none

	mu    sync.Mutex
	asked []string
}

func (e *egress) note(target string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, target)
}

func (e *egress) targets() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked)
}

// splice copies both ways until one end is closed.
func (e *egress) splice(c net.Conn, rest io.Reader) {
	up, err := net.Dial("tcp", e.to)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(up, rest); up.Close() })
	_, _ = io.Copy(c, up)
	c.Close()
	up.Close()
	wg.Wait()
}

// newConnectProxy is an HTTP proxy that answers CONNECT with a status line of
// its own, or connects if that is empty.
func newConnectProxy(t testing.TB, to, answer string) *egress {
	t.Helper()
	e := &egress{to: to}
	url, _ := rawServer(t, func(_ int, c net.Conn) { e.serveConnect(t, c, answer) })
	e.url = strings.Replace(strings.TrimSuffix(url, "/"), "//", "//"+proxyUser+":"+proxyPassword+"@", 1)
	return e
}

func (e *egress) serveConnect(t testing.TB, c net.Conn, answer string) {
	t.Helper()
	in := bufio.NewReader(c)
	q, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+proxyPassword))
	if q.Method != http.MethodConnect || q.Header.Get("Proxy-Authorization") != want || q.Host != q.RequestURI ||
		len(q.Header) != 2 || q.Header.Get("User-Agent") == "" {
		t.Errorf("the proxy got %s %s, %v", q.Method, q.RequestURI, q.Header)
	}
	e.note(q.RequestURI)
	if answer != "" {
		write(c, answer)
		untilClosed(c)
		return
	}
	write(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	e.splice(c, in)
}

// newSOCKS is a SOCKS5 proxy that gives a reply of its own, or connects if that
// is 0.
func newSOCKS(t testing.TB, to string, reply byte) *egress {
	t.Helper()
	e := &egress{to: to}
	url, _ := rawServer(t, func(_ int, c net.Conn) { e.serveSOCKS(c, reply) })
	e.url = strings.Replace(strings.TrimSuffix(url, "/"), "http://", "socks5://"+proxyUser+":"+proxyPassword+"@", 1)
	return e
}

func (e *egress) serveSOCKS(c net.Conn, reply byte) {
	take := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	take(int(take(2)[1]))
	write(c, "\x05\x02") // user name and password
	user := string(take(int(take(2)[1])))
	password := string(take(int(take(1)[0])))
	if user != proxyUser || password != proxyPassword {
		write(c, "\x01\x01")
		return
	}
	write(c, "\x01\x00")
	var host string
	switch take(4)[3] {
	case 1:
		host = netip.AddrFrom4([4]byte(take(4))).String()
	case 3:
		host = string(take(int(take(1)[0])))
	case 4:
		host = netip.AddrFrom16([16]byte(take(16))).String()
	}
	e.note(net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(take(2))))))
	write(c, "\x05"+string(reply)+"\x00\x01\x00\x00\x00\x00\x00\x00")
	if reply == 0 {
		e.splice(c, c)
	}
}

// bothProxies are one of each kind in front of a receiver.
func bothProxies(t *testing.T, to string) map[string]*egress {
	t.Helper()
	return map[string]*egress{"HTTP CONNECT": newConnectProxy(t, to, ""), "SOCKS5": newSOCKS(t, to, 0)}
}

func through(e *egress, resolves bool) func(*Options) {
	return func(o *Options) {
		o.Proxy, o.ProxyResolves, o.Allow, o.AnyPort = relay.Secret(e.url), resolves, nil, false
	}
}

// P2: the proxy listens on loopback, which no webhook may call. What goes
// through it arrives as it would without it.
func TestProxyDelivers(t *testing.T) {
	ours := newAuthority(t)
	for _, secure := range []bool{false, true} {
		r := unstartedReceiver(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
		r.TLS = &tls.Config{Certificates: []tls.Certificate{ours.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"hooks.example"} })}}
		r.EnableHTTP2 = true
		scheme, port := "http", "80"
		if secure {
			scheme, port = "https", "443"
			r.StartTLS()
		} else {
			r.Start()
		}
		for kind, e := range bothProxies(t, r.Listener.Addr().String()) {
			d := newDNS(t, func(string, int) reply { return reply{addrs: []string{"8.8.8.8"}} })
			for _, http2 := range []bool{false, secure} {
				for _, resolves := range []bool{false, true} {
					e.asked = nil
					s := newSender(t, through(e, resolves), func(o *Options) { o.RootCAs, o.Resolver = ours.pool(), d.resolver })
					for range 2 {
						a := s.Send(t.Context(), relay.Endpoint{HTTP2: http2}, webhookTo(scheme+"://hooks.example/hook"))
						wantResponse(t, a, http.StatusOK, []byte("ok"))
					}
					want := "8.8.8.8:" + port
					if resolves {
						want = "hooks.example:" + port
					}
					if got := e.targets(); !slices.Equal(got, []string{want}) { // one connection for both
						t.Errorf("%s, resolves=%v: the proxy was asked for %q, want %q", kind, resolves, got, want)
					}
					s.CloseIdle()
				}
			}
		}
		for _, q := range r.requests {
			if q.Header.Get("Proxy-Authorization") != "" || q.Host != "hooks.example" {
				t.Errorf("the receiver got %v for %s", q.Header, q.Host)
			}
		}
	}
}

// The proxy is asked for no address that relay may not call: the whole matrix,
// as literals, and as what a name resolves to.
func TestProxyIsNotAskedForSpecialAddresses(t *testing.T) {
	r := newReceiver(t, nil)
	for kind, e := range bothProxies(t, r.Listener.Addr().String()) {
		var answer atomic.Value
		d := newDNS(t, func(string, int) reply {
			addr, _ := answer.Load().(string)
			return reply{addrs: []string{addr}}
		})
		s := newSender(t, through(e, false), func(o *Options) { o.Resolver = d.resolver })
		remote := newSender(t, through(e, true))
		for _, addr := range special {
			if strings.Contains(addr, "%") {
				continue // neither a URL nor a DNS answer can hold it
			}
			answer.Store(addr)
			for _, a := range []relay.Attempt{
				s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://hooks.example/")),
				s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://"+hostOf(addr)+"/")),
				remote.Send(t.Context(), relay.Endpoint{}, webhookTo("http://"+hostOf(addr)+"/")),
			} {
				if a.Kind != relay.Blocked || a.Class != "blocked" || strings.Contains(a.Err, "proxy") {
					t.Errorf("%s: %s", addr, show(a))
				}
			}
		}
		for _, host := range append([]string{
			"localhost", "a.localhost", "LOCALHOST.", "localhost.localdomain", "metadata", "ip6-loopback",
			"127.0.0.1.", "1.2.3.4.5", "0x7F000001", "host.0x7f", "host.127", "0x", "a.0x",
		}, oddAddresses...) {
			a := remote.Send(t.Context(), relay.Endpoint{}, webhookTo("http://"+host+"/"))
			if a.Kind != relay.Blocked {
				t.Errorf("%s: %s", host, show(a))
			}
		}
		a := remote.Send(t.Context(), relay.Endpoint{}, webhookTo("http://hooks.example:22/"))
		if a.Kind != relay.Blocked || !strings.Contains(a.Err, "port") {
			t.Errorf("port 22: %s", show(a))
		}
		if got := e.targets(); len(got) > 0 {
			t.Errorf("%s was asked for %q", kind, got)
		}
		// No false block: public addresses arrive at the proxy.
		var want []string
		for _, addr := range publicAddrs {
			a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://"+hostOf(addr)+"/"))
			wantResponse(t, a, http.StatusOK, nil)
			want = append(want, net.JoinHostPort(netip.MustParseAddr(addr).Unmap().String(), "80"))
		}
		for _, host := range []string{"a.0xg", "hooks.example.", "x0.example", "1.2.3.4.example"} {
			wantResponse(t, remote.Send(t.Context(), relay.Endpoint{}, webhookTo("http://"+host+"/")), http.StatusOK, nil)
			want = append(want, host+":80")
		}
		if got := e.targets(); !slices.Equal(got, want) {
			t.Errorf("%s was asked for %q, want %q", kind, got, want)
		}
	}
}

func hostOf(addr string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]"
	}
	return addr
}

// Mixed answers: the refused ones are passed over, the next one is asked for
// where the proxy cannot reach the one before.
func TestProxyMixedAnswers(t *testing.T) {
	e := newSOCKS(t, "", 4) // host unreachable
	d := newDNS(t, func(string, int) reply {
		return reply{addrs: []string{"10.0.0.1", "8.8.8.8", "169.254.169.254", "1.1.1.1", "127.0.0.1"}}
	})
	s := newSender(t, through(e, false), func(o *Options) { o.Resolver = d.resolver })
	a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://hooks.example/"))
	wantFailure(t, a, relay.Error, "connect")
	got := e.targets()
	slices.Sort(got)
	if !slices.Equal(got, []string{"1.1.1.1:80", "8.8.8.8:80"}) {
		t.Errorf("the proxy was asked for %q", got)
	}
}

// What goes wrong with the proxy has a class of its own, and no text says where
// the proxy is or how relay signs in.
func TestProxyFailures(t *testing.T) {
	answer := func(text string) *egress { return newConnectProxy(t, "", text) }
	replies := func(code byte) *egress { return newSOCKS(t, "", code) }
	raw := func(scheme string, serve func(net.Conn)) *egress {
		url, _ := rawServer(t, func(_ int, c net.Conn) { serve(c) })
		return &egress{url: strings.Replace(url, "http://", scheme+"://"+proxyUser+":"+proxyPassword+"@", 1)}
	}
	closed := func(net.Conn) {}
	cases := []struct {
		name  string
		proxy *egress
		class string
	}{
		{"CONNECT 403", answer("HTTP/1.1 403 Forbidden\r\n\r\n"), "blocked"},
		{"CONNECT 407", answer("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 5\r\n\r\nno"), "proxy"},
		{"CONNECT 502", answer("HTTP/1.1 502 Bad Gateway\r\n\r\n"), "connect"},
		{"CONNECT 503", answer("HTTP/1.1 503 Service Unavailable\r\n\r\n"), "connect"},
		{"CONNECT 504", answer("HTTP/1.1 504 Gateway Timeout\r\n\r\n"), "connect"},
		{"CONNECT 302", answer("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n"), "proxy"},
		{"CONNECT 100", answer("HTTP/1.1 100 Continue\r\n\r\n"), "proxy"},
		{"CONNECT 200 and more", answer("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "proxy"},
		{"CONNECT nonsense", answer("SSH-2.0-OpenSSH_9.2\r\n\r\n"), "proxy"},
		{"CONNECT endless header", raw("http", func(c net.Conn) { write(c, hostile.OK); forever(c, "X-Y: z\r\n") }), "proxy"},
		{"CONNECT endless line", raw("http", func(c net.Conn) { forever(c, "x") }), "proxy"},
		{"CONNECT never answers", raw("http", untilClosed), "timeout"},
		{"CONNECT drips", raw("http", func(c net.Conn) { drip(c, "HTTP/1.1 200 ") }), "timeout"},
		{"CONNECT hangs up", raw("http", closed), "proxy"},
		{"CONNECT over TLS that is none", raw("https", func(c net.Conn) { write(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }), "proxy"},
		{"CONNECT over TLS hangs", raw("https", untilClosed), "timeout"},
		{"SOCKS5 general failure", replies(1), "connect"},
		{"SOCKS5 not allowed", replies(2), "blocked"},
		{"SOCKS5 network unreachable", replies(3), "connect"},
		{"SOCKS5 host unreachable", replies(4), "connect"},
		{"SOCKS5 connection refused", replies(5), "connect"},
		{"SOCKS5 TTL expired", replies(6), "connect"},
		{"SOCKS5 command not supported", replies(7), "proxy"},
		{"SOCKS5 unknown reply", replies(99), "proxy"},
		{"SOCKS5 never answers", raw("socks5", untilClosed), "timeout"},
		{"SOCKS5 hangs up", raw("socks5", closed), "proxy"},
		{"SOCKS5 refuses credentials", raw("socks5", func(c net.Conn) { write(c, "\x05\xff") }), "proxy"},
		{"SOCKS5 is HTTP", raw("socks5", func(c net.Conn) { write(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }), "proxy"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newSender(t, through(c.proxy, true), func(o *Options) { o.ConnectTimeout = 250 * time.Millisecond })
			a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://hooks.example/?s3cret"))
			kind := relay.Error
			if c.class == "blocked" {
				kind = relay.Blocked
			}
			wantFailure(t, a, kind, c.class)
			if strings.Contains(a.Err, "s3cret") || strings.Contains(a.Err, "127.0.0.1") || a.Unanswered {
				t.Error(show(a))
			}
			if c.class == "timeout" && a.Err != "hooks.example:80: no connection within 250ms" {
				t.Errorf("not within the time for connecting: %s", show(a))
			}
		})
	}
	t.Run("nothing listens", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		s := newSender(t, through(&egress{url: "http://" + l.Addr().String()}, true))
		a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://hooks.example/"))
		wantFailure(t, a, relay.Error, "proxy")
		if strings.Contains(a.Err, "127.0.0.1") {
			t.Error(show(a))
		}
	})
}

// A proxy that speaks TLS: its certificate is checked, and nothing is said to
// one that has the wrong one.
func TestProxyOverTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	r := newReceiver(t, nil)
	for _, trusted := range []bool{true, false} {
		issuer := ours
		if !trusted {
			issuer = theirs
		}
		config := &tls.Config{Certificates: []tls.Certificate{issuer.issue(t, nil)}}
		e := &egress{to: r.Listener.Addr().String()}
		url, _ := rawServer(t, func(_ int, c net.Conn) { e.serveConnect(t, tls.Server(c, config), "") })
		e.url = strings.Replace(url, "http://", "https://"+proxyUser+":"+proxyPassword+"@", 1)
		s := newSender(t, through(e, true), func(o *Options) { o.RootCAs = ours.pool() })
		a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://hooks.example/"))
		if trusted {
			wantResponse(t, a, http.StatusOK, nil)
			s.CloseIdle()
			continue
		}
		wantFailure(t, a, relay.Error, "proxy")
		if got := e.targets(); len(got) != 0 {
			t.Errorf("a proxy without the right certificate was asked for %q", got)
		}
	}
}

func TestProxyOptions(t *testing.T) {
	for _, good := range []string{"http://p", "http://p:3128", "https://u:p@p:8443/", "socks5://[::1]:1080", "http://u@p"} {
		if _, err := New(Options{Proxy: relay.Secret(good)}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"p", "p:3128", "socks4://p", "socks5h://p", "file:///s3cret", "http://", "http://:80", "http://s3cret@", "http://p/s3cret", "http://p?s3cret",
		"http://p#s3cret", "http://u:s3cret@p:x", "socks5://s3cret@p", "socks5://:s3cret@p", "http://%zz:s3cret@p", "http://a\x00s3cret",
	} {
		if _, err := New(Options{Proxy: relay.Secret(bad)}); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := New(Options{ProxyResolves: true}); err == nil {
		t.Error("no proxy resolves names")
	}
}
