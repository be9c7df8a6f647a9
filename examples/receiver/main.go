// Receiver is an endpoint that takes only what relay signed, and each webhook
// once. While the secret is replaced it takes both.
//
//	go run ./examples/receiver -secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/relaywebhooks/relay/signature"
)

func main() {
	secret := flag.String("secret", "", "the endpoint's signing secret, whsec_… or whpk_…; while it is replaced both, with a comma between")
	address := flag.String("listen", "127.0.0.1:8080", "the address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *address, *secret); err != nil {
		fmt.Fprintln(os.Stderr, "receiver:", err)
		os.Exit(1)
	}
}

// serve answers until ctx ends, and then finishes the requests under way.
func serve(ctx context.Context, address, secret string) error {
	verifier, err := signature.NewVerifier(strings.Split(secret, ",")...)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	server := &http.Server{
		Handler:           &receiver{verifier: verifier, seen: map[string]bool{}},
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() { stopped <- server.Shutdown(context.WithoutCancel(ctx)) })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// receiver verifies first and works afterwards, once for each webhook-id: a
// webhook may come twice when a process died at the wrong moment, and the id
// is the same over all attempts and replays.
type receiver struct {
	verifier *signature.Verifier
	mu       sync.Mutex
	seen     map[string]bool // keep these in a database, in the transaction that does the work
}

// ServeHTTP answers 204 to what it has taken, now or before, and 401 to what is
// not signed.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := r.verifier.Request(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	id := req.Header.Get(signature.HeaderID)
	r.mu.Lock()
	again := r.seen[id]
	r.seen[id] = true
	r.mu.Unlock()
	if again {
		fmt.Printf("seen before: %s\n", id)
	} else {
		fmt.Printf("verified: %s: %s: %q\n", id, req.Header.Get("Content-Type"), body)
	}
	w.WriteHeader(http.StatusNoContent)
}
