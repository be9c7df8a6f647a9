package delivery

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

func TestSend(t *testing.T) {
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, "thanks")
	})
	w := relay.Webhook{
		ID: "msg_1", URL: r.URL + "/hook/a%2Fb?token=x&y={z}", Body: []byte("{\x00 not json"), ContentType: "application/cloudevents+json",
		Header: http.Header{"x-custom": {"one", "two"}, "Authorization": {"Bearer producer"}},
		Trace: http.Header{
			"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, "Tracestate": {"a=b"}, "Baggage": {"bad\nvalue"}, "X-Other": {"no"},
		},
	}
	ep := relay.Endpoint{Header: http.Header{"Authorization": {"Bearer operator"}}}
	a := newSender(t).Send(t.Context(), ep, w)
	wantResponse(t, a, http.StatusAccepted, []byte("thanks"))
	if a.Header.Get("Retry-After") != "120" || a.Truncated || a.Success {
		t.Errorf("attempt %s, header %v", show(a), a.Header)
	}
	got := r.only(t)
	if got.Method != http.MethodPost || got.RequestURI != "/hook/a%2Fb?token=x&y={z}" || got.Proto != "HTTP/1.1" || !bytes.Equal(got.body, w.Body) {
		t.Errorf("got %s %s %s %q", got.Method, got.RequestURI, got.Proto, got.body)
	}
	got.Header.Del("Webhook-Signature") // has been verified
	want := http.Header{
		"Content-Type": {"application/cloudevents+json"}, "Content-Length": {strconv.Itoa(len(w.Body))}, "User-Agent": {"relay/dev"},
		"Accept-Encoding": {"identity"}, "Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {strconv.FormatInt(a.Started.Unix(), 10)},
		"X-Custom": {"one", "two"}, "Authorization": {"Bearer operator"},
		"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, "Tracestate": {"a=b"},
	}
	if fmt.Sprint(got.Header) != fmt.Sprint(want) {
		t.Errorf("headers\n got %v\nwant %v", got.Header, want)
	}
}

func TestBodies(t *testing.T) {
	bodies := [][]byte{nil, {}, []byte("{{"), {0, 0xff, 0xfe, '\r', '\n'}, []byte("\xef\xbb\xbf{}"), bytes.Repeat([]byte("x"), relay.MaxBody)}
	s := newSender(t)
	for _, method := range []string{"", http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodGet, "BREW"} {
		for i, body := range bodies {
			r := newReceiver(t, nil)
			w := webhookTo(r.URL)
			w.Method, w.Body = method, body
			wantResponse(t, s.Send(t.Context(), relay.Endpoint{}, w), http.StatusOK, nil)
			got := r.only(t)
			if want := cmp.Or(method, http.MethodPost); got.Method != want || !bytes.Equal(got.body, body) {
				t.Errorf("%s, body %d: got %s with %d bytes", method, i, got.Method, len(got.body))
			}
			if len(got.TransferEncoding) != 0 {
				t.Errorf("%s, body %d: transfer encoding %v", method, i, got.TransferEncoding)
			}
			if ct, want := got.Header.Get("Content-Type"), "application/json"; len(body) > 0 && ct != want {
				t.Errorf("%s, body %d: content type %q", method, i, ct)
			}
		}
	}
}

func TestEndpointComesFirst(t *testing.T) {
	r := newReceiver(t, nil)
	s := newSender(t, func(o *Options) { o.Secrets = []relay.Secret{"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"} })
	ep := relay.Endpoint{URL: r.URL + "/own", Secrets: []relay.Secret{"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", testSecret}}
	w := webhookTo("")
	wantResponse(t, s.Send(t.Context(), ep, w), http.StatusOK, nil)
	got := r.only(t)
	if list := strings.Fields(got.Header.Get("Webhook-Signature")); len(list) != 2 || got.URL.Path != "/own" {
		t.Errorf("%s with %d signatures", got.URL.Path, len(list))
	}
}

