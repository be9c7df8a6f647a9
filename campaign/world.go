package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/migrations"
)

// The role that the relays sign in with: no superuser, so that limits hold for
// it.
const (
	roleName     = "campaign"
	rolePassword = "campaign"
)

// world is everything that a campaign runs on: servers, relays, a receiver,
// and the cables between them.
type world struct {
	settings  settings
	history   *history
	log       io.WriteCloser // what the relays and NATS say
	dir       string         // of the stores
	mounted   []string
	nats      []*natsServer
	postgres  *embedded.Postgres
	stations  []*station
	present   string // the program that relays run
	older     string // the one that they start with instead; empty: there is none
	receiver  *receiver
	endpoints *cable    // between the relays and the receiver
	operator  *operator // of the registered endpoints; nil: none is registered
	sealing   string    // the key that seals their secrets
	client    *http.Client

	conn *nats.Conn // not through a cable, as the pool
	js   jetstream.JetStream
	pool *pgxpool.Pool
}

const relayProgram = "github.com/relaywebhooks/relay/cmd/relay"

// flags are those of building relay, and some more.
func (s settings) flags(more ...string) []string {
	flags := slices.Concat(s.BuildFlags, more)
	if s.Race {
		flags = append(flags, "-race")
	}
	return flags
}

// build compiles a program of this module, or of one it depends on.
func build(ctx context.Context, to, what string, flags ...string) error {
	return buildIn(ctx, "", to, what, flags...)
}

// buildIn compiles a program of the module in dir.
func buildIn(ctx context.Context, dir, to, what string, flags ...string) error {
	args := append(append([]string{"build", "-o", to}, flags...), what)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("campaign: go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// newWorld builds the programs and starts everything but the load.
func newWorld(ctx context.Context, s settings) (_ *world, err error) {
	w := &world{
		settings: s, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		sealing: string(endpoint.NewSealingKey()),
	}
	w.operator = newOperator(w)
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.history, err = newHistory(s.file("history.jsonl")); err != nil {
		return w, err
	}
	if w.log, err = os.Create(s.file("servers.log")); err != nil {
		return w, fmt.Errorf("campaign: log: %w", err)
	}
	if err := w.furnish(); err != nil {
		return w, err
	}
	if err := build(ctx, s.file("nats-server"), "github.com/nats-io/nats-server/v2"); err != nil {
		return w, err
	}
	if w.receiver, err = newReceiver(w.history); err != nil {
		return w, err
	}
	if w.endpoints, err = newCable(w.receiver.address()); err != nil {
		return w, err
	}
	if err := errors.Join(w.startServers(ctx), w.startRelays(ctx)); err != nil {
		return w, err
	}
	return w, w.register(ctx)
}

// furnish makes the directories of the stores: on a tmpfs where the machine
// has one, because process kills do not need a disk; each of a bounded size
// where it may be mounted, so that it can be filled.
func (w *world) furnish() (err error) {
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	if w.dir, err = os.MkdirTemp(parent, "relay-campaign-"); err != nil {
		return fmt.Errorf("campaign: directory of the stores: %w", err)
	}
	if err := os.Chmod(w.dir, 0o755); err != nil { //nolint:gosec // Postgres runs as another user
		return fmt.Errorf("campaign: directory of the stores: %w", err)
	}
	for _, name := range []string{"nats", "postgres"} {
		dir := filepath.Join(w.dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // as above
			return fmt.Errorf("campaign: directory of the stores: %w", err)
		}
		if mountSmall(dir) == nil {
			w.mounted = append(w.mounted, dir)
		}
	}
	return nil
}

func (w *world) startServers(ctx context.Context) (err error) {
	if w.postgres, err = w.startPostgres(ctx); err != nil {
		return err
	}
	if _, err := migrations.Up(ctx, w.postgres.URL()); err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	if w.pool, err = pgxpool.New(ctx, w.postgres.URL()); err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	_, err = w.pool.Exec(ctx, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' IN ROLE relay_app", roleName, rolePassword))
	if err != nil {
		return fmt.Errorf("campaign: role of the relays: %w", err)
	}
	if err := w.startNATS(ctx); err != nil {
		return err
	}
	urls := make([]string, len(w.nats))
	for i, server := range w.nats {
		urls[i] = "nats://" + server.address
	}
	w.conn, err = nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	if w.js, err = jetstream.New(w.conn); err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	return w.eventually(ctx, startPatience, "make the streams", func(ctx context.Context) error {
		_, err := consumer.Setup(ctx, w.js, consumer.StreamOptions{AckWait: ackWait, Replicas: len(w.nats)})
		return err
	})
}

func (w *world) startPostgres(ctx context.Context) (*embedded.Postgres, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	server, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(w.dir, "postgres"), Durable: true, Port: port})
	if err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	return server, nil
}

func (w *world) startRelays(ctx context.Context) error {
	binary := w.settings.Relay
	if binary == "" {
		binary = w.settings.file("relay")
		if err := build(ctx, binary, relayProgram, w.settings.flags()...); err != nil {
			return err
		}
	}
	w.present = binary
	if w.settings.steps {
		if err := w.buildStepped(ctx); err != nil {
			return err
		}
	}
	if w.settings.From != "" {
		if err := w.buildOlder(ctx); err != nil {
			return err
		}
	}
	for i := range w.settings.Relays {
		s, err := w.newStation(fmt.Sprintf("relay-%d", i+1), cmp.Or(w.older, binary))
		if err != nil {
			return err
		}
		w.stations = append(w.stations, s)
		if err := s.start(); err != nil {
			return err
		}
	}
	return nil
}

// eventually repeats a step until it succeeds or the time is over.
func (w *world) eventually(ctx context.Context, limit time.Duration, what string, step func(context.Context) error) error {
	for end := time.Now().Add(limit); ; {
		once, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := step(once)
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("campaign: %s: %w", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// close ends all that was started. The history stays.
func (w *world) close() {
	for _, s := range w.stations {
		if p := s.now(); p != nil && p.running() {
			p.kill()
		}
		s.postgres.close()
		for _, line := range s.nats {
			line.close()
		}
	}
	if w.conn != nil {
		w.conn.Close()
	}
	if w.pool != nil {
		w.pool.Close()
	}
	for _, server := range w.nats {
		server.close()
	}
	if w.postgres != nil { // in order: what is killed leaves its shared memory behind
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_ = w.postgres.Stop(ctx)
		cancel()
	}
	if w.endpoints != nil {
		w.endpoints.close()
	}
	if w.receiver != nil {
		w.receiver.close()
	}
	for _, dir := range w.mounted {
		_ = unmount(dir)
	}
	_ = os.RemoveAll(w.dir)
	if w.log != nil {
		_ = w.log.Close()
	}
}
