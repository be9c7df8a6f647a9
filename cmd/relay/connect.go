package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/embedded"
)

// dialNATS connects to nats.url.
func (c Config) dialNATS(log zerolog.Logger) (*nats.Conn, error) {
	options, err := c.connOptions(log)
	if err != nil {
		return nil, err
	}
	conn, err := nats.Connect(string(c.NATS.URL), options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", c.NATS.URL, err)
	}
	return conn, nil
}

// connOptions never gives a connection up: what relay does meanwhile is held and
// waits. A silent connection is noticed within half a minute.
func (c Config) connOptions(log zerolog.Logger) ([]nats.Option, error) {
	n := c.NATS
	options := []nats.Option{
		nats.Name("relay " + worker()),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a password may be right again before anybody restarts relay
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.PingInterval(10 * time.Second),
		nats.Timeout(5 * time.Second),
		nats.SyncQueueLen(embedded.SyncQueue),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() {
				log.Warn().Err(err).Msg("NATS connection lost")
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info().Str("server", nc.ConnectedServerName()).Msg("NATS connected again")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			e := log.Error().Err(err)
			if s != nil {
				e = e.Str("subject", s.Subject)
			}
			e.Msg("NATS")
		}),
	}
	prefix := n.InboxPrefix
	if prefix == "" && n.User != "" {
		prefix = "_INBOX_" + n.User
	}
	if prefix != "" {
		options = append(options, nats.CustomInboxPrefix(prefix))
	}
	return n.signIn(options)
}

// signIn adds who relay is, and whom it trusts.
func (n NATSConfig) signIn(options []nats.Option) ([]nats.Option, error) {
	switch {
	case n.User != "":
		options = append(options, nats.UserInfo(n.User, string(n.Password)))
	case n.Credentials != "":
		options = append(options, nats.UserCredentials(n.Credentials))
	case n.NKey != "":
		nkey, err := nats.NkeyOptionFromSeed(n.NKey)
		if err != nil {
			return nil, fmt.Errorf("nats.nkey: %w", err)
		}
		options = append(options, nkey)
	}
	if n.TLS.CA != "" {
		options = append(options, nats.RootCAs(n.TLS.CA))
	}
	if n.TLS.Cert != "" {
		options = append(options, nats.ClientCert(n.TLS.Cert, n.TLS.Key))
	}
	return options, nil
}

// openPool makes the pool and sees that Postgres answers.
func (c Config) openPool(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := audit.Pool(ctx, withMaxConns(string(c.Postgres.URL), c.Postgres.MaxConns))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("no answer within 5s"))
	defer cancel()
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to Postgres at %s: %w", c.Postgres.URL, err)
	}
	return pool, nil
}

// withMaxConns writes the number of connections into a database URL, unless it
// names one.
func withMaxConns(databaseURL string, n int) string {
	const name = "pool_max_conns"
	switch {
	case strings.Contains(databaseURL, name+"="):
		return databaseURL
	case !strings.Contains(databaseURL, "://"):
		return databaseURL + " " + name + "=" + strconv.Itoa(n)
	}
	u, err := url.Parse(databaseURL)
	if err != nil {
		return databaseURL
	}
	q := u.Query()
	q.Set(name, strconv.Itoa(n))
	u.RawQuery = q.Encode()
	return u.String()
}

// isFinal reports errors that waiting does not mend: wrong passwords and names,
// and what is wrong with relay's own configuration.
func isFinal(err error) bool {
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return !strings.HasPrefix(pg.Code, "57") && !strings.HasPrefix(pg.Code, "53") // starting up, or too busy
	}
	_, isDial := errors.AsType[*net.OpError](err)
	return !isDial && !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, context.DeadlineExceeded)
}

const startPatience = 30 * time.Second

// await repeats a step of the start for a while: the servers of one machine often
// come up together. It gives up when ctx ends, or at once if the error is final.
func await(ctx context.Context, log *zerolog.Logger, what string, step func(context.Context) error) error {
	deadline := time.Now().Add(startPatience)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 3*time.Second) {
		err := step(ctx)
		if err == nil || isFinal(err) || time.Now().Add(wait).After(deadline) {
			return err
		}
		log.Warn().Err(err).Msgf("%s is not there yet; trying again", what)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}
