package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Grade says how bad a finding is.
type Grade string

// The grades of a finding.
const (
	Good Grade = "good"
	Warn Grade = "warn" // relay works, and something is to be known
	Bad  Grade = "bad"  // relay does not work, or loses what it promised to keep
)

// Finding is one thing that [Check] looked at.
type Finding struct {
	Name   string // such as "postgres fsync"
	Grade  Grade
	Detail string // what it is
	Advice string // what to do about it; for Warn and Bad, and not always known
}

const (
	minServer  = 14_00_00 // the first release that prunes partitions of an UPDATE
	skewWarn   = time.Second
	skewBad    = time.Minute // receivers refuse signatures that are minutes off
	aheadWant  = 1           // days
	checkLimit = 10 * time.Second
)

// Check looks at a Postgres through a pool that [Pool] made: whether relay can
// work on it, and whether it keeps what it commits. It changes nothing and
// takes at most ten seconds. A finding that cannot be made is Bad.
func Check(ctx context.Context, pool *pgxpool.Pool) []Finding {
	ctx, cancel := context.WithTimeoutCause(ctx, checkLimit, fmt.Errorf("no answer in %v", checkLimit))
	defer cancel()
	if err := pool.Ping(ctx); err != nil {
		return []Finding{{"postgres", Bad, err.Error(), "is it running, and may relay's user sign in?"}}
	}
	var found []Finding
	for _, check := range []func(context.Context, *pgxpool.Pool) (Finding, error){
		checkServer, checkRole, checkFsync, checkPages, checkCommit, checkClock, checkVersion, checkAhead,
	} {
		f, err := check(ctx, pool)
		if err != nil {
			f.Grade, f.Detail, f.Advice = Bad, err.Error(), ""
		}
		if fault, ok := errors.AsType[fault](err); ok {
			f.Detail, f.Advice = fault.found, fault.advice
		}
		found = append(found, f)
	}
	return found
}

func checkServer(ctx context.Context, pool *pgxpool.Pool) (Finding, error) {
	f := Finding{Name: "postgres version", Grade: Good}
	var number int
	err := pool.QueryRow(ctx, "SELECT current_setting('server_version'), current_setting('server_version_num')::integer").
		Scan(&f.Detail, &number)
	if number < minServer {
		f.Grade, f.Advice = Bad, "relay needs 14 or later: upgrade the server"
	}
	return f, err
}

func checkRole(ctx context.Context, pool *pgxpool.Pool) (Finding, error) {
	f := Finding{Name: "postgres primary", Grade: Good, Detail: "takes writes"}
	var standby bool
	err := pool.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby)
	if standby {
		f.Grade, f.Detail, f.Advice = Bad, "it is a standby and takes no writes", "connect to the primary"
	}
	return f, err
}

func checkFsync(ctx context.Context, pool *pgxpool.Pool) (Finding, error) {
	return checkSetting(ctx, pool, "fsync", "with it off, a power cut loses or corrupts the log")
}

func checkPages(ctx context.Context, pool *pgxpool.Pool) (Finding, error) {
	return checkSetting(ctx, pool, "full_page_writes", "with it off, a power cut can corrupt the log")
}

// checkSetting looks at a setting of the server that must be on.
func checkSetting(ctx context.Context, pool *pgxpool.Pool, name, otherwise string) (Finding, error) {
	f := Finding{Name: "postgres " + name, Grade: Good}
	err := pool.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&f.Detail)
	if f.Detail != "on" {
		f.Grade, f.Advice = Bad, "set "+name+" = on in the server's configuration: "+otherwise
	}
	return f, err
}

func checkCommit(ctx context.Context, pool *pgxpool.Pool) (Finding, error) {
	f := Finding{Name: "postgres synchronous_commit", Grade: Good}
	err := pool.QueryRow(ctx, "SELECT current_setting('synchronous_commit')").Scan(&f.Detail)
	if f.Detail != "on" && f.Detail != "remote_apply" {
		f.Grade, f.Detail = Bad, f.Detail+" for relay's own connections: a pooler keeps relay's settings from Postgres"
		f.Advice = "connect without the pooler, or ALTER ROLE … SET synchronous_commit = on"
	}
	return f, err
}

func checkClock(ctx context.Context, pool *pgxpool.Pool) (Finding, error) {
	f := Finding{Name: "postgres clock", Grade: Good}
	skew, err := measureSkew(ctx, pool)
	f.Detail = fmt.Sprintf("%v ahead of this machine", skew)
	switch {
	case skew.Abs() > skewBad:
		f.Grade, f.Advice = Bad, "set both clocks by NTP: receivers refuse signatures with a wrong time"
	case skew.Abs() > skewWarn:
		f.Grade, f.Advice = Warn, "set both clocks by NTP"
	}
	return f, err
}

func checkVersion(ctx context.Context, pool *pgxpool.Pool) (Finding, error) {
	f := Finding{Name: "schema version", Grade: Good}
	s, err := readSchema(ctx, pool)
	f.Detail = fmt.Sprintf("%d, as needed", s.version)
	if s.version > schemaVersion {
		f.Grade, f.Detail = Warn, fmt.Sprintf("%d: a relay newer than this one, which knows %d, migrated it", s.version, schemaVersion)
		f.Advice = "upgrade this relay too"
	}
	return f, err
}

func checkAhead(ctx context.Context, pool *pgxpool.Pool) (Finding, error) {
	f := Finding{Name: "partitions ahead", Grade: Good}
	var days int
	err := pool.QueryRow(ctx, `
		SELECT count(*)::integer FROM generate_series(1, 30) n
		WHERE to_regclass('relay.webhooks_' || to_char(now() AT TIME ZONE 'UTC' + n * interval '1 day', 'YYYYMMDD')) IS NOT NULL`).
		Scan(&days)
	f.Detail = fmt.Sprintf("%d days", days)
	if days < aheadWant {
		f.Grade, f.Advice = Warn, "start relay run, or see its log: a running relay makes them"
	}
	return f, err
}
