package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// health answers as long as the process can: it asks nothing else, so that an
// outage of Postgres or NATS gets no relay restarted.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

// fault is one check, and what it says is wrong: one line of /readyz.
type fault struct {
	Check string `json:"check"`
	Error string `json:"error,omitempty"`
}

type readiness struct {
	Ready bool    `json:"ready"`
	Wrong []fault `json:"wrong"`
}

// ready runs the checks. Who shows no token for it where one is needed learns the names
// of the failed checks, which a probe may log, but not their texts.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	wrong := []fault{} // "wrong": [] rather than null
	told := s.guard.access(r, ScopeReady) == granted
	for _, f := range s.check(r.Context()) {
		if f.Error == "" {
			continue
		}
		if !told {
			f.Error = ""
		}
		wrong = append(wrong, f)
	}
	w.Header().Set("Content-Type", "application/json")
	if len(wrong) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(readiness{Ready: len(wrong) == 0, Wrong: wrong}) // the client has gone
}

// metrics serves what was counted, and the checks as they come out now: whatever
// /readyz tells, relay_ready does.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	checks := prometheus.NewRegistry()
	ready := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "relay_ready",
		Help: "Whether relay can work, by check of /readyz, which says what is wrong: 1 if it is well, 0 if not.",
	}, []string{"check"})
	checks.MustRegister(ready)
	for _, f := range s.check(r.Context()) {
		value := 1.0
		if f.Error != "" {
			value = 0
		}
		ready.WithLabelValues(f.Check).Set(value)
	}
	s.o.Metrics.handler(checks).ServeHTTP(w, r)
}

// check runs all checks at once and returns them sorted by name. Those that are
// well have no error.
func (s *Server) check(ctx context.Context) []fault {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.CheckTimeout,
		fmt.Errorf("no answer within %s", s.o.CheckTimeout))
	defer cancel()
	names := slices.Sorted(maps.Keys(s.o.Checks))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { errs[i] = s.o.Checks[name](ctx) })
	}
	wg.Wait()
	found := make([]fault, len(names))
	for i, name := range names {
		found[i].Check = name
		if errs[i] == nil {
			continue
		}
		text := cmp.Or(errs[i].Error(), "failed")
		if cause := context.Cause(ctx); cause != nil {
			text = cause.Error() + ": " + text
		}
		found[i].Error = text
	}
	return found
}
