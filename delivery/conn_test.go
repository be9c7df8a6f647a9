package delivery

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/relaytest/hostile"
)

func TestConnectionsAreReused(t *testing.T) {
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	s := newSender(t)
	for range 50 {
		wantResponse(t, s.Send(t.Context(), relay.Endpoint{}, webhookTo(r.URL)), http.StatusOK, []byte("ok"))
	}
	if requests, conns := r.counts(); requests != 50 || conns != 1 {
		t.Errorf("%d requests over %d connections", requests, conns)
	}
	s.CloseIdle()
	wantResponse(t, s.Send(t.Context(), relay.Endpoint{}, webhookTo(r.URL)), http.StatusOK, []byte("ok"))
	if _, conns := r.counts(); conns != 2 {
		t.Errorf("%d connections after CloseIdle", conns)
	}
}

// deaths are ways in which a connection that is kept open dies under the next
// request, after the whole of it has been read.
var deaths = map[string]func(net.Conn){
	"FIN": func(c net.Conn) { c.Close() },
	"RST": reset,
}

// However a kept connection dies, and whatever the method, one Send is at most
// one request on the wire; net/http, left alone, repeats a GET.
func TestOneRequestPerSend(t *testing.T) {
	for how, die := range deaths {
		for _, method := range []string{"POST", "PUT", "DELETE", "GET", "HEAD", "OPTIONS"} {
			for _, body := range []string{"", "body"} {
				t.Run(how+" "+method+" "+body, func(t *testing.T) {
					w := webhookTo("")
					w.Method, w.Body = method, []byte(body)
					for range 5 { // net/http keeps no connection whose writer gets no time for 50 ms
						if diesUnderTheSecond(t, w, die) {
							return
						}
					}
					t.Error("no connection was used again")
				})
			}
		}
	}
}

// diesUnderTheSecond sends a webhook twice over a connection that ends under the
// second request, and once more. It reports false if the connection was not used
// again: then there is nothing to see.
func diesUnderTheSecond(t *testing.T, w relay.Webhook, die func(net.Conn)) bool {
	t.Helper()
	var requests atomic.Int32
	url, accepted := rawServer(t, func(_ int, c net.Conn) {
		r := bufio.NewReader(c)
		for n := 1; readRequest(r) == nil; n++ {
			requests.Add(1)
			if n == 2 {
				die(c)
				return
			}
			write(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	s := newSender(t)
	w.URL = url
	wantResponse(t, s.Send(t.Context(), relay.Endpoint{}, w), http.StatusNoContent, nil)
	a := s.Send(t.Context(), relay.Endpoint{}, w)
	if a.Status == http.StatusNoContent && requests.Load() == 2 && accepted() == 2 {
		return false
	}
	wantFailure(t, a, relay.Error, "reset")
	if !a.Unanswered || requests.Load() != 2 || accepted() != 1 {
		t.Errorf("%s; %d requests over %d connections", show(a), requests.Load(), accepted())
	}
	// What policy does with Unanswered: once more, on a new connection.
	wantResponse(t, s.Send(t.Context(), relay.Endpoint{}, w), http.StatusNoContent, nil)
	if requests.Load() != 3 || accepted() != 2 {
		t.Errorf("%d requests over %d connections", requests.Load(), accepted())
	}
	return true
}

// A fresh connection that dies is no reason for a quick second try, and neither
// is one that dies in the middle of an answer, or is silent.
func TestNotUnanswered(t *testing.T) {
	second := func(serve func(net.Conn)) func(int, net.Conn) {
		return func(_ int, c net.Conn) {
			r := bufio.NewReader(c)
			if readRequest(r) != nil {
				return
			}
			write(c, "HTTP/1.1 204 No Content\r\n\r\n")
			if readRequest(r) == nil {
				serve(c)
			}
		}
	}
	cases := map[string]struct {
		first bool
		serve func(int, net.Conn)
		class string
	}{
		"fresh":         {true, func(_ int, c net.Conn) { _ = readRequest(bufio.NewReader(c)) }, "reset"},
		"in the middle": {false, second(func(c net.Conn) { write(c, hostile.OK+"X: ") }), "reset"},
		"silent":        {false, second(untilClosed), "timeout"},
	}
	for name, c := range cases {
		url, _ := rawServer(t, c.serve)
		s := newSender(t, func(o *Options) { o.Timeout = 200 * time.Millisecond })
		a := s.Send(t.Context(), relay.Endpoint{}, webhookTo(url))
		if !c.first {
			wantResponse(t, a, http.StatusNoContent, nil)
			a = s.Send(t.Context(), relay.Endpoint{}, webhookTo(url))
		}
		wantFailure(t, a, relay.Error, c.class)
		if a.Unanswered {
			t.Errorf("%s: %s", name, show(a))
		}
	}
}

// A server that closes every connection as soon as it has answered, without
// saying so: whatever the timing, as many requests as Sends arrive, or fewer.
func TestStaleConnections(t *testing.T) {
	var requests atomic.Int32
	url, _ := rawServer(t, func(_ int, c net.Conn) {
		if readRequest(bufio.NewReader(c)) == nil {
			requests.Add(1)
			write(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	s := newSender(t)
	var wg sync.WaitGroup
	var sent, answered atomic.Int32
	for range 4 {
		wg.Go(func() {
			for range 100 {
				sent.Add(1)
				switch a := s.Send(t.Context(), relay.Endpoint{}, webhookTo(url)); {
				case a.Kind == relay.Response:
					answered.Add(1)
				case !a.Unanswered:
					t.Error(show(a))
				}
			}
		})
	}
	wg.Wait()
	if r := requests.Load(); r > sent.Load() || r != answered.Load() {
		t.Errorf("%d sends, %d requests, %d answers", sent.Load(), r, answered.Load())
	}
}

func TestConnectFailures(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	a := newSender(t).Send(t.Context(), relay.Endpoint{}, webhookTo("http://"+l.Addr().String()+"/?s3cret"))
	wantFailure(t, a, relay.Error, "connect")
	if want := l.Addr().String() + ": connection refused"; a.Err != want {
		t.Errorf("got %q, want %q", a.Err, want)
	}
}
