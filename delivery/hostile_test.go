package delivery

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

// answerWith reads a request, shows its header if asked to, and writes an
// answer.
func answerWith(see func(http.Header), answer string) func(int, net.Conn) {
	return func(_ int, c net.Conn) {
		q, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return
		}
		if see != nil {
			see(q.Header)
		}
		_, _ = io.WriteString(c, answer)
		untilClosed(c)
	}
}

// forever writes a text until the other end has had enough.
func forever(c net.Conn, text string) {
	block := strings.Repeat(text, 1+4096/len(text))
	for {
		if _, err := io.WriteString(c, block); err != nil {
			return
		}
	}
}

// drip writes a byte every few milliseconds.
func drip(c net.Conn, text string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
			return
		}
		<-tick.C
	}
}

const (
	okHead      = "HTTP/1.1 200 OK\r\n"
	chunkedHead = okHead + "Transfer-Encoding: chunked\r\n\r\n"
)

// hostile are answers that no receiver should give. Each serve takes over after
// the request was read.
var hostile = []struct {
	name  string
	serve func(c net.Conn)
	class string // "" for a response
	want  int    // the status, also of a failure that came after it
}{
	{"never answers", untilClosed, "timeout", 0},
	{"slow status line", func(c net.Conn) { drip(c, "HTTP/1.1 200 ") }, "timeout", 0},
	{"slow headers", func(c net.Conn) { write(c, okHead); drip(c, "X-Y: z\r\n") }, "timeout", 0},
	{"endless headers", func(c net.Conn) { write(c, okHead); forever(c, "X-Y: z\r\n") }, "protocol", 0},
	{"endless header line", func(c net.Conn) { write(c, okHead+"X: "); forever(c, "x") }, "protocol", 0},
	{"endless status line", func(c net.Conn) { write(c, "HTTP/1.1 200 "); forever(c, "x") }, "protocol", 0},
	{"endless interim answers", func(c net.Conn) { forever(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n") }, "protocol", 0},
	{"endless continues", func(c net.Conn) { forever(c, "HTTP/1.1 100 Continue\r\n\r\n") }, "protocol", 0},
	{"slow continues", func(c net.Conn) { drip(c, "HTTP/1.1 100 Continue\r\n\r\n") }, "timeout", 0},
	{"endless body", func(c net.Conn) { write(c, okHead+"\r\n"); forever(c, "x") }, "", 200},
	{"endless body with a length", func(c net.Conn) {
		write(c, okHead+"Content-Length: 999999999999\r\n\r\n")
		forever(c, "x")
	}, "", 200},
	{"endless chunked body", func(c net.Conn) { write(c, chunkedHead); forever(c, "400\r\n"+strings.Repeat("x", 0x400)+"\r\n") }, "", 200},
	{"slow body", func(c net.Conn) { write(c, okHead+"\r\n"); drip(c, "x") }, "timeout", 200},
	{"endless chunk extension", func(c net.Conn) { write(c, chunkedHead+"1;"); forever(c, "x") }, "protocol", 200},
	{"endless tiny chunks", func(c net.Conn) { write(c, chunkedHead); forever(c, "1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\nx\r\n") }, "protocol", 200},
	{"endless trailer", func(c net.Conn) { write(c, chunkedHead+"0\r\n"); forever(c, "X-Y: z\r\n") }, "any", 200},
	{"bad chunk", func(c net.Conn) { write(c, chunkedHead+"zz\r\n") }, "protocol", 200},
	{"huge chunk", func(c net.Conn) { write(c, chunkedHead+"ffffffffffffffffff\r\n") }, "protocol", 200},
	{"truncated body", func(c net.Conn) { write(c, okHead+"Content-Length: 10\r\n\r\nhalf"); c.Close() }, "reset", 200},
	{"truncated chunked body", func(c net.Conn) { write(c, chunkedHead+"5\r\nhe"); c.Close() }, "reset", 200},
	{"two lengths", func(c net.Conn) { write(c, okHead+"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy") }, "protocol", 0},
	{"negative length", func(c net.Conn) { write(c, okHead+"Content-Length: -1\r\n\r\n") }, "protocol", 0},
	{"unknown transfer encoding", func(c net.Conn) { write(c, okHead+"Transfer-Encoding: gzip\r\n\r\n") }, "protocol", 0},
	{"length and chunked", func(c net.Conn) {
		write(c, okHead+"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
	}, "", 200},
	{"folded header", func(c net.Conn) { write(c, okHead+"X: a\r\n b\r\nContent-Length: 0\r\n\r\n") }, "", 200},
	{"status 999", func(c net.Conn) { write(c, "HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n") }, "", 999},
	{"status 099", func(c net.Conn) { write(c, "HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n") }, "", 99},
	{"status 2000", func(c net.Conn) { write(c, "HTTP/1.1 2000 No\r\n\r\n") }, "protocol", 0},
	{"status -1", func(c net.Conn) { write(c, "HTTP/1.1 -01 No\r\n\r\n") }, "protocol", 0},
	{"HTTP/9.9", func(c net.Conn) { write(c, "HTTP/9.x 200 No\r\n\r\n") }, "protocol", 0},
	{"banner of another protocol", func(c net.Conn) { write(c, "SSH-2.0-OpenSSH_9.2\r\n") }, "protocol", 0},
	{"TLS alert", func(c net.Conn) { write(c, "\x15\x03\x01\x00\x02\x02\x28"); c.Close() }, "any", 0},
	{"header without a colon", func(c net.Conn) { write(c, okHead+"nonsense\r\n\r\n") }, "protocol", 0},
	{"NUL in a header", func(c net.Conn) { write(c, okHead+"X: a\x00b\r\nContent-Length: 0\r\n\r\n") }, "any", 0},
	{"reset in the headers", func(c net.Conn) { write(c, okHead+"X: "); reset(c) }, "reset", 0},
	{"closed at once", func(c net.Conn) { c.Close() }, "reset", 0},
	{"reset at once", reset, "reset", 0},
	{"switching protocols", func(c net.Conn) {
		write(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello")
		untilClosed(c)
	}, "", 101},
	{"no content with content", func(c net.Conn) { write(c, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello") }, "", 204},
	{"bad location", func(c net.Conn) { write(c, "HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n") }, "", 302},
	{"reason phrase with odd bytes", func(c net.Conn) {
		write(c, "HTTP/1.1 200 "+strings.Repeat("\x00\x1b[2J", 200)+"\r\nContent-Length: 0\r\n\r\n")
	}, "", 200},
	{"thousands of cookies", func(c net.Conn) {
		write(c, okHead+strings.Repeat("Set-Cookie: a\r\n", 2000)+"Content-Length: 0\r\n\r\n")
	}, "", 200},
	{"length beyond all bounds", func(c net.Conn) { write(c, okHead+"Content-Length: 99999999999999999999\r\n\r\n") }, "protocol", 0},
}

func write(c net.Conn, text string) { _, _ = io.WriteString(c, text) }

// Whatever an endpoint answers, an exchange ends in time, in bounded memory,
// and in an attempt that says what was wrong.
func TestHostileAnswers(t *testing.T) {
	const timeout = 250 * time.Millisecond
	s := newSender(t, func(o *Options) { o.Timeout = timeout })
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			url, accepted := rawServer(t, func(_ int, c net.Conn) {
				if readRequest(bufio.NewReader(c)) == nil {
					h.serve(c)
				}
			})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			a := s.Send(t.Context(), relay.Endpoint{}, webhookTo(url+"?token=s3cret"))
			runtime.ReadMemStats(&after)

			switch {
			case h.class == "any":
			case h.class == "" && (a.Kind != relay.Response || a.Class != "" || a.Err != ""):
				t.Errorf("got %s, want a response", show(a))
			case h.class != "" && (a.Kind != relay.Error || a.Class != h.class || a.Err == ""):
				t.Errorf("got %s, want class %s", show(a), h.class)
			}
			if a.Status != h.want && h.name != "NUL in a header" {
				t.Errorf("status %d, want %d", a.Status, h.want)
			}
			if a.Took > timeout+500*time.Millisecond {
				t.Errorf("took %v", a.Took)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
				t.Errorf("allocated %d KiB", n>>10)
			}
			if len(a.Body) > relay.MaxResponseBody || strings.Contains(a.Err, "s3cret") || a.Unanswered || accepted() != 1 {
				t.Errorf("%s after %d connections", show(a), accepted())
			}
			if a.Status == http.StatusSwitchingProtocols && a.Body != nil {
				t.Errorf("body %q", a.Body)
			}
		})
	}
}

// An endpoint that echoes its request does not get the query into the error.
func TestEchoedQuery(t *testing.T) {
	url, _ := rawServer(t, func(_ int, c net.Conn) { _, _ = io.Copy(c, c) })
	a := newSender(t).Send(t.Context(), relay.Endpoint{}, webhookTo(url+"?token=s3cret"))
	wantFailure(t, a, relay.Error, "protocol")
	if strings.Contains(a.Err, "s3cret") {
		t.Error(a.Err)
	}
}

func TestLargeAnswers(t *testing.T) {
	for _, c := range []struct {
		size  int
		conns int // after two exchanges
	}{
		{relay.MaxResponseBody - 1, 1}, {relay.MaxResponseBody, 1}, {relay.MaxResponseBody + 1, 1}, {maxDrain - 1, 1}, {1 << 20, 2},
	} {
		for _, chunked := range []bool{false, true} {
			r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
				if chunked {
					_ = http.NewResponseController(w).Flush()
				}
				_, _ = w.Write(bytes.Repeat([]byte("x"), c.size))
			})
			s := newSender(t)
			for range 2 {
				a := s.Send(t.Context(), relay.Endpoint{}, webhookTo(r.URL))
				if a.Kind != relay.Response || len(a.Body) != min(c.size, relay.MaxResponseBody) || a.Truncated != (c.size > relay.MaxResponseBody) {
					t.Errorf("%d bytes: %s", c.size, show(a))
				}
			}
			if _, conns := r.counts(); conns != c.conns {
				t.Errorf("%d bytes, chunked %v: %d connections, want %d", c.size, chunked, conns, c.conns)
			}
		}
	}
}

// A gzip bomb is kept as it came.
func TestCompressedAnswersStayCompressed(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 8<<20)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	a := newSender(t).Send(t.Context(), relay.Endpoint{}, webhookTo(r.URL))
	wantResponse(t, a, http.StatusOK, bomb.Bytes()[:min(bomb.Len(), relay.MaxResponseBody)])
}

func TestOddBytesStayAsTheyAre(t *testing.T) {
	body := []byte("\x00\xff\xfe\x1b[2J" + strings.Repeat("\x1b", 4096))
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	wantResponse(t, newSender(t).Send(t.Context(), relay.Endpoint{}, webhookTo(r.URL)), http.StatusOK, body)
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	target, accepted := rawServer(t, nil)
	for _, status := range []int{300, 301, 302, 303, 304, 307, 308} {
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", target)
			w.Header().Set("Refresh", "0; url="+target)
			w.Header().Set("Set-Cookie", "a=b")
			w.WriteHeader(status)
		})
		s := newSender(t)
		for range 2 {
			wantResponse(t, s.Send(t.Context(), relay.Endpoint{}, webhookTo(r.URL)), status, nil)
		}
		r.mu.Lock()
		if len(r.requests) != 2 || r.requests[1].Header["Cookie"] != nil {
			t.Errorf("%d: %d requests, cookie %q", status, len(r.requests), r.requests[1].Header["Cookie"])
		}
		r.mu.Unlock()
	}
	if n := accepted(); n != 0 {
		t.Errorf("%d connections to the target", n)
	}
}

// An endpoint that answers without reading the body gets its answer recorded.
func TestEarlyAnswer(t *testing.T) {
	url, _ := rawServer(t, func(_ int, c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		write(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
		untilClosed(c)
	})
	w := webhookTo(url)
	w.Body = bytes.Repeat([]byte("x"), relay.MaxBody)
	wantResponse(t, newSender(t).Send(t.Context(), relay.Endpoint{}, w), http.StatusRequestEntityTooLarge, []byte("no"))
}
