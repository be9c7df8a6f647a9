package relaytest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Receiver is an endpoint that records what it gets and answers as it is told.
// It is safe for concurrent use.
type Receiver struct {
	URL string

	t        testing.TB
	mu       sync.Mutex
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

// NewReceiver starts a receiver that answers 200 until it is told otherwise.
// It stops with the test.
func NewReceiver(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{t: t, arrived: make(chan struct{}), always: Status(http.StatusOK)}
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

// ServeHTTP records a request and answers it.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Logf("relaytest: the receiver could not read a body: %v", err)
	}
	r.mu.Lock()
	r.requests = append(r.requests, Request{
		Method: req.Method, Path: req.URL.RequestURI(), Header: req.Header.Clone(), Body: body, At: time.Now(),
	})
	answer := r.always
	if len(r.answers) > 0 {
		answer, r.answers = r.answers[0], r.answers[1:]
	}
	close(r.arrived)
	r.arrived = make(chan struct{})
	r.mu.Unlock()
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
