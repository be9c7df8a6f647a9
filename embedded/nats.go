package embedded

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
)

// NATSOptions say what NATS server to start. The zero value listens on
// 127.0.0.1:4222 and keeps its streams in a temporary directory.
type NATSOptions struct {
	// Dir keeps the streams, in its folder jetstream; it is made if it does not
	// exist. Defaults to a temporary directory that disappears with the server.
	Dir string

	// Host is the address to listen on. Any but a loopback address needs a
	// ConfigFile with users. Defaults to 127.0.0.1.
	Host string

	// Port is the port to listen on; -1 takes a free one. Defaults to 4222.
	Port int

	// DontListen leaves only the connections that Connect makes. Defaults to
	// false, so that the nats command line works.
	DontListen bool

	// Sync says when a stored message is on the disk: "always", before it is
	// confirmed, or at intervals, such as "5s" or "2m", of which a power cut
	// may take the last. Intervals are some ten times faster. Short ones are
	// better: what gathers over minutes is written at once, and everything else
	// on that disk waits. Defaults to "always".
	Sync string

	// MaxStore bounds the bytes of all streams together. Defaults to three
	// quarters of the free disk.
	MaxStore int64

	// ConfigFile is a nats-server configuration, for users, permissions, TLS
	// and everything else. What it sets wins over the other options, save that
	// JetStream is always on. Defaults to none.
	ConfigFile string

	// Log is told what the server says, its notices at debug. Defaults to
	// silence.
	Log zerolog.Logger
}

// readyTimeout is long because the server reads its streams first: a million
// schedules take seven seconds.
const readyTimeout = time.Minute

// NATS is a NATS server inside this process. Its methods may be called by
// several goroutines at once.
type NATS struct {
	server *server.Server
	log    zerolog.Logger
	closed bool // to clients without credentials
	alone  bool // without a configuration file: one account, and no other server
	lock   *os.File
	guard  *guard // of a temporary directory
	once   sync.Once
}

