package delivery

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/relaytest/hostile"
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

// Whatever an endpoint answers, an exchange ends in time, in bounded memory,
// and in an attempt that says what was wrong.
func TestHostileAnswers(t *testing.T) {
	const timeout = 250 * time.Millisecond
	s := newSender(t, func(o *Options) { o.Timeout = timeout })
	for _, h := range hostile.Answers() {
		t.Run(h.Name, func(t *testing.T) {
			url, accepted := rawServer(t, func(_ int, c net.Conn) {
				if readRequest(bufio.NewReader(c)) == nil {
					h.Serve(c)
				}
			})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			a := s.Send(t.Context(), relay.Endpoint{}, webhookTo(url+"?token=s3cret"))
			runtime.ReadMemStats(&after)

			switch {
			case h.Class == hostile.Any:
			case h.Class == "" && (a.Kind != relay.Response || a.Class != "" || a.Err != ""):
				t.Errorf("got %s, want a response", show(a))
			case h.Class != "" && (a.Kind != relay.Error || a.Class != h.Class || a.Err == ""):
				t.Errorf("got %s, want class %s", show(a), h.Class)
			}
			if a.Status != h.Status && h.Class != hostile.Any {
				t.Errorf("status %d, want %d", a.Status, h.Status)
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

// S2: an endpoint that echoes its request does not get the query into the error.
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

// R17: of a body that comes as fast as the machine can send it, no more is taken
// than is read of one, and what the sockets hold.
func TestFastBodiesAreCut(t *testing.T) {
	sent := make(chan int, 1)
	url, _ := rawServer(t, func(_ int, c net.Conn) {
		if readRequest(bufio.NewReader(c)) != nil {
			return
		}
		write(c, hostile.OK+"\r\n")
		block, total := make([]byte, 64<<10), 0
		for {
			n, err := c.Write(block)
			if total += n; err != nil {
				sent <- total
				return
			}
		}
	})
	a := newSender(t).Send(t.Context(), relay.Endpoint{}, webhookTo(url))
	if a.Kind != relay.Response || len(a.Body) != relay.MaxResponseBody || !a.Truncated {
		t.Error(show(a))
	}
	if n := <-sent; n > 32<<20 {
		t.Errorf("%d MiB were sent", n>>20)
	}
}

// R6: a gzip bomb is kept as it came.
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

func TestOddBytesStayAsTheyAre(t *testing.T) { // R7
	body := []byte("\x00\xff\xfe\x1b[2J" + strings.Repeat("\x1b", 4096))
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	wantResponse(t, newSender(t).Send(t.Context(), relay.Endpoint{}, webhookTo(r.URL)), http.StatusOK, body)
}

func TestRedirectsAreNotFollowed(t *testing.T) { // R2, R10, R11
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
	for _, status := range []int{http.StatusOK, http.StatusRequestEntityTooLarge} {
		t.Run(fmt.Sprint("R12 ", status), func(t *testing.T) {
			url, _ := rawServer(t, func(_ int, c net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				write(c, fmt.Sprintf("HTTP/1.1 %d Early\r\nContent-Length: 2\r\n\r\nno", status))
				untilClosed(c)
			})
			w := webhookTo(url)
			w.Body = bytes.Repeat([]byte("x"), relay.MaxBody)
			wantResponse(t, newSender(t).Send(t.Context(), relay.Endpoint{}, w), status, []byte("no"))
		})
	}
}
