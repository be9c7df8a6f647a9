package admin_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay/admin"
)

// pipes is a listener on loopback without a network: time in it is not real.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close.Do(func() { close(p.closed) })
	return nil
}

func (*pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8422} }

// A client that sends a byte a second, or nothing at all, is cut off, wherever it
// is in its request.
func TestSlowClientsAreCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		text  string // and then an x a second, if it is slow
		slow  bool
		bound time.Duration
	}{
		"M5 in the request line": {"GET /", true, 6 * time.Second},
		"M5 in a header":         {"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", true, 6 * time.Second},
		"M5 in a body":           {"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", true, 11 * time.Second},
		"M5 before the request":  {"", false, 6 * time.Second},
		"M5 between requests":    {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", false, 61 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- admin.New(admin.Options{Listener: l}).Run(ctx) }()
				ours, theirs := net.Pipe()
				l.conns <- theirs
				began := time.Now()
				wrote := make(chan struct{})
				go func() {
					defer close(wrote)
					_, err := io.WriteString(ours, c.text)
					for c.slow && err == nil {
						time.Sleep(time.Second)
						_, err = io.WriteString(ours, "x")
					}
				}()
				_, _ = io.Copy(io.Discard, ours) // until the server hangs up
				if took := time.Since(began); took > c.bound {
					t.Errorf("it was let go on for %v", took)
				}
				_ = ours.Close()
				<-wrote
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// No page wants a body. One that does not end is answered before it is read, and
// most of it never is; a header that does not end is refused.
func TestEndlessRequestsAreCutOff(t *testing.T) {
	address := strings.TrimPrefix(serve(t, admin.Options{}), "http://")
	const chunk = "10000\r\n"
	for name, c := range map[string]struct {
		head, more string
		want       int
	}{
		"M6 body of a page":  {"POST /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", chunk + strings.Repeat("x", 0x10000) + "\r\n", http.StatusMethodNotAllowed},
		"M6 body with a GET": {"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", chunk + strings.Repeat("x", 0x10000) + "\r\n", http.StatusOK},
		"M6 header":          {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", "X: " + strings.Repeat("x", 1000) + "\r\n", http.StatusRequestHeaderFieldsTooLarge},
		"M6 request line":    {"GET /", strings.Repeat("x", 1000), http.StatusRequestHeaderFieldsTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			written := make(chan int, 1)
			go func() {
				total, err := io.WriteString(conn, c.head)
				for err == nil {
					var n int
					n, err = io.WriteString(conn, c.more)
					total += n
				}
				written <- total
			}()
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode != c.want {
				t.Errorf("answered %s, want %d", answer.Status, c.want)
			}
			if n := <-written; n > 32<<20 { // what the sockets hold, and no more
				t.Errorf("%d MiB were taken", n>>20)
			}
		})
	}
}

// What somebody writes into a request does not come back as a page that a browser
// would run, and no answer may be sniffed or kept.
func TestNothingComesBackAsAPage(t *testing.T) {
	down := func(context.Context) error { return errors.New("<script>alert(1)</script>") }
	url := serve(t, admin.Options{Checks: map[string]func(context.Context) error{"<b>postgres</b>": down}})
	for _, page := range []string{"/readyz", "/metrics", "/healthz", "/%3Cscript%3E", "/debug/pprof/%3Cscript%3Ealert(1)%3C/script%3E"} {
		t.Run("M8 "+page, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+page, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			h := resp.Header
			if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || strings.Contains(h.Get("Content-Type"), "html") ||
				h.Get("Content-Security-Policy") != "default-src 'none'" {
				t.Errorf("%d with %v", resp.StatusCode, h)
			}
		})
	}
}
