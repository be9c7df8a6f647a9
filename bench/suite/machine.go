package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay/embedded"
)

// machine is where everything runs: the binaries, one Postgres for all runs,
// and a directory.
type machine struct {
	settings
	scenario string // under way
	pass     string // names the runs that belong together

	dir      string
	bin      string
	floor    string
	postgres *embedded.Postgres
	pid      int             // of Postgres
	busy     float64         // load average before the scenario's run
	made     int             // databases so far
	kept     map[string]bool // databases that are used again
	version  string          // of relay's source
	database string          // version of Postgres
}

// openMachine builds the binaries and starts Postgres, with everything that
// makes a commit safe.
func openMachine(ctx context.Context, s settings) (_ *machine, err error) {
	m := &machine{settings: s, bin: s.Relay, kept: map[string]bool{}}
	if m.dir, err = os.MkdirTemp(s.Dir, "relay-bench-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(m.dir, 0o755); err != nil { //nolint:gosec // Postgres' user must be able to pass
		return nil, err
	}
	if err := m.build(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(m.dir))
	}
	m.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(m.dir, "postgres"), Durable: true})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(m.dir))
	}
	text, err := os.ReadFile(filepath.Join(m.postgres.Dir(), "data", "postmaster.pid"))
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if m.pid, err = strconv.Atoi(first); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, m.postgres.URL())
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx) //nolint:errcheck // it has been used
	return m, conn.QueryRow(ctx, "SHOW server_version").Scan(&m.database)
}

func (m *machine) build(ctx context.Context) error {
	m.floor = filepath.Join(m.dir, "floor")
	builds := map[string]string{m.floor: "./bench/floor"}
	if m.bin == "" {
		m.bin = filepath.Join(m.dir, "relay")
		builds[m.bin] = "./cmd/relay"
	}
	for binary, source := range builds {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, source)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s: %w", source, err)
		}
	}
	m.version = output(ctx, "git", "rev-parse", "--short", "HEAD")
	if dirty := output(ctx, "git", "status", "--porcelain", "--", "*.go"); dirty != "" {
		m.version += " with changes"
	}
	return nil
}

// output is what a command says, or "" if it fails: for descriptions only.
func output(ctx context.Context, name string, args ...string) string {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func (m *machine) close() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), time.Minute, errors.New("no end within a minute"))
	defer cancel()
	return errors.Join(m.postgres.Stop(ctx), os.RemoveAll(m.dir))
}

func (m *machine) databaseURL(name string) string {
	return strings.Replace(m.postgres.URL(), "/relay?", "/"+name+"?", 1)
}

// sql runs statements on the server's own database.
func (m *machine) sql(ctx context.Context, statements ...string) error {
	return sqlOn(ctx, m.postgres.URL(), statements...)
}

func sqlOn(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // it has been used
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// freePort finds a port that nobody listens on.
func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }() // to make room for who gets the port
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("a TCP listener without a TCP address")
	}
	return addr.Port, nil
}

// loadAverage is that of the last minute, or 0 where it is not known.
func loadAverage() (busy float64) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	_, _ = fmt.Sscan(string(text), &busy) // 0 if it is no number
	return busy
}
