package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/relaywebhooks/relay/migrations"
)

// database is what the doctor asks Postgres in one question.
type database struct {
	version                              int
	inRecovery                           bool
	fsync, fullPages, checksums, commits string
	superuser                            bool
	now                                  time.Time
}

// examinePostgres looks at the server, what it keeps through a crash, the schema
// and relay's rights.
func examinePostgres(ctx context.Context, fs *findings, c Config) {
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
	asked := time.Now()
	d, err := askDatabase(ctx, pool)
	if err != nil {
		fs.fail("Postgres", "", "%v", err)
		return
	}
	fs.ok("Postgres", "%s, %.1f ms away", c.Postgres.URL, float64(time.Since(asked))/float64(time.Millisecond))
	examineClock(fs, "clock of Postgres", d.now, asked)
	d.examine(fs)
	examineSchema(ctx, fs, string(c.Postgres.URL), pool, d.superuser)
}

func askDatabase(ctx context.Context, pool *pgxpool.Pool) (database, error) {
	var d database
	err := pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, pg_is_in_recovery(),
		current_setting('fsync'), current_setting('full_page_writes'), current_setting('data_checksums'),
		current_setting('synchronous_commit'), current_setting('is_superuser') = 'on', clock_timestamp()`).
		Scan(&d.version, &d.inRecovery, &d.fsync, &d.fullPages, &d.checksums, &d.commits, &d.superuser, &d.now)
	return d, err
}

// examine judges the settings on which "no record, no acknowledgement" stands.
func (d database) examine(fs *findings) {
	if major := d.version / 10_000; major < 14 {
		fs.fail("Postgres version", "install Postgres 14 or later", "%d is too old for relay's schema", major)
	} else {
		fs.ok("Postgres version", "%d", major)
	}
	if d.inRecovery {
		fs.fail("Postgres role", "give relay the primary's address", "this is a standby: it takes no writes")
	}
	const lost = "a crash of the machine loses what was recorded: turn it on"
	for _, s := range []struct{ name, value string }{{"fsync", d.fsync}, {"full_page_writes", d.fullPages}} {
		if s.value == "on" {
			fs.ok("Postgres "+s.name, "on")
		} else {
			fs.fail("Postgres "+s.name, lost, "%s", s.value)
		}
	}
	if d.commits == "on" || d.commits == "remote_apply" {
		fs.ok("synchronous_commit", "%s, for relay's connections", d.commits)
	} else {
		fs.fail("synchronous_commit", "something between relay and Postgres takes relay's setting away", "%s", d.commits)
	}
	if d.checksums == "on" {
		fs.ok("data checksums", "on")
	} else {
		fs.warn("data checksums", "pg_checksums --enable, while the server is stopped: a disk that lies is noticed", "off")
	}
	if d.superuser {
		fs.warn("Postgres user", "give relay a user with the role relay_app: then nobody can rewrite the audit log", "is a superuser")
	}
}

func examineSchema(ctx context.Context, fs *findings, url string, pool *pgxpool.Pool, superuser bool) {
	state, err := migrations.Status(ctx, url)
	switch {
	case err != nil:
		fs.fail("schema", "may relay's user read it?", "%v", err)
		return
	case len(state.Pending) > 0:
		fs.fail("schema", "run relay migrate", "version %d, this relay needs %d: %s is missing",
			state.Current, state.Latest, strings.Join(state.Pending, ", "))
		return
	case state.Current > state.Latest:
		fs.warn("schema", "update this relay", "version %d, made by a newer relay than this (%d)", state.Current, state.Latest)
	default:
		fs.ok("schema", "version %d", state.Current)
	}
	var insert, rewrite bool
	err = pool.QueryRow(ctx, `SELECT has_table_privilege('relay.attempts', 'INSERT'),
		has_table_privilege('relay.attempts', 'UPDATE') OR has_table_privilege('relay.attempts', 'DELETE')`).Scan(&insert, &rewrite)
	switch {
	case err != nil:
		fs.fail("rights", "", "%v", err)
	case !insert:
		fs.fail("rights", "GRANT relay_app TO relay's user", "relay's user cannot write attempts")
	case rewrite && !superuser:
		fs.warn("rights", "use the role relay_app, which can add attempts and not change them", "relay's user can change attempts that were recorded")
	case !rewrite:
		fs.ok("rights", "attempts can be added and not changed")
	}
}
