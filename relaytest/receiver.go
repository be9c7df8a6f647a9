package relaytest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/signature"
)

// Receiver is an endpoint that records what it gets and answers as it is told.
// What is not signed with a secret that it trusts fails the test. It is safe
// for concurrent use.
type Receiver struct {
	URL string

	t        testing.TB
	mu       sync.Mutex
	trusted  []verifier
	answers  []http.HandlerFunc // used up one by one
	always   http.HandlerFunc   // then this
	requests []Request
	arrived  chan struct{} // closed and replaced at each arrival
	read     int           // how many Next has handed out
}

// Request is one request that a receiver got.
type Request struct {
	Method, Path string
	Header       http.Header
	Body         []byte
	At           time.Time
}

// ID is the webhook id of the request.
func (r Request) ID() string { return r.Header.Get("webhook-id") }

// NewReceiver starts a receiver that answers 200 and trusts [Secret] until it
// is told otherwise. It stops with the test.
func NewReceiver(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{t: t, arrived: make(chan struct{}), always: Status(http.StatusOK)}
	r.Trust(Secret)
	server := httptest.NewServer(r)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	r.URL = server.URL
	return r
}

// Status answers with a status code and no body.
func Status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// Answer sets the status codes of the next requests, one each. After them the
// receiver answers as before.
func (r *Receiver) Answer(codes ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, code := range codes {
		r.answers = append(r.answers, Status(code))
	}
}

// Always sets how the receiver answers when no single answer is left.
func (r *Receiver) Always(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.always = h
}

// Trust sets the secrets, whsec_… or whpk_…, of which one must have signed each
// request from now on. With none, requests are not verified.
func (r *Receiver) Trust(secrets ...relay.Secret) {
	r.t.Helper()
	trusted, err := verifiers(secrets)
	if err != nil {
		r.t.Fatalf("relaytest: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trusted = trusted
}

// ServeHTTP records a request, verifies and answers it.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Logf("relaytest: the receiver could not read a body: %v", err)
	}
	r.mu.Lock()
	r.requests = append(r.requests, Request{
		Method: req.Method, Path: req.URL.RequestURI(), Header: req.Header.Clone(), Body: body, At: time.Now(),
	})
	trusted, answer := r.trusted, r.always
	if len(r.answers) > 0 {
		answer, r.answers = r.answers[0], r.answers[1:]
	}
	close(r.arrived)
	r.arrived = make(chan struct{})
	r.mu.Unlock()
	if fault := verify(trusted, req.Header, body); err == nil && fault != nil {
		r.t.Errorf("relaytest: %s %s, webhook-id %q: %v", req.Method, req.URL.Path, req.Header.Get(signature.HeaderID), fault)
	}
	answer(w, req)
}

// Next waits for the next request that it has not handed out yet.
func (r *Receiver) Next() Request {
	r.t.Helper()
	late := time.NewTimer(Patience)
	defer late.Stop()
	for {
		r.mu.Lock()
		if r.read < len(r.requests) {
			r.read++
			defer r.mu.Unlock()
			return r.requests[r.read-1]
		}
		arrived := r.arrived
		r.mu.Unlock()
		select {
		case <-arrived:
		case <-late.C:
			r.t.Fatalf("relaytest: no request within %v", Patience)
		}
	}
}

// Requests returns all requests so far.
func (r *Receiver) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.requests...)
}
