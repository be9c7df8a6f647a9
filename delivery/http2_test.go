package delivery

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

// Types of HTTP/2 frames.
const (
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	framePing     = 6
	frameGoAway   = 7
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

// An endpoint that floods the connection is cut off when its exchange fails.
func TestHTTP2FloodsEnd(t *testing.T) {
	floods := map[string]string{
		"PING":     frame(framePing, 0, "12345678"),
		"SETTINGS": frame(frameSettings, 0, ""),
	}
	for name, flood := range floods {
		ended := make(chan struct{})
		url, send := rawHTTP2(t, func(c net.Conn, _ uint32) {
			go func() { _, _ = io.Copy(io.Discard, c) }()
			forever(c, flood)
			close(ended)
		})
		a := send(webhookTo(url), 200*time.Millisecond)
		if a.Kind != relay.Error || a.Class == "" {
			t.Errorf("%s: %s", name, show(a))
		}
		select {
		case <-ended:
		case <-time.After(2 * time.Second):
			t.Errorf("%s: goes on after the exchange", name)
		}
	}
}
