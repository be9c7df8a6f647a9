package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/migrations"
)

// devCommand is relay dev.
type devCommand struct {
	Receiver string `default:"127.0.0.1:8423" placeholder:"HOST:PORT" help:"Where the receiver listens; port 0 takes any free one."`
	Demo     bool   `help:"Tell relay's story in a minute, on servers that are thrown away, and end."`
}

// devSecret signs what relay dev sends, unless the configuration has a secret. It
// is in the open, and good for trying things out only.
const devSecret relay.Secret = "whsec_ZGV2ZWxvcG1lbnQgb25seSwgbm90IGEgc2VjcmV0" //nolint:gosec // in the open, as it says

// Run starts what is missing, and relay on it, until a signal asks it to stop.
func (c *devCommand) Run(ctx context.Context, p *program) error {
	if c.Demo {
		return demo(ctx, p)
	}
	reload := func() (loaded, error) { return loadDev(p.sources) }
	l, err := reload()
	if err != nil {
		return err
	}
	s := &servers{log: newLogger(l.Log, p.stderr)}
	defer s.close()
	r, err := startReceiver(ctx, c.Receiver, l.Signing.Secrets, func(line string) { fmt.Fprintln(p.stdout, "receiver ", line) })
	if err != nil {
		return err
	}
	defer r.stop()
	if err := s.openDev(ctx, &l); err != nil {
		return err
	}
	c.greet(p, s, l, r)
	return s.serve(ctx, l, func() (loaded, error) {
		next, err := reload()
		next.Postgres.URL = l.Postgres.URL // the server is still the same
		if len(next.Sealing.Keys) == 0 {
			next.Sealing = l.Sealing
		}
		return next, err
	})
}

// loadDev is the configuration, with what makes trying things out easy: servers
// of relay's own where none are named, and receivers on this machine.
func loadDev(from sources) (loaded, error) {
	l, err := load(from)
	if err != nil {
		return l, err
	}
	l.anyPort = true
	l.NATS.Embedded = l.NATS.URL == ""
	l.Delivery.Allow = append(l.Delivery.Allow, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	if len(l.Signing.Secrets) == 0 {
		l.Signing.Secrets = []relay.Secret{devSecret}
	}
	return l, nil
}

// openDev starts Postgres if none is named, migrates it, and opens the rest as
// relay run does. Secrets in a Postgres of its own it seals with a key of its own.
func (s *servers) openDev(ctx context.Context, l *loaded) error {
	if l.Postgres.URL == "" {
		var err error
		s.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{
			Dir: l.Postgres.Data, Durable: l.Postgres.Data != "", BinDir: l.Postgres.Bin, Log: s.log,
		})
		if err != nil {
			return err
		}
		l.Postgres.URL = databaseURL(s.postgres.URL())
		if len(l.Sealing.Keys) == 0 {
			key, err := keepDevKey(s.postgres.Dir())
			if err != nil {
				return err
			}
			l.Sealing.Keys = []relay.Secret{key}
		}
	}
	applied, err := migrations.Up(ctx, string(l.Postgres.URL))
	if err != nil {
		return err
	}
	if len(applied) > 0 {
		s.log.Info().Strs("applied", applied).Msg("database migrated")
	}
	return s.open(ctx, l.Config)
}

// greet says where everything is, and what to try.
func (c *devCommand) greet(p *program, s *servers, l loaded, r *devReceiver) {
	server := l.NATS.URL.String()
	if s.nats != nil {
		server = s.nats.ClientURL()
	}
	fmt.Fprintf(p.stdout, `relay dev: everything on this machine, for trying things out, not for production.

  NATS      %s
  Postgres  psql '%s'
  receiver  %s/ok  /fail/2  /status/503  /slow/5s  /busy/3  /reset
  admin     http://%s/readyz  /metrics

Try, in another terminal:

  relay send --url %s/fail/2 '{"hello": "world"}'
  nats pub -J webhooks.outbound '{"url": "%s/ok", "payload": {"hello": "world"}}'
  relay replay all

`, server, l.Postgres.URL, r.URL, l.Admin.Address, r.URL, r.URL)
}
