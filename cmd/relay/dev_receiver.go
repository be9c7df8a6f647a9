package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/signature"
)

// devReceiver is an endpoint for relay dev. Its paths say how it behaves:
//
//	/ok           200
//	/fail/<n>     500 for the first n requests with a webhook-id, then 200
//	/status/<c>   the status code c
//	/slow/<d>     200, after the duration d
//	/busy/<s>     429 with Retry-After: <s> the first time, then 200
//	/reset        the connection is cut
//	/sick/<name>  500 until heal(name) is called, then 200
type devReceiver struct {
	URL      string
	told     func(line string) // one line for each request
	verifier *signature.Verifier
	server   *http.Server
	ended    chan struct{}

	mu     sync.Mutex
	seen   map[string]int // requests by path and webhook-id
	healed map[string]bool
}

// startReceiver listens and serves until stop is called.
func startReceiver(ctx context.Context, address string, secrets []relay.Secret, told func(string)) (*devReceiver, error) {
	r := &devReceiver{told: told, seen: map[string]int{}, healed: map[string]bool{}, ended: make(chan struct{})}
	plain := make([]string, len(secrets))
	for i, s := range secrets {
		plain[i] = string(s)
	}
	var err error
	if r.verifier, err = signature.NewVerifier(plain...); err != nil {
		r.verifier = nil // secrets that only sign, such as whsk_
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start the receiver: %w", err)
	}
	r.URL = "http://" + l.Addr().String()
	r.server = &http.Server{Handler: r.routes(), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(r.ended)
		_ = r.server.Serve(l) // until stop closes it
	}()
	return r, nil
}

func (r *devReceiver) stop() {
	_ = r.server.Close()
	<-r.ended
}

// heal makes /sick/<name> well.
func (r *devReceiver) heal(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.healed[name] = true
}

func (r *devReceiver) routes() http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern string, decide func(req *http.Request, nth int) int) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) { r.answer(w, req, decide) })
	}
	answer("/ok", func(*http.Request, int) int { return http.StatusOK })
	answer("/fail/{n}", func(req *http.Request, nth int) int {
		if n, _ := strconv.Atoi(req.PathValue("n")); nth <= n {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	answer("/status/{code}", func(req *http.Request, _ int) int {
		if code, err := strconv.Atoi(req.PathValue("code")); err == nil && code >= 200 && code <= 599 {
			return code
		}
		return http.StatusNotFound
	})
	answer("/busy/{seconds}", func(_ *http.Request, nth int) int {
		if nth == 1 {
			return http.StatusTooManyRequests
		}
		return http.StatusOK
	})
	answer("/slow/{wait}", func(req *http.Request, _ int) int {
		wait, _ := time.ParseDuration(req.PathValue("wait"))
		select {
		case <-time.After(wait):
		case <-req.Context().Done():
		}
		return http.StatusOK
	})
	answer("/sick/{name}", func(req *http.Request, _ int) int {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.healed[req.PathValue("name")] {
			return http.StatusOK
		}
		return http.StatusInternalServerError // a 503 would ask relay to slow down instead
	})
	answer("/reset", func(*http.Request, int) int { return 0 })
	answer("/", func(*http.Request, int) int { return http.StatusNotFound })
	return mux
}

// answer reads the request as a receiver should, and answers as the path says.
func (r *devReceiver) answer(w http.ResponseWriter, req *http.Request, decide func(*http.Request, int) int) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 2*relay.MaxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := req.Header.Get("webhook-id")
	r.mu.Lock()
	r.seen[req.URL.Path+" "+id]++
	nth := r.seen[req.URL.Path+" "+id]
	r.mu.Unlock()
	status := decide(req, nth)
	r.told(fmt.Sprintf("%s  %-4s %s  %s  %d bytes, %s → %s", time.Now().Format("15:04:05.000"), req.Method,
		req.URL.Path, id, len(body), r.signed(req, body), statusText(status)))
	if status == 0 {
		panic(http.ErrAbortHandler) // cuts the connection without a word
	}
	if s := req.PathValue("seconds"); s != "" && status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", s)
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "%s for the %d. time\n", http.StatusText(status), nth)
}

func statusText(status int) string {
	if status == 0 {
		return "connection cut"
	}
	return strconv.Itoa(status)
}

// signed says whether the request can be believed.
func (r *devReceiver) signed(req *http.Request, body []byte) string {
	if r.verifier == nil {
		return "not verified"
	}
	if err := r.verifier.Verify(req.Header, body); err != nil {
		return "signature refused: " + err.Error()
	}
	return "signature verified"
}