// StartNATS starts a server and returns when clients can use it. The directory
// is locked: a second server on it is refused with an error that says who has
// it. The error of a port that is taken names the port.
func StartNATS(o NATSOptions) (_ *NATS, err error) {
	so, err := o.serverOptions()
	if err != nil {
		return nil, err
	}
	n := &NATS{log: o.Log, closed: hasUsers(so) && so.NoAuthUser == "", alone: o.ConfigFile == ""}
	defer func() {
		if err != nil {
			n.Shutdown()
		}
	}()
	if so.StoreDir == "" {
		if so.StoreDir, err = os.MkdirTemp("", "relay-nats-"); err != nil {
			return nil, fmt.Errorf("embedded: directory for NATS: %w", err)
		}
		if n.guard, err = startGuard(so.StoreDir); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(so.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded: directory for NATS: %w", err)
	}
	if n.lock, err = lockDir(so.StoreDir); err != nil {
		return nil, err
	}
	if err := n.start(so); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *NATS) start(so *server.Options) error {
	s, err := server.NewServer(so)
	if err != nil {
		return fmt.Errorf("embedded: configure NATS: %w", err)
	}
	n.server = s
	log := &natsLog{log: n.log}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	if err := log.fatal(); errors.Is(err, syscall.EADDRINUSE) && so.ConfigFile == "" { // else it may be any of its ports
		return fmt.Errorf("embedded: start NATS: %w: stop what listens there, or set another port (nats.port)", err)
	} else if err != nil {
		return fmt.Errorf("embedded: start NATS: %w", err)
	}
	if !s.ReadyForConnections(readyTimeout) {
		return errors.Join(fmt.Errorf("embedded: NATS was not ready within %v", readyTimeout), log.fatal())
	}
	n.log.Info().Str("dir", so.StoreDir).Str("url", n.ClientURL()).Msg("NATS started")
	return nil
}

// serverOptions returns the server's own options: ours where the configuration
// file, if there is one, says nothing.
func (o NATSOptions) serverOptions() (*server.Options, error) {
	so := &server.Options{}
	if o.ConfigFile != "" {
		var err error
		if so, err = server.ProcessConfigFile(o.ConfigFile); err != nil {
			return nil, fmt.Errorf("embedded: NATS configuration %s: %w", o.ConfigFile, err)
		}
	}
	so.JetStream, so.NoSigs = true, true // with signals it would exit the process
	so.DisableJetStreamBanner = true
	so.DontListen = so.DontListen || o.DontListen
	setDefault(&so.ServerName, "relay")
	setDefault(&so.Host, o.Host)
	setDefault(&so.Host, "127.0.0.1")
	setDefault(&so.Port, o.Port)
	setDefault(&so.StoreDir, o.Dir)
	setDefault(&so.JetStreamMaxStore, o.MaxStore)
	setDefault(&so.JetStreamMaxMemory, 64<<20)
	// Room for relay's own headers on a copy of the largest message.
	setDefault(&so.MaxPayload, relay.MaxBody+64<<10)
	if err := o.setSync(so); err != nil {
		return nil, err
	}
	if !so.DontListen && !isLoopback(so.Host) && !hasUsers(so) {
		return nil, fmt.Errorf("embedded: NATS would listen on %s for anyone: listen on 127.0.0.1, or name users in a nats-server configuration file", so.Host)
	}
	if so.StoreDir == "" {
		return so, nil
	}
	dir, err := filepath.Abs(so.StoreDir)
	if err != nil {
		return nil, fmt.Errorf("embedded: directory for NATS: %w", err)
	}
	so.StoreDir = dir
	return so, nil
}

func (o NATSOptions) setSync(so *server.Options) error {
	if so.SyncAlways || so.SyncInterval != 0 {
		return nil
	}
	if o.Sync == "" || o.Sync == "always" {
		so.SyncAlways = true
		return nil
	}
	every, err := time.ParseDuration(o.Sync)
	if err != nil || every <= 0 {
		return fmt.Errorf(`embedded: sync of NATS is %q: want "always" or a duration such as "5s"`, o.Sync)
	}
	so.SyncInterval = every
	return nil
}

// setDefault gives *v the value, unless it has one.
func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func hasUsers(so *server.Options) bool {
	return so.Username != "" || so.Authorization != "" || len(so.Users) > 0 || len(so.Nkeys) > 0 ||
		len(so.TrustedOperators) > 0 || so.AuthCallout != nil || so.TLSMap
}

// SyncQueue is how many messages a synchronous subscription of relay has room for:
// twice what one look at a lane asks for. nats.go makes that room for each new
// subscription, of which every such look is one; its default takes half a MiB.
const SyncQueue = 1024

// Connect makes a connection inside this process, which needs no listener and
// is never given up. If the configuration file names users, the options must
// hold the credentials of one.
func (n *NATS) Connect(options ...nats.Option) (*nats.Conn, error) {
	o := nats.GetDefaultOptions()
	o.InProcessServer, o.MaxReconnect, o.Name, o.SubChanLen = n.server, -1, "relay", SyncQueue
	for _, set := range options {
		if err := set(&o); err != nil {
			return nil, fmt.Errorf("embedded: connect to NATS: %w", err)
		}
	}
	if n.closed && !hasCredentials(o) {
		// The server would hang up inside the pipe, ten seconds later and without a word.
		return nil, errors.New("embedded: connect to NATS: its configuration file names users: credentials are needed")
	}
	nc, err := o.Connect()
	if err != nil {
		return nil, fmt.Errorf("embedded: connect to NATS: %w", err)
	}
	return nc, nil
}

func hasCredentials(o nats.Options) bool {
	return o.User != "" || o.UserInfo != nil || o.Token != "" || o.TokenHandler != nil || o.Nkey != "" || o.UserJWT != nil
}

// ClientURL returns where the server listens, without credentials, or "" if it
// does not listen.
func (n *NATS) ClientURL() string {
	if n.server.Addr() == nil {
		return ""
	}
	return n.server.ClientURL()
}

// Heard reports whether somebody may get what is published on a subject. A server
// with a configuration file says yes: others may be behind it.
func (n *NATS) Heard(subject string) bool {
	return !n.alone || n.server.GlobalAccount().SubscriptionInterest(subject)
}

// Listeners returns the host and port of every socket on which the server
// listens, those of a configuration file's cluster, monitoring and websocket
// included.
func (n *NATS) Listeners() []string {
	ports := n.server.PortsInfo(time.Second)
	if ports == nil {
		return nil
	}
	var all []string
	for _, urls := range [][]string{ports.Nats, ports.Monitoring, ports.Cluster, ports.Profile, ports.WebSocket} {
		for _, text := range urls {
			if u, err := url.Parse(text); err == nil {
				all = append(all, u.Host)
			}
		}
	}
	return all
}

// Shutdown ends the server and returns when everything is on the disk and the
// directory is free again. Have consumers drained and connections closed
// before; the server itself waits for nobody. Calling it twice does nothing.
func (n *NATS) Shutdown() {
	n.once.Do(func() {
		if n.server != nil {
			n.server.Shutdown()
			n.server.WaitForShutdown()
		}
		var err error
		if n.lock != nil {
			err = n.lock.Close()
		}
		if err = errors.Join(err, n.guard.release()); err != nil {
			n.log.Error().Err(err).Msg("NATS left something behind")
		}
	})
}
