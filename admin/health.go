package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
)

// health answers as long as the process can: it asks nothing else, so that an
// outage of Postgres or NATS gets no relay restarted.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

// fault is one line of what /readyz says is wrong.
type fault struct {
	Check string `json:"check"`
	Error string `json:"error,omitempty"`
}

type readiness struct {
	Ready bool    `json:"ready"`
	Wrong []fault `json:"wrong"`
}

// ready runs the checks. Who shows no token where one is needed learns the names
// of the failed checks, which a probe may log, but not their texts.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	wrong := s.check(r.Context())
	if !s.guard.allows(r) {
		for i := range wrong {
			wrong[i].Error = ""
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if len(wrong) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(readiness{Ready: len(wrong) == 0, Wrong: wrong}) // the client has gone
}

// check runs all checks at once and returns the failed ones, sorted by name.
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
	wrong := []fault{} // "wrong": [] rather than null
	for i, name := range names {
		if errs[i] == nil {
			continue
		}
		text := errs[i].Error()
		if cause := context.Cause(ctx); cause != nil {
			text = cause.Error() + ": " + text
		}
		wrong = append(wrong, fault{Check: name, Error: text})
	}
	return wrong
}
