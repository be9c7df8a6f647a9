// Package migrations holds the SQL that makes the schema relay, and applies
// it. The files are goose's, so that the goose command reads them too (with
// -table relay.migrations).
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed *.sql
var files embed.FS

// table is where goose notes what has been applied.
const table = "relay.migrations"

// schema makes the schema before goose makes its table in it. It asks first,
// because CREATE SCHEMA IF NOT EXISTS wants the right to create one even where
// there is nothing to do; two processes may ask at the same moment.
const schema = `DO $$ BEGIN
	IF to_regnamespace('relay') IS NULL THEN CREATE SCHEMA relay; END IF;
EXCEPTION WHEN duplicate_schema OR unique_violation THEN NULL;
END $$`

// Up applies every migration that the database at databaseURL does not have
// yet, each in a transaction of its own, and returns their file names; none
// if there was nothing to do. Processes that call it at the same time wait for
// each other, at most a minute. The wait uses a session lock, so databaseURL
// must not lead through a transaction pooler.
func Up(ctx context.Context, databaseURL string) (applied []string, err error) {
	db, err := open(databaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, fmt.Errorf("migrations: create the schema relay: %w", err)
	}
	p, err := provider(db)
	if err != nil {
		return nil, err
	}
	results, err := p.Up(ctx)
	for _, r := range results {
		applied = append(applied, path.Base(r.Source.Path))
	}
	if err != nil {
		return applied, fmt.Errorf("migrations: %w", err)
	}
	return applied, nil
}

func provider(db *sql.DB) (*goose.Provider, error) {
	const everySecond, tries = 1, 60
	l, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(everySecond, tries))
	if err != nil {
		return nil, fmt.Errorf("migrations: lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(table), goose.WithSessionLocker(l), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	return p, nil
}

// State is how far a database has been migrated.
type State struct {
	Current int64    // version of the database; 0 if there is no schema yet
	Latest  int64    // version that this program brings
	Pending []string // names of the files that are yet to be applied, in order
}

// Status reads the state of the database at databaseURL and changes nothing.
// The rights of relay_app or relay_reader suffice. Current is greater than
// Latest if a newer relay migrated the database.
func Status(ctx context.Context, databaseURL string) (s State, err error) {
	db, err := open(databaseURL)
	if err != nil {
		return State{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	have, err := applied(ctx, db)
	if err != nil {
		return State{}, err
	}
	for v := range have {
		s.Current = max(s.Current, v)
	}
	s.Latest = Latest()
	for _, name := range names() {
		if !have[version(name)] {
			s.Pending = append(s.Pending, name)
		}
	}
	return s, nil
}

// Latest returns the version of the newest migration in this program.
func Latest() int64 {
	all := names()
	return version(all[len(all)-1])
}

// applied reads the versions that the database has; none if goose's table is
// not there.
func applied(ctx context.Context, db *sql.DB) (map[int64]bool, error) {
	rows, err := db.QueryContext(ctx, "SELECT version_id FROM "+table+" WHERE is_applied AND version_id > 0")
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && (e.Code == "42P01" || e.Code == "3F000") {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("migrations: read the schema's version: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err below tells
	have := map[int64]bool{}
	for rows.Next() {
		var v int64
		if err := rows.Scan(&v); err != nil {
			return nil, fmt.Errorf("migrations: read the schema's version: %w", err)
		}
		have[v] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("migrations: read the schema's version: %w", err)
	}
	return have, nil
}

// names returns the migrations in order: their numbers have a fixed length.
func names() []string {
	all, err := fs.Glob(files, "*.sql")
	if err != nil || len(all) == 0 {
		panic("migrations: no SQL files are embedded")
	}
	return all
}

// version reads the number at the head of a file name.
func version(name string) int64 {
	head, _, _ := strings.Cut(name, "_")
	v, err := strconv.ParseInt(head, 10, 64)
	if err != nil {
		panic("migrations: file without a number: " + name)
	}
	return v
}

func open(databaseURL string) (*sql.DB, error) {
	c, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("migrations: database URL: %w", err) // pgx hides the password
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "relay migrate"
	}
	return stdlib.OpenDB(*c), nil
}
