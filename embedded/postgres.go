package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
)

// PostgresOptions say what Postgres to start. The zero value is a throw-away
// database for tests.
type PostgresOptions struct {
	// Dir keeps the database; it is made if it does not exist. Where relay runs
	// as root, Postgres cannot: Dir is then given to the user postgres, else
	// nobody, who must be able to enter every directory above it.
	// Defaults to a temporary directory that Stop removes.
	Dir string

	// Durable has every commit synced to the disk, as a database for more than
	// tests needs. Defaults to false: a crash of the machine, though not one of
	// Postgres, may then lose everything.
	Durable bool

	// Port has Postgres listen on this port of 127.0.0.1 too, with the password
	// that is in TCPURL. Defaults to no port, only the Unix socket.
	Port int

	// BinDir is the directory of the programs postgres and initdb. Defaults to
	// the ones on the PATH, else those of the machine's packages, highest
	// version first, else a checked package that npm fetches.
	BinDir string

	// Log is told what is fetched, started and repaired. What Postgres itself
	// says is in postgres.log in Dir. Defaults to silence.
	Log zerolog.Logger
}

// superuser is Postgres's superuser and the name of its one database.
const superuser = "relay"

// startTimeout bounds one start, recovery after a crash included.
const startTimeout = 2 * time.Minute

// Postgres is a running Postgres server, or one that was stopped and may be
// restarted. Its methods may be called by several goroutines at once.
type Postgres struct {
	options PostgresOptions
	bin     string
	home    home

	mu      sync.Mutex
	process *process // nil before the first start
	lock    *os.File // nil while stopped
}

// StartPostgres starts a server and returns when it answers queries; the first
// start on a directory makes the database cluster in it. Started again on the
// directory of a server that was stopped or killed, it recovers all that was
// committed. A server that a killed relay left behind is stopped first.
//
// The error wraps ErrNoPostgres if there are no binaries to run, and says who
// holds the directory if another relay does. The context bounds the start only;
// the server runs until Stop or Kill, or until this process ends.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	bin, err := findBinaries(ctx, o.BinDir, o.Log)
	if err != nil {
		return nil, err
	}
	h, err := makeHome(o.Dir)
	if err != nil {
		return nil, err
	}
	p := &Postgres{options: o, bin: bin, home: h}
	if err := p.Restart(ctx); err != nil {
		return nil, errors.Join(err, h.remove())
	}
	return p, nil
}

// Restart starts the server again after Stop or Kill, on the same directory
// and under the same URL. It fails if the server is running, and after a Stop
// that removed a temporary directory.
func (p *Postgres) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout,
		fmt.Errorf("embedded: Postgres did not answer within %v", startTimeout))
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	lock, err := lockDir(p.home.dir)
	if err != nil {
		return err
	}
	if err := p.start(ctx); err != nil {
		return errors.Join(err, lock.Close())
	}
	p.lock = lock
	return nil
}

func (p *Postgres) start(ctx context.Context) error {
	if err := p.home.initialize(ctx, p.bin, p.options.Durable); err != nil {
		return err
	}
	if err := p.home.openSocketDir(); err != nil {
		return err
	}
	if err := p.home.evictOrphan(ctx, p.options.Log); err != nil {
		return err
	}
	// Children of a killed server take a moment to notice, and hold on to its
	// shared memory until then. Postgres refuses to start for as long.
	for end := time.Now().Add(10 * time.Second); ; {
		err := p.startOnce(ctx)
		if err == nil || !errors.Is(err, errSharedMemory) || time.Now().After(end) {
			return err
		}
	}
}

func (p *Postgres) startOnce(ctx context.Context) error {
	cmd, err := p.home.command(p.bin, p.serverFlags())
	if err != nil {
		return err
	}
	defer p.home.closeLog(cmd)
	started, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("embedded: start Postgres: %w", err)
	}
	if err := p.awaitReady(ctx, started); err != nil {
		started.kill()
		return err
	}
	p.process = started
	said := p.options.Log.Info().Str("dir", p.home.dir).Int("pid", started.pid).Str("binaries", p.bin)
	if p.options.Port != 0 {
		said = said.Int("port", p.options.Port)
	}
	said.Msg("Postgres started")
	return nil
}

func (p *Postgres) serverFlags() []string {
	flags := []string{
		"-D", p.home.data(), "-k", p.home.socket, "-p", strconv.Itoa(p.port()),
		"-c", "max_connections=200",
		"-c", "jit=off", // it takes seconds to compile a question to a few months of partitions
	}
	if p.options.Port == 0 {
		flags = append(flags, "-c", "listen_addresses=")
	} else {
		flags = append(flags, "-c", "listen_addresses=127.0.0.1")
	}
	if !p.options.Durable {
		flags = append(flags, "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	return flags
}

// awaitReady asks until the server answers, and sees to its one database.
func (p *Postgres) awaitReady(ctx context.Context, started *process) error {
	for {
		err := p.createDatabase(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-started.exited:
			return p.home.whyEnded()
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *Postgres) createDatabase(ctx context.Context) (err error) {
	conn, err := pgx.Connect(ctx, p.unixURL("postgres"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", superuser).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+superuser)
	return err
}

// port is also part of the socket's name.
func (p *Postgres) port() int {
	if p.options.Port == 0 {
		return 5432
	}
	return p.options.Port
}

// URL returns the connection URL over the Unix socket, as superuser of the
// database relay. Only this user and root can open the socket.
func (p *Postgres) URL() string { return p.unixURL(superuser) }

func (p *Postgres) unixURL(database string) string {
	query := url.Values{"host": {p.home.socket}, "port": {strconv.Itoa(p.port())}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// TCPURL returns the connection URL over 127.0.0.1, password included, or ""
// if PostgresOptions.Port is 0.
func (p *Postgres) TCPURL() string {
	if p.options.Port == 0 {
		return ""
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, p.home.password),
		Host: "127.0.0.1:" + strconv.Itoa(p.options.Port), Path: "/" + superuser,
	}
	return u.String()
}

// Dir returns the directory that keeps the database.
func (p *Postgres) Dir() string { return p.home.dir }

// Stop ends the server in order: open connections are cut, transactions rolled
// back, everything is written to the disk. A temporary directory is removed.
// If the context ends first, the server is killed and the error says so; what
// was committed is safe all the same. Stopping twice is no error.
func (p *Postgres) Stop(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.process != nil && p.process.running() {
		err = p.shutdown(ctx)
	}
	return errors.Join(err, p.unlock(), p.home.remove())
}

func (p *Postgres) shutdown(ctx context.Context) error {
	if err := p.process.signal(syscall.SIGINT); err != nil {
		return fmt.Errorf("embedded: stop Postgres: %w", err)
	}
	select {
	case <-p.process.exited:
		return nil
	case <-ctx.Done():
		p.process.kill()
		return fmt.Errorf("embedded: Postgres had to be killed: %w", context.Cause(ctx))
	}
}

// Kill ends the server and all its children at once, as a power cut would. It
// returns when they are gone; Restart brings the server back. A temporary
// directory stays until Stop is called.
func (p *Postgres) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != nil {
		p.process.kill()
	}
	_ = p.unlock() // closing a lock file that was never written again cannot fail usefully
}

func (p *Postgres) unlock() error {
	if p.lock == nil {
		return nil
	}
	lock := p.lock
	p.lock = nil
	return lock.Close()
}
