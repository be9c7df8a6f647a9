package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/migrations"
)

// runCommand is relay run.
type runCommand struct{}

// Run delivers webhooks until a signal asks it to stop.
func (runCommand) Run(ctx context.Context, p *program) error {
	l, err := p.load()
	if err != nil {
		return err
	}
	if err := l.needs("nats.url", "postgres.url"); err != nil {
		return err
	}
	s := &servers{log: newLogger(l.Log, p.stderr)}
	defer s.close()
	if err := s.open(ctx, l.Config); err != nil {
		return err
	}
	return s.serve(ctx, l, p.load)
}

// needs reports which of the two servers a command has to know and does not.
func (l loaded) needs(keys ...string) error {
	var faults Faults
	for _, key := range keys {
		switch {
		case key == "nats.url" && l.NATS.URL == "" && !l.NATS.Embedded:
			faults = append(faults, Fault{Key: key, Origin: l.origin(key), Problem: "is needed: say where NATS is, or set nats.embedded"})
		case key == "postgres.url" && l.Postgres.URL == "":
			faults = append(faults, Fault{Key: key, Origin: l.origin(key), Problem: "is needed: say where Postgres is (relay dev brings its own)"})
		}
	}
	return faults.err()
}

// servers are what relay stands on: connections, and the servers that it runs
// itself because none were given.
type servers struct {
	log      zerolog.Logger
	conn     *nats.Conn
	pool     *pgxpool.Pool
	nats     *embedded.NATS
	postgres *embedded.Postgres
}

// open connects to both servers, or starts NATS if it is embedded, and sees that
// the schema is the right one.
func (s *servers) open(ctx context.Context, c Config) error {
	if err := s.openNATS(ctx, c); err != nil {
		return err
	}
	err := await(ctx, &s.log, "Postgres", func(ctx context.Context) (err error) {
		s.pool, err = c.openPool(ctx)
		return err
	})
	if err != nil {
		return err
	}
	state, err := migrations.Status(ctx, string(c.Postgres.URL))
	if err != nil {
		return err
	}
	if len(state.Pending) > 0 {
		return fmt.Errorf("the database's schema has version %d and this relay needs %d: run relay migrate", state.Current, state.Latest)
	}
	return nil
}

// openNATS also makes the streams, if the server is relay's own: nobody else
// would.
func (s *servers) openNATS(ctx context.Context, c Config) error {
	if !c.NATS.Embedded {
		return await(ctx, &s.log, "NATS", func(context.Context) (err error) {
			s.conn, err = c.dialNATS(s.log)
			return err
		})
	}
	var err error
	if s.nats, err = embedded.StartNATS(c.natsOptions(s.log)); err != nil {
		return err
	}
	options, err := c.connOptions(s.log)
	if err != nil {
		return err
	}
	if s.conn, err = s.nats.Connect(options...); err != nil {
		return err
	}
	js, err := jetstream.New(s.conn)
	if err != nil {
		return err
	}
	changes, err := consumer.Setup(ctx, js, c.streamOptions())
	for _, change := range changes {
		if change.Done != "unchanged" {
			s.log.Info().Str("name", change.Name).Strs("differed", change.Differs).Msg("stream or durable consumer " + change.Done)
		}
	}
	return err
}

// serve runs relay on the open servers.
func (s *servers) serve(ctx context.Context, l loaded, load func() (loaded, error)) error {
	tameStandardLog(s.log)
	a, err := newApp(ctx, l, s)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	reloading := make(chan struct{})
	go func() {
		defer close(reloading)
		a.reloadOnSIGHUP(ctx, load)
	}()
	err = a.Run(ctx)
	stop()
	<-reloading
	a.sender.current.Load().CloseIdle()
	return err
}

// close ends what is open, in the order that nothing loses what it stands on.
func (s *servers) close() {
	if s.conn != nil {
		_ = s.conn.FlushTimeout(2 * time.Second) // the last events; nobody may be listening
		s.conn.Close()
	}
	if s.pool != nil {
		s.pool.Close()
	}
	if s.nats != nil {
		s.nats.Shutdown()
	}
	if s.postgres != nil {
		ctx, cancel := context.WithTimeoutCause(context.Background(), 30*time.Second, errors.New("no end within 30s"))
		defer cancel()
		if err := s.postgres.Stop(ctx); err != nil {
			s.log.Warn().Err(err).Msg("stop Postgres")
		}
	}
}