func TestNoSecretNoSignature(t *testing.T) {
	var header http.Header
	url, _ := rawServer(t, answerWith(func(h http.Header) { header = h }, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"))
	s := newSender(t, func(o *Options) { o.Secrets = nil })
	wantResponse(t, s.Send(t.Context(), relay.Endpoint{}, webhookTo(url)), http.StatusNoContent, nil)
	if header.Get("Webhook-Id") != "msg_1" || header["Webhook-Signature"] != nil {
		t.Errorf("headers %v", header)
	}
}

// H1 to H6, at the last door: what cannot be sent is not sent, and is not an endpoint's fault.
func TestRefusedRequests(t *testing.T) {
	url, accepted := rawServer(t, nil)
	edits := map[string]func(ep *relay.Endpoint, w *relay.Webhook){
		"no URL": func(_ *relay.Endpoint, w *relay.Webhook) { w.URL = "" },
		"scheme": func(_ *relay.Endpoint, w *relay.Webhook) { w.URL = "file:///etc/passwd" },
		"userinfo": func(_ *relay.Endpoint, w *relay.Webhook) {
			w.URL = strings.Replace(url, "http://", "http://u:s3cret@", 1)
		},
		"fragment":           func(_ *relay.Endpoint, w *relay.Webhook) { w.URL = url + "?s3cret#x" },
		"reserved header":    func(_ *relay.Endpoint, w *relay.Webhook) { w.Header = http.Header{"Host": {"s3cret"}} },
		"forged signature":   func(_ *relay.Endpoint, w *relay.Webhook) { w.Header = http.Header{"webhook-signature": {"s3cret"}} },
		"idempotency key":    func(_ *relay.Endpoint, w *relay.Webhook) { w.Header = http.Header{"Idempotency-Key": {"s3cret"}} },
		"split header":       func(_ *relay.Endpoint, w *relay.Webhook) { w.Header = http.Header{"X": {"s3cret\r\nY: 1"}} },
		"endpoint's header":  func(ep *relay.Endpoint, _ *relay.Webhook) { ep.Header = http.Header{"Te": {"s3cret"}} },
		"content type":       func(_ *relay.Endpoint, w *relay.Webhook) { w.ContentType = "text/plain\r\nX: 1" },
		"method":             func(_ *relay.Endpoint, w *relay.Webhook) { w.Method = "PO ST" },
		"CONNECT":            func(_ *relay.Endpoint, w *relay.Webhook) { w.Method = http.MethodConnect },
		"id with a dot":      func(_ *relay.Endpoint, w *relay.Webhook) { w.ID = "a.b" },
		"id with a line end": func(_ *relay.Endpoint, w *relay.Webhook) { w.ID = "a\n" },
		"no id":              func(_ *relay.Endpoint, w *relay.Webhook) { w.ID = "" },
		"secret":             func(ep *relay.Endpoint, _ *relay.Webhook) { ep.Secrets = []relay.Secret{"whsec_s3cret"} },
	}
	s := newSender(t)
	for name, edit := range edits {
		ep, w := relay.Endpoint{}, webhookTo(url)
		edit(&ep, &w)
		a := s.Send(t.Context(), ep, w)
		if a.Kind != relay.Error || a.Class != "request" || a.Err == "" || strings.Contains(a.Err, "s3cret") {
			t.Errorf("%s: %s", name, show(a))
		}
	}
	if n := accepted(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

func TestHTTPSOnly(t *testing.T) { // U8
	url, accepted := rawServer(t, nil)
	s := newSender(t, func(o *Options) { o.HTTPSOnly = true })
	wantFailure(t, s.Send(t.Context(), relay.Endpoint{}, webhookTo(url)), relay.Blocked, "blocked")
	if accepted() != 0 {
		t.Error("a connection was made")
	}
}

// P1: neither where the proxy is nor what is to go past it is taken from the
// environment.
func TestProxyEnvironmentIsIgnored(t *testing.T) {
	proxy, accepted := rawServer(t, nil)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, proxy)
	}
	t.Setenv("NO_PROXY", "")
	s := newSender(t)
	// net/http never uses a proxy for loopback, so ask for another host too.
	wantFailure(t, s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://10.1.2.3/")), relay.Blocked, "blocked")
	wantFailure(t, s.Send(t.Context(), relay.Endpoint{}, webhookTo("https://10.1.2.3/")), relay.Blocked, "blocked")
	if accepted() != 0 {
		t.Error("the proxy was called")
	}
	for _, tr := range []transport{s.common.http1, s.common.http2} {
		if h, ok := tr.(*http.Transport); !ok || h.Proxy != nil {
			t.Error("a transport has a proxy")
		}
	}
}

// oddTransport does what no transport should.
type oddTransport struct {
	fail func() (*http.Response, error)
}

func (o oddTransport) RoundTrip(*http.Request) (*http.Response, error) { return o.fail() }
func (oddTransport) CloseIdleConnections()                             {}

func TestOddTransports(t *testing.T) {
	s := newSender(t)
	s.common.http1 = oddTransport{func() (*http.Response, error) { panic("odd\x00" + strings.Repeat("long", 200)) }}
	a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://127.0.0.1/"))
	wantFailure(t, a, relay.Error, "panic")
	s.common.http1 = oddTransport{func() (*http.Response, error) {
		return nil, fmt.Errorf("Post %q: %w", "http://127.0.0.1/?token=s3cret", errOdd)
	}}
	a = s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://127.0.0.1/?token=s3cret"))
	wantFailure(t, a, relay.Error, "protocol")
	if strings.Contains(a.Err, "s3cret") {
		t.Error(a.Err)
	}
}

func TestCanceled(t *testing.T) {
	asked := make(chan struct{})
	url, _ := rawServer(t, func(_ int, c net.Conn) { close(asked); untilClosed(c) })
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { <-asked; cancel(errOdd) })
	a := newSender(t).Send(ctx, relay.Endpoint{}, webhookTo(url))
	wg.Wait()
	wantFailure(t, a, relay.Error, "canceled")
	if a.Unanswered || !strings.Contains(a.Err, "odd") {
		t.Error(show(a))
	}
}

func TestTimeouts(t *testing.T) {
	silent, _ := rawServer(t, func(_ int, c net.Conn) { untilClosed(c) })
	slow, _ := rawServer(t, func(_ int, c net.Conn) {
		if readRequest(bufio.NewReader(c)) != nil { // an answer before the request is no answer
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		untilClosed(c)
	})
	s := newSender(t, func(o *Options) { o.Timeout = 150 * time.Millisecond })
	a := s.Send(t.Context(), relay.Endpoint{}, webhookTo(silent))
	wantFailure(t, a, relay.Error, "timeout")
	if a.Status != 0 || a.Err != "no answer within 150ms" {
		t.Error(show(a))
	}
	// The endpoint's own timeout comes first; what is known is kept.
	a = s.Send(t.Context(), relay.Endpoint{Timeout: 100 * time.Millisecond}, webhookTo(slow))
	wantFailure(t, a, relay.Error, "timeout")
	if a.Status != http.StatusOK || string(a.Body) != "half" || !a.Truncated || a.Err != "the answer did not end within 100ms" || a.Unanswered {
		t.Error(show(a))
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{}); err != nil {
		t.Errorf("zero value: %v", err)
	}
	_, err := New(Options{
		Timeout: -1, Ports: []int{0, 70000}, MaxIdleConns: -1, UserAgent: "a\nb",
		Allow: []netip.Prefix{{}, netip.MustParsePrefix("::ffff:10.0.0.0/104")},
	})
	for _, part := range []string{"timeout", "port 0", "port 70000", "idle", "user agent", "allow invalid", "allow ::ffff:"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("no word about %s in: %v", part, err)
		}
	}
	if _, err := New(Options{Ports: []int{}}); err == nil {
		t.Error("no port at all was accepted")
	}
	if _, err := New(Options{Secrets: []relay.Secret{"whsec_short"}}); err == nil || strings.Contains(err.Error(), "short") {
		t.Errorf("bad secret: %v", err)
	}
}

// A Sender used from many goroutines at once.
func TestConcurrent(t *testing.T) {
	r := newReceiver(t, nil)
	s := newSender(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if a := s.Send(t.Context(), relay.Endpoint{}, webhookTo(r.URL)); a.Status != http.StatusOK {
					t.Error(show(a))
				}
			}
		})
	}
	wg.Wait()
	s.CloseIdle()
	if n, _ := r.counts(); n != 160 {
		t.Errorf("%d requests", n)
	}
}

func BenchmarkSend(b *testing.B) {
	for _, tls := range []bool{false, true} {
		b.Run(fmt.Sprintf("tls=%v", tls), func(b *testing.B) {
			r := quietServer(b, tls)
			s := newSender(b, func(o *Options) { o.RootCAs = roots(r) })
			w := webhookTo(r.URL)
			w.Body = bytes.Repeat([]byte("x"), 2048)
			b.ReportAllocs()
			for b.Loop() {
				if a := s.Send(b.Context(), relay.Endpoint{}, w); a.Status != http.StatusOK {
					b.Fatal(show(a))
				}
			}
		})
	}
}
