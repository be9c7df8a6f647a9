// Floor is the bare loop that relay is measured against: it takes webhooks off
// JetStream, POSTs each, writes a row for it, and acknowledges. It has no
// claims, no policy, no state and no signature, tries nothing again and guards
// nothing. It is not a relay; it is what a relay cannot be faster than, written
// as well as we can:
//
//	go run ./bench/floor -postgres postgres://… -sync always
//
// Like relay run with nats.embedded it has its NATS server within, with the
// same streams and settings, so that relay bench can drive both. A row is
// committed before its message is acknowledged, in batches of what has come in
// meanwhile; the acknowledgement waits for the server's answer, as relay's
// must, unless -ack plain. /metrics tells its CPU time and memory.
//
//	main.go    the program: servers, flags, profiles
//	loop.go    fetch, POST, acknowledge
//	commit.go  one insert for all rows that wait
//	aside.go   -aside: setting events aside as fast as the broker allows
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/embedded"
)

// settings are the flags.
type settings struct {
	Postgres string
	Dir      string
	Port     int
	Sync     string
	Metrics  string
	Slots    int
	Plain    bool
	Aside    bool
}

func main() {
	var s settings
	var ack string
	flag.StringVar(&s.Postgres, "postgres", "", "the database's URL; the table floor is made there")
	flag.StringVar(&s.Dir, "dir", "", "directory of the streams (default: a temporary one)")
	flag.IntVar(&s.Port, "port", 4222, "where NATS listens on 127.0.0.1")
	flag.StringVar(&s.Sync, "sync", "always", "when stored messages are synced to the disk: always, or a duration such as 2m")
	flag.StringVar(&s.Metrics, "metrics", "127.0.0.1:8422", "where /metrics and /debug/pprof are served")
	flag.IntVar(&s.Slots, "slots", 256, "webhooks worked on at a time")
	flag.StringVar(&ack, "ack", "double", "double waits for the server's answer to each acknowledgement, plain does not")
	flag.BoolVar(&s.Aside, "aside", false, "set events for hanging endpoints (their path begins with /hang/) aside, into another stream, instead of posting them")
	flag.Parse()
	s.Plain = ack == "plain"
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

// run starts the server and runs the loop until ctx ends.
func run(ctx context.Context, s settings) error {
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: s.Dir, Port: s.Port, Sync: s.Sync})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	conn, err := server.Connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	queue, err := open(ctx, js)
	if err != nil {
		return err
	}
	rows, err := newCommitter(ctx, s.Postgres)
	if err != nil {
		return err
	}
	defer rows.close()
	var serving sync.WaitGroup
	defer serving.Wait()
	page, err := serve(ctx, &serving, s.Metrics)
	if err != nil {
		return err
	}
	defer page.Close() //nolint:errcheck // the program ends
	fmt.Fprintln(os.Stderr, "floor is working")
	return newLoop(queue, rows, newMover(js), s).run(ctx)
}

// open makes relay's streams and returns the durable consumer of its queue.
func open(ctx context.Context, js jetstream.JetStream) (jetstream.Consumer, error) {
	if _, err := consumer.Setup(ctx, js, consumer.StreamOptions{MemoryConsumers: true}); err != nil {
		return nil, err
	}
	return js.Consumer(ctx, consumer.StreamQueue, consumer.DurableQueue)
}

// serve answers what relay's admin listener would.
func serve(ctx context.Context, serving *sync.WaitGroup, address string) (*http.Server, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	serving.Go(func() { _ = server.Serve(l) }) // until it is closed
	return server, nil
}

// connect opens the floor's one connection and makes its table.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	if url == "" {
		return nil, errors.New("-postgres is needed: the URL of a database")
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, `SET synchronous_commit = on;
		CREATE TABLE IF NOT EXISTS floor (
			seq bigint PRIMARY KEY, url text NOT NULL, started_at timestamptz NOT NULL,
			took_us int NOT NULL, status int NOT NULL, error text)`)
	return conn, err
}
