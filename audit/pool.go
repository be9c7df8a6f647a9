package audit

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Pool makes a pool of connections that suits a [Log]. It waits for no
// connection: a Postgres that is down when relay starts is waited for by
// whoever asks something of it. An error means that databaseURL cannot be
// read; it shows no password. The caller closes the pool.
//
// What databaseURL says goes before these settings, but for one: a commit is
// always waited for (synchronous_commit), because without it a crash of
// Postgres loses what was answered. The settings are given when a connection
// is made; a pooler between relay and Postgres must let them through
// (PgBouncer: ignore_startup_parameters).
func Pool(ctx context.Context, databaseURL string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("audit: database URL: %w", err)
	}
	defaults := map[string]string{
		"application_name":                    "relay",
		"statement_timeout":                   "25s",
		"lock_timeout":                        "500ms", // then the others go on without what is locked
		"idle_in_transaction_session_timeout": "30s",
		"timezone":                            "UTC",
		// The statements are the same ones all day, on tables that grow from
		// nothing every night: plan them once, and never for an empty table.
		"plan_cache_mode": "force_generic_plan",
		"enable_seqscan":  "off",
		"jit":             "off",
	}
	for name, value := range defaults {
		if _, set := c.ConnConfig.RuntimeParams[name]; !set {
			c.ConnConfig.RuntimeParams[name] = value
		}
	}
	if c.ConnConfig.RuntimeParams["synchronous_commit"] != "remote_apply" { // which waits for more
		c.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	}
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	if !mentions(databaseURL, "pool_max_conns") {
		c.MaxConns = 8
	}
	if !mentions(databaseURL, "pool_max_conn_lifetime_jitter") {
		c.MaxConnLifetimeJitter = 10 * time.Minute
	}
	if c.PingTimeout == 0 {
		c.PingTimeout = 2 * time.Second
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("audit: make a pool: %w", err)
	}
	return pool, nil
}

// mentions reports whether a database URL, in either of its two forms, sets a
// setting.
func mentions(databaseURL, setting string) bool {
	if u, err := url.Parse(databaseURL); err == nil && u.Scheme != "" {
		return u.Query().Has(setting)
	}
	return strings.Contains(databaseURL, setting)
}
