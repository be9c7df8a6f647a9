package consumer_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

// reset stands for a connection that the endpoint breaks without an answer.
const reset = 0

// scripts answers each path with its own sequence of status codes.
type scripts struct {
	mu    sync.Mutex
	codes map[string][]int
}

func (s *scripts) next(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	codes := s.codes[path]
	if len(codes) == 0 {
		return http.StatusOK
	}
	s.codes[path] = codes[1:]
	return codes[0]
}

func (s *scripts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	code := s.next(r.URL.Path)
	if code != reset {
		w.WriteHeader(code)
		return
	}
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// outcome is the model: what a sequence of answers must come to.
func outcome(codes []int, maxAttempts int) (status string, attempts int) {
	for _, code := range append(codes, http.StatusOK) {
		attempts++
		switch {
		case code >= 200 && code <= 299:
			return "delivered", attempts
		case code == 404 || code == 410 || code == 400:
			return "dead", attempts
		case attempts == maxAttempts:
			return "failed", attempts
		}
	}
	return "", attempts
}

// Any sequence of outcomes ends in exactly one state, and the attempts that
// are counted are the rows that were written.
func TestAnySequenceOfOutcomesEndsInOneState(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{Policy: policy.Options{
		Schedule: []time.Duration{time.Millisecond}, MaxBackoff: time.Millisecond, MaxThrottle: time.Millisecond, Jitter: -1,
		Circuit: policy.CircuitOptions{Failures: 1000, Executions: 1000},
	}})
	s := &scripts{codes: map[string][]int{}}
	r.Receiver.Always(s.ServeHTTP)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		codes := rapid.SliceOfN(rapid.SampledFrom([]int{200, 201, 400, 404, 410, 408, 425, 500, 502, reset}), 0, 8).Draw(rt, "codes")
		maxAttempts := rapid.IntRange(1, 8).Draw(rt, "max attempts")
		n++
		path := "/" + strconv.Itoa(n)
		s.mu.Lock()
		s.codes[path] = codes
		s.mu.Unlock()
		id := r.Publish(map[string]any{"url": r.Receiver.URL + path, "id": fmt.Sprint("property_", n), "max_attempts": maxAttempts})
		w := r.RequireStatus(id, "delivered", "failed", "dead")
		as := r.Attempts(id)
		if status, attempts := outcome(codes, maxAttempts); w.Status != status || w.Attempts != attempts || len(as) != attempts {
			rt.Errorf("%v with %d attempts: %s after %d counted and %d recorded, want %s after %d", codes, maxAttempts,
				w.Status, w.Attempts, len(as), status, attempts)
		}
		for i, a := range as {
			if a.Number != i+1 || a.Kind == "unrecorded" {
				rt.Errorf("attempt %d is %+v", i+1, a)
			}
		}
		if (w.Place == "dead letters") != (w.Status != "delivered") {
			rt.Errorf("%s rests in %q", w.Status, w.Place)
		}
	})
	requireEmpty(t, r)
	for _, req := range r.Receiver.Requests() {
		if !strings.HasPrefix(req.ID(), "property_") {
			t.Errorf("a request with the id %q", req.ID())
		}
	}
}
