package delivery

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"
)

// Whatever a proxy answers to CONNECT, relay ends in time with a connection or with
// a reason that holds nothing of the answer, and takes no byte of what follows for
// the endpoint's.
func FuzzProxyAnswer(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 403 canary\r\n\r\n",
		"HTTP/1.1 407 x\r\nProxy-Authenticate: canary\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 502 x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 299\r\nContent-Length: 5\r\n\r\n", "SSH-2.0-canary\r\n",
	} {
		f.Add([]byte(answer))
	}
	p, err := newProxy(Options{Proxy: "http://user:canary@proxy.example"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		ours, theirs := net.Pipe()
		deadline := time.Now().Add(10 * time.Second)
		if ours.SetDeadline(deadline) != nil || theirs.SetDeadline(deadline) != nil {
			t.Fatal("no deadline")
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = theirs.Read(make([]byte, 4096)) // the request
			_, _ = theirs.Write(answer)
			_ = theirs.Close()
		}()
		err := p.ask(ours, "host.example:443")
		if isTimeout(err) {
			t.Errorf("no end: %v", err)
		}
		if err == nil {
			if rest, _ := io.ReadAll(ours); !strings.HasPrefix(string(answer), "HTTP/") || len(rest) > len(answer) {
				t.Errorf("%q was taken for a connection, with %q to come", answer, rest)
			}
		} else if f, ok := errors.AsType[*failure](err); !ok || f.text == "" || len(f.text) > 200 || strings.Contains(f.text, "canary") ||
			strings.ContainsFunc(f.text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%T: %q", err, err)
		}
		_ = ours.Close()
		<-ended
	})
}
