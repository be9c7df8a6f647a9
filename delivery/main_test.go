package delivery

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log" //nolint:depguard // net/http knows no other
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/relaytest/hostile"
)

// The receivers that the tests stand on.
var (
	rawServer   = hostile.Server
	readRequest = hostile.ReadRequest
	untilClosed = hostile.UntilClosed
	write       = hostile.Write
	forever     = hostile.Forever
	drip        = hostile.Drip
	reset       = hostile.Reset
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // where net/http complains of each frame that it does not know
	goleak.VerifyTestMain(m)
}

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// newSender makes a Sender that may call this machine, and signs.
func newSender(t testing.TB, edit ...func(*Options)) *Sender {
	t.Helper()
	o := Options{
		Timeout: 5 * time.Second, ConnectTimeout: 2 * time.Second,
		Allow: loopback, AnyPort: true, Secrets: []relay.Secret{testSecret},
	}
	for _, e := range edit {
		e(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.CloseIdle)
	return s
}

func webhookTo(url string) relay.Webhook {
	return relay.Webhook{ID: "msg_1", URL: url, Body: []byte(`{"n":1}`)}
}

// captured is a request as it came over the wire.
type captured struct {
	*http.Request
	body []byte
}

// receiver is a real server. Every request that it gets is verified by the
// official library before answer is called.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	requests []captured
	conns    map[string]bool
}

func newReceiver(t testing.TB, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := unstartedReceiver(t, answer)
	r.Start()
	return r
}

func unstartedReceiver(t testing.TB, answer http.HandlerFunc) *receiver {
	t.Helper()
	official, err := standardwebhooks.NewWebhook(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{conns: make(map[string]bool)}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Errorf("receiver: read the body: %v", err)
		}
		if err := official.Verify(body, q.Header); err != nil {
			t.Errorf("receiver: the official library: %v", err)
		}
		r.mu.Lock()
		r.requests = append(r.requests, captured{q, body})
		r.conns[q.RemoteAddr] = true
		r.mu.Unlock()
		if answer != nil {
			answer(w, q)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// only returns the one request that came.
func (r *receiver) only(t *testing.T) captured {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.requests) != 1 {
		t.Fatalf("%d requests came, want 1", len(r.requests))
	}
	return r.requests[0]
}

func (r *receiver) counts() (requests, conns int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests), len(r.conns)
}

func wantResponse(t *testing.T, a relay.Attempt, status int, body []byte) {
	t.Helper()
	if a.Kind != relay.Response || a.Status != status || !bytes.Equal(a.Body, body) || a.Class != "" || a.Err != "" || a.Unanswered {
		t.Fatalf("got %s, want a response %d %.60q", show(a), status, body)
	}
	if a.Started.IsZero() || a.Took <= 0 {
		t.Errorf("started %v, took %v", a.Started, a.Took)
	}
}

func wantFailure(t *testing.T, a relay.Attempt, kind relay.Kind, class string) {
	t.Helper()
	if a.Kind != kind || a.Class != class || a.Err == "" {
		t.Fatalf("got %s, want %s of class %s", show(a), kind, class)
	}
	if len(a.Err) > 320 {
		t.Errorf("the text has %d bytes", len(a.Err))
	}
}

func show(a relay.Attempt) string {
	return fmt.Sprintf("%s status=%d class=%q err=%q body=%.60q (%d, truncated=%v) unanswered=%v took=%v",
		a.Kind, a.Status, a.Class, a.Err, a.Body, len(a.Body), a.Truncated, a.Unanswered, a.Took)
}

var errOdd = errors.New("odd")
