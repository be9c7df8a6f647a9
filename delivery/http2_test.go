package delivery

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

// Types of HTTP/2 frames.
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePush         = 5
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9
)

func frame(kind byte, stream uint32, payload string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, 0)
	b = binary.BigEndian.AppendUint32(b, stream)
	return string(b) + payload
}

// rawHTTP2 is a server that shakes hands, sends its settings and calls serve
// for each request, as soon as its headers have come.
func rawHTTP2(t *testing.T, serve func(c net.Conn, stream uint32)) (url string, send func(relay.Webhook, time.Duration) relay.Attempt) {
	t.Helper()
	ours := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}, NextProtos: []string{"h2"}}
	url, _ = rawServer(t, func(_ int, plain net.Conn) {
		c := tls.Server(plain, config)
		preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
		if _, err := io.ReadFull(c, preface); err != nil {
			return
		}
		write(c, frame(frameSettings, 0, ""))
		head := make([]byte, 9)
		for {
			if _, err := io.ReadFull(c, head); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head)>>8)); err != nil {
				return
			}
			if head[3] == frameHeaders {
				serve(c, binary.BigEndian.Uint32(head[5:]))
			}
		}
	})
	s := newSender(t, func(o *Options) { o.RootCAs = ours.pool() })
	return strings.Replace(url, "http:", "https:", 1), func(w relay.Webhook, timeout time.Duration) relay.Attempt {
		return s.Send(t.Context(), relay.Endpoint{HTTP2: true, Timeout: timeout}, w)
	}
}

// However an endpoint refuses a stream, one Send is one request; net/http, left
// alone, repeats it hundreds of times a second.
func TestOneHTTP2RequestPerSend(t *testing.T) {
	refusals := []struct {
		name, class string
		refuse      func(c net.Conn, stream uint32)
	}{
		{"REFUSED_STREAM", "reset", func(c net.Conn, stream uint32) { write(c, frame(frameReset, stream, "\x00\x00\x00\x07")) }},
		{"PROTOCOL_ERROR", "protocol", func(c net.Conn, stream uint32) { write(c, frame(frameReset, stream, "\x00\x00\x00\x01")) }},
		{"GOAWAY", "reset", func(c net.Conn, _ uint32) { write(c, frame(frameGoAway, 0, "\x00\x00\x00\x00\x00\x00\x00\x00")) }},
		{"close", "reset", func(c net.Conn, _ uint32) { c.Close() }},
	}
	for _, r := range refusals {
		for _, method := range []string{"POST", "GET", "DELETE"} {
			for _, body := range []string{"", "body"} {
				var requests atomic.Int32
				url, send := rawHTTP2(t, func(c net.Conn, stream uint32) {
					requests.Add(1)
					r.refuse(c, stream)
				})
				w := webhookTo(url)
				w.Method, w.Body = method, []byte(body)
				a := send(w, 2*time.Second)
				if a.Kind != relay.Error || a.Class != r.class || requests.Load() != 1 {
					t.Errorf("%s %s %q: %s after %d requests", r.name, method, body, show(a), requests.Load())
				}
			}
		}
	}
}

