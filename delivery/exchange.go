package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/relaywebhooks/relay"
)

// maxDrain is how many bytes of an answer are read so that its connection can
// be used again; a longer one costs the connection instead.
const maxDrain = 64 << 10

// exchange watches one request and its answer.
type exchange struct {
	timeout   time.Duration
	expired   failure // the cause of our own deadline
	certified bool    // relay has a certificate to show

	connected atomic.Bool
	reused    atomic.Bool // the connection has served another exchange before
	answered  atomic.Bool // a byte of the answer came
	conn      atomic.Pointer[shared]
	dialled   atomic.Pointer[shared] // for this exchange, though it may have got another
}

// exchangeKey is for dialling alone. net/http does not say over which connection an
// exchange failed if HTTP/2 was to be spoken and the connection broke at once.
type exchangeKey struct{}

func (x *exchange) watch(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, exchangeKey{}, x)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			x.connected.Store(true)
			x.reused.Store(info.Reused)
			x.enter(info.Conn)
		},
		GotFirstResponseByte: func() { x.answered.Store(true) },
	})
}

// enter counts this exchange among those of a TLS connection.
func (x *exchange) enter(conn net.Conn) {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return
	}
	if c, ok := secure.NetConn().(*shared); ok {
		c.enter()
		if before := x.conn.Swap(c); before != nil {
			before.leave(true) // net/http gave that one up
		}
	}
}

// do sends the request and reads the answer into the attempt.
func (x *exchange) do(t http.RoundTripper, req *http.Request, a *relay.Attempt) (err error) {
	ended := false // the whole answer was read
	defer func() {
		if c := x.conn.Load(); c != nil {
			c.leave(!ended)
		}
	}()
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	a.Status, a.Header = resp.StatusCode, resp.Header
	if resp.StatusCode == http.StatusSwitchingProtocols {
		a.Kind = relay.Response // and nothing more: closing it closes the connection
		return nil
	}
	if ended, err = readBody(resp, a); err != nil {
		return err
	}
	a.Kind = relay.Response
	return nil
}

// readBody keeps the first part of the body, as it is. Of a longer one it reads
// on for a while, so that the connection stays usable; what happens to that
// rest changes nothing but that.
func readBody(resp *http.Response, a *relay.Attempt) (ended bool, err error) {
	if resp.ContentLength == 0 {
		return true, nil
	}
	var kept bytes.Buffer
	if n := resp.ContentLength; n > 0 {
		kept.Grow(int(min(n, relay.MaxResponseBody)) + bytes.MinRead)
	}
	_, err = kept.ReadFrom(io.LimitReader(resp.Body, relay.MaxResponseBody+1))
	a.Body = kept.Bytes()
	if err != nil {
		a.Truncated = true
		return false, err
	}
	if len(a.Body) <= relay.MaxResponseBody {
		return true, nil
	}
	a.Body, a.Truncated = a.Body[:relay.MaxResponseBody], true
	if resp.ContentLength <= maxDrain {
		_, err := io.CopyN(io.Discard, resp.Body, maxDrain-relay.MaxResponseBody)
		ended = errors.Is(err, io.EOF)
	}
	return ended, nil
}
