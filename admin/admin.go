// Package admin is relay's window for operators: whether it lives, whether it
// can work, and what it has done, over HTTP.
//
//	GET /healthz       the process lives; always 200, never needs a token
//	GET /readyz        200, or 503 with a JSON list of what is wrong
//	GET /metrics       Prometheus metrics, see [Metrics]
//	GET /debug/pprof/  Go profiles, on a loopback address only
//
// By default it listens on loopback, where whoever can connect may read, unless
// there are tokens. On any other address it insists on a bearer token. A token
// may read what its scopes name.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
)

// DefaultAddress is where the admin server listens unless told otherwise.
const DefaultAddress = "127.0.0.1:8422"

const (
	minToken     = 16 // bytes; anything shorter can be guessed
	shutdownWait = 5 * time.Second
)

// Options are the settings of a [Server]. The zero value works.
type Options struct {
	Address      string        // host:port to listen on. Defaults to DefaultAddress.
	Token        relay.Secret  // a bearer token for everything, at least 16 bytes. Defaults to none.
	Tokens       []Token       // more tokens, known by their hashes. Off loopback there must be one, here or in Token.
	Metrics      *Metrics      // served under /metrics. Defaults to an empty set.
	CheckTimeout time.Duration // of each readiness check. Defaults to 3 seconds.
	Log          zerolog.Logger

	// Checks say what relay needs to work, by name: a nil error means that it
	// is there. They run at the same time, on every request for /readyz and for
	// /metrics, which shows each as relay_ready.
	Checks map[string]func(ctx context.Context) error

	// Listener is served instead of listening on Address. Run closes it.
	Listener net.Listener
}

// Validate reports what is wrong with the options, all faults joined. [Server.Run]
// calls it too, so that a server without a token is never opened to a network.
func (o Options) Validate() error {
	o = o.withDefaults()
	return errors.Join(append(checkTokens(o.Tokens), o.checkAddress())...)
}

func (o Options) checkAddress() error {
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil {
		return fmt.Errorf("admin: the address %q is not host:port, such as %s", o.Address, DefaultAddress)
	}
	switch {
	case loopbackHost(host), len(o.Token) >= minToken, o.Token == "" && len(o.Tokens) > 0:
		return nil
	case o.Token == "":
		return fmt.Errorf("admin: %s is not a loopback address, so a token is required: set one, or listen on %s",
			o.Address, DefaultAddress)
	}
	return fmt.Errorf("admin: %s is not a loopback address, and the token has %d bytes: use at least %d random ones",
		o.Address, len(o.Token), minToken)
}

func (o Options) withDefaults() Options {
	if o.Listener != nil {
		o.Address = o.Listener.Addr().String()
	}
	if o.Address == "" {
		o.Address = DefaultAddress
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(MetricsOptions{})
	}
	if o.CheckTimeout <= 0 {
		o.CheckTimeout = 3 * time.Second
	}
	return o
}

// Server is the admin HTTP server. Make it with [New], start it with
// [Server.Run].
type Server struct {
	o     Options
	guard guard
}

// New makes a server and starts nothing.
func New(o Options) *Server {
	o = o.withDefaults()
	host, _, _ := net.SplitHostPort(o.Address) // Validate reports the fault
	return &Server{o: o, guard: newGuard(o, loopbackHost(host))}
}

// Run listens and serves until ctx ends, then lets requests finish for up to
// five seconds. It returns nil after an orderly end, and an error if the options
// are refused or the address cannot be had.
func (s *Server) Run(ctx context.Context) error {
	if err := s.o.Validate(); err != nil {
		return err
	}
	l := s.o.Listener
	if l == nil {
		var err error
		if l, err = new(net.ListenConfig).Listen(ctx, "tcp", s.o.Address); err != nil {
			return fmt.Errorf("admin: listen: %w", err)
		}
	}
	s.o.Log.Info().Stringer("address", l.Addr()).Msg("admin server listens")
	srv := s.server(ctx)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("admin: serve: %w", err)
	case <-ctx.Done():
	}
	return stop(ctx, srv, done)
}

func stop(ctx context.Context, srv *http.Server, done <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), shutdownWait,
		errors.New("admin: requests did not finish in time"))
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		_ = srv.Close() // whoever still reads has had their time
	}
	<-done //nolint:errcheck // that it was closed
	return nil
}

// server has a limit on everything that a client could draw out. Writing is the
// exception: a CPU profile takes as long as it was asked to.
func (s *Server) server(ctx context.Context) *http.Server {
	return &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		// Requests in flight end with their clients, not with ctx: a scrape that
		// has begun is worth finishing.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
}

// Handler returns what the server serves, behind its guard.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", s.guard.require(ScopeMetrics, http.HandlerFunc(s.metrics)))
	if s.guard.loopback {
		mux.Handle("GET /debug/pprof/", s.guard.require(ScopeProfiles, profiles()))
	}
	return s.guard.headers(mux)
}

// profiles serves what net/http/pprof would hang into the default mux, which
// relay never serves. The command line is left out: --set may bring secrets.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