// P4 and P5: an endpoint that floods the connection is cut off when its exchange
// fails, however it floods; most floods are what makes it fail.
func TestHTTP2FloodsEnd(t *testing.T) {
	answered := func(stream uint32) string { // 200, with more to come
		head := frame(frameHeaders, stream, "\x88")
		return head[:4] + "\x04" + head[5:]
	}
	floods := []struct {
		name  string
		first func(stream uint32) string
		flood func(stream uint32) string
	}{
		{"P4 PING", nil, func(uint32) string { return frame(framePing, 0, "12345678") }},
		{"P4 SETTINGS", nil, func(uint32) string { return frame(frameSettings, 0, "") }},
		{"P4 SETTINGS, large", nil, func(uint32) string { return frame(frameSettings, 0, strings.Repeat("\x00\x04\x00\x00\xff\xff", 100)) }},
		{"P4 WINDOW_UPDATE", nil, func(uint32) string { return frame(frameWindow, 0, "\x00\x00\x00\x01") }},
		{"P4 WINDOW_UPDATE of the stream", nil, func(s uint32) string { return frame(frameWindow, s, "\x00\x00\x00\x01") }},
		{"P4 empty DATA", answered, func(s uint32) string { return frame(frameData, s, "") }},
		{"P4 DATA", answered, func(s uint32) string { return frame(frameData, s, strings.Repeat("x", 1024)) }},
		{"P4 unknown frames", nil, func(uint32) string { return frame(99, 0, "x") }},
		{"P4 GOAWAY without end", nil, func(uint32) string { return frame(frameGoAway, 0, "\x7f\xff\xff\xff\x00\x00\x00\x00") }},
		{"P5 CONTINUATION", func(s uint32) string { return frame(frameHeaders, s, "\x88") }, func(s uint32) string { return frame(frameContinuation, s, "\x00\x01a\x01b") }},
		{"P5 PUSH_PROMISE", nil, func(s uint32) string { return frame(framePush, s, "\x00\x00\x00\x02\x88") }},
		{"P5 oversized frame", nil, func(s uint32) string { return frame(frameData, s, strings.Repeat("x", 1<<20)) }},
		{"P5 RST of other streams", nil, func(s uint32) string { return frame(frameReset, s+2, "\x00\x00\x00\x08") }},
		{"P5 HEADERS of other streams", nil, func(s uint32) string { return answered(s + 2) }},
	}
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			ended := make(chan struct{})
			url, send := rawHTTP2(t, func(c net.Conn, stream uint32) {
				go func() { _, _ = io.Copy(io.Discard, c) }()
				if f.first != nil {
					write(c, f.first(stream))
				}
				forever(c, f.flood(stream))
				close(ended)
			})
			a := send(webhookTo(url), 200*time.Millisecond)
			if a.Kind == relay.Error && a.Class == "" || a.Kind == relay.Response && f.name != "P4 DATA" || len(a.Body) > relay.MaxResponseBody {
				t.Error(show(a))
			}
			select {
			case <-ended:
			case <-time.After(maxHTTP2Idle - time.Second):
				t.Error("it goes on after the exchange")
			}
		})
	}
}

// P4: nor may one flood the connection once it has answered, until it would be
// closed for idleness.
func TestHTTP2FloodsAfterTheAnswerEnd(t *testing.T) {
	for name, flood := range map[string]string{"P4 PING": frame(framePing, 0, "12345678"), "P4 SETTINGS": frame(frameSettings, 0, "")} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			url, send := rawHTTP2(t, func(c net.Conn, stream uint32) {
				go func() { _, _ = io.Copy(io.Discard, c) }()
				head := frame(frameHeaders, stream, "\x89") // 204, and nothing more
				write(c, head[:4]+"\x05"+head[5:])
				forever(c, flood)
				close(ended)
			})
			wantResponse(t, send(webhookTo(url), 10*time.Second), http.StatusNoContent, nil)
			select {
			case <-ended:
			case <-time.After(maxHTTP2Idle - time.Second):
				t.Error("it goes on after the exchange")
			}
		})
	}
}

// P6: HTTP/2 is offered to those alone that were registered with it.
func TestWhatALPNOffers(t *testing.T) {
	ours := newAuthority(t)
	for _, c := range []struct {
		http2 bool
		want  []string
	}{{false, []string{"http/1.1"}}, {true, []string{"h2", "http/1.1"}}} {
		offered := make(chan []string, 1)
		config := &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}}
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			offered <- hello.SupportedProtos
			return nil, nil
		}
		r := unstartedReceiver(t, nil)
		r.TLS, r.EnableHTTP2 = config, true
		r.StartTLS()
		s := newSender(t, func(o *Options) { o.RootCAs = ours.pool() })
		wantResponse(t, s.Send(t.Context(), relay.Endpoint{HTTP2: c.http2}, webhookTo(r.URL)), http.StatusOK, nil)
		if got := <-offered; !slices.Equal(got, c.want) {
			t.Errorf("HTTP2 %v: offered %q", c.http2, got)
		}
	}
}

// A few bytes of compressed headers may stand for many: one of 4,000 bytes is put
// into the table, and then named sixteen thousand times: 64 MiB.
func TestHTTP2HeadersThatGrow(t *testing.T) {
	const size = 4000
	first := "\x88\x40\x01a\x7f" + string([]byte{(size-127)&0x7f | 0x80, (size - 127) >> 7}) + strings.Repeat("x", size)
	url, send := rawHTTP2(t, func(c net.Conn, stream uint32) {
		write(c, frame(frameHeaders, stream, first))
		last := frame(frameContinuation, stream, strings.Repeat("\xbe", 16<<10))
		write(c, last[:4]+"\x04"+last[5:]) // END_HEADERS
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := send(webhookTo(url), 2*time.Second)
	runtime.ReadMemStats(&after)
	wantFailure(t, a, relay.Error, "protocol")
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("allocated %d KiB for %s", n>>10, show(a))
	}
}
