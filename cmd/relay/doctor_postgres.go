package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/relaywebhooks/relay/audit"
)

// examinePostgres has the audit log look at its server, and then at relay's
// rights there.
func examinePostgres(ctx context.Context, fs *findings, c loaded) {
	if c.Postgres.URL == "" {
		fs.fail("Postgres", "set postgres.url", "no server is configured")
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*askTimeout, fmt.Errorf("no answer within %s", 2*askTimeout))
	defer cancel()
	pool, err := c.openPool(ctx)
	if err != nil {
		fs.fail("Postgres", "is it running, and may relay's user sign in?", "%v", err)
		return
	}
	defer pool.Close()
	fs.ok("Postgres", "%s", c.Postgres.URL)
	grades := map[audit.Grade]level{audit.Good: levelOK, audit.Warn: levelWarn, audit.Bad: levelFail}
	for _, f := range audit.Check(ctx, pool) {
		*fs = append(*fs, finding{Level: grades[f.Grade], Check: f.Name, Found: f.Detail, Advice: f.Advice})
	}
	examineRights(ctx, fs, pool)
	examineSealing(ctx, fs, c, pool)
}

// examineDevDisk looks at the disk of the Postgres of a relay dev, if that is the
// one that relay would use.
func examineDevDisk(fs *findings, c Config) {
	server, err := pgx.ParseConfig(string(c.Postgres.URL))
	dir, err2 := filepath.Abs(c.Postgres.Data)
	if err != nil || err2 != nil || c.Postgres.Data == "" || server.Host != dir {
		return
	}
	examineDisk(fs, "disk for Postgres", dir, "a full disk stops Postgres, and relay with it")
}

// examineRights sees that relay's user can add attempts, and cannot change them.
func examineRights(ctx context.Context, fs *findings, pool *pgxpool.Pool) {
	const check, advice = "rights", "GRANT relay_app TO a user for relay run: it can add attempts, and change none"
	var superuser, insert, rewrite bool
	err := pool.QueryRow(ctx, `SELECT current_setting('is_superuser') = 'on',
		has_table_privilege('relay.attempts', 'INSERT') AND has_table_privilege('relay.webhooks', 'INSERT')
			AND has_table_privilege('relay.webhooks', 'UPDATE'),
		has_table_privilege('relay.attempts', 'UPDATE') OR has_table_privilege('relay.attempts', 'DELETE')`).
		Scan(&superuser, &insert, &rewrite)
	_, refused := errors.AsType[*pgconn.PgError](err)
	switch {
	case refused: // there is no schema; that was said
	case err != nil:
		fs.fail(check, "", "%v", err)
	case !insert:
		fs.fail(check, advice, "relay's user cannot write to the audit log")
	case superuser:
		fs.warn(check, advice, "relay's user is a superuser, who can rewrite the audit log")
	case rewrite:
		fs.warn(check, advice, "relay's user can change attempts that were recorded")
	default:
		fs.ok(check, "attempts can be added and not changed")
	}
}
