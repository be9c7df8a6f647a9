package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// secret signs every request of a campaign.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // the specification's example

// plan is how the receiver treats an event. It is part of the webhook id.
type plan string

// The plans.
const (
	planOK      plan = "ok"      // 200 at once
	planDrip    plan = "drip"    // 200, byte by byte
	planFlaky   plan = "flaky"   // 500 twice, then 200
	planFail    plan = "fail"    // 500 always
	planHang    plan = "hang"    // no answer, then 200
	planReset   plan = "reset"   // a reset in the middle of the answer, then 200
	planGone    plan = "gone"    // 410, then 200: replay brings it back
	planBusy    plan = "busy"    // 200, but 429 with Retry-After first for every third
	planLate    plan = "late"    // scheduled, 200
	planInvalid plan = "invalid" // not to be read: it never gets here
	planTwin    plan = "twin"    // repeats another's idempotency key
)

// outage is what an endpoint suffers from as a whole.
type outage int

const (
	well    outage = iota
	refuses        // 503
	hangs
	limits // 429 with Retry-After
	gone   // 410
)

// receiver records every request and answers by plan. It is safe for
// concurrent use.
type receiver struct {
	history  *history
	server   *http.Server
	listener net.Listener
	official *standardwebhooks.Webhook // so that relay is not its own judge
	requests atomic.Int64

	mu      sync.Mutex
	tries   map[string]int
	outages map[string]outage    // by path
	trusted map[string][]trusted // of registered endpoints, by path
}

// trusted is a secret of a registered endpoint.
type trusted struct {
	print    string // its fingerprint
	official *standardwebhooks.Webhook
}

func newReceiver(h *history) (*receiver, error) {
	official, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, fmt.Errorf("campaign: receiver: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there at once
	if err != nil {
		return nil, fmt.Errorf("campaign: receiver: %w", err)
	}
	r := &receiver{
		history: h, listener: listener, official: official,
		tries: map[string]int{}, outages: map[string]outage{}, trusted: map[string][]trusted{},
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = r.server.Serve(listener) }() // it ends with close
	return r, nil
}

func (r *receiver) address() string { return r.listener.Addr().String() }

func (r *receiver) close() { _ = r.server.Close() }

// strike makes an endpoint as a whole sick, or well again.
func (r *receiver) strike(path string, with outage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outages[path] = with
}

// trust makes one more secret of an endpoint known, before relay signs with it.
func (r *receiver) trust(path, secret string) {
	official, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		panic(err) // it is made here
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trusted[path] = append(r.trusted[path], trusted{fingerprint(secret), official})
}

// verify checks a signature. Of a registered endpoint it says which of all secrets
// that there ever were have signed; whether they might is for the checker to say.
func (r *receiver) verify(path string, body []byte, header http.Header) (keys string, err error) {
	r.mu.Lock()
	known := r.trusted[path]
	r.mu.Unlock()
	if known == nil {
		return "", r.official.Verify(body, header)
	}
	var signed []string
	for _, k := range known {
		if k.official.Verify(body, header) == nil {
			signed = append(signed, k.print)
		}
	}
	if len(signed) == 0 {
		return "", errors.New("signed with no secret of its endpoint")
	}
	return strings.Join(signed, " "), nil
}

func (r *receiver) try(id, path string) (int, outage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries[id]++
	return r.tries[id], r.outages[path]
}

// ServeHTTP records the request before it answers, and the answer before it
// leaves: what relay could have seen is in the history.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	arrived := time.Now()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // not all of it arrived: relay's request was cut, and nothing happened here
	}
	id, sum := req.Header.Get("webhook-id"), sha256.Sum256(body)
	e := entry{At: arrived, What: sayRequest, ID: id, Path: req.URL.Path, Hash: hex.EncodeToString(sum[:8]), Number: int(r.requests.Add(1))}
	e.Name = req.Header.Get(headerVersion)
	if e.Keys, err = r.verify(req.URL.Path, body, req.Header); err != nil {
		e.Note = err.Error()
	}
	r.history.note(e)
	tries, out := r.try(id, req.URL.Path)
	answer := entry{What: sayAnswer, ID: id, Number: e.Number}
	say := func(status int) {
		answer.Status = status
		r.history.note(answer)
		w.WriteHeader(status)
	}
	if out == well {
		r.answer(w, req, id, tries, say)
		return
	}
	r.refuse(w, req, out, say)
}

func (r *receiver) refuse(w http.ResponseWriter, req *http.Request, out outage, say func(int)) {
	switch out {
	case hangs:
		<-req.Context().Done()
	case limits:
		w.Header().Set("Retry-After", "1")
		say(http.StatusTooManyRequests)
	case gone:
		say(http.StatusGone)
	case refuses, well:
		say(http.StatusServiceUnavailable)
	}
}

func (r *receiver) answer(w http.ResponseWriter, req *http.Request, id string, tries int, say func(int)) {
	p, first := planOf(id), tries == 1
	switch {
	case p == planFlaky && tries <= 2, p == planFail:
		say(http.StatusInternalServerError)
	case p == planHang && first:
		<-req.Context().Done()
	case p == planReset && first:
		reset(w)
	case p == planGone && first:
		say(http.StatusGone)
	case p == planBusy && first && id[len(id)-1]%3 == 0:
		w.Header().Set("Retry-After", "1")
		say(http.StatusTooManyRequests)
	case p == planDrip:
		say(http.StatusOK)
		drip(w, req)
	default:
		say(http.StatusOK)
	}
}

// drip answers byte by byte.
func drip(w http.ResponseWriter, req *http.Request) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, b := range []byte("slowly") {
		select {
		case <-tick.C:
		case <-req.Context().Done():
			return
		}
		_, _ = w.Write([]byte{b})
		_ = http.NewResponseController(w).Flush()
	}
}

// reset breaks the connection in the middle of the status line.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = conn.Write([]byte("HTTP/1.1 2"))
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// planOf reads the plan out of a webhook id.
func planOf(id string) plan {
	_, p, _ := strings.Cut(id, "_")
	p, _, _ = strings.Cut(p, "_")
	return plan(p)
}
