package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresFaults are errors that Postgres itself answers, F10.
func postgresFaults() []fault {
	hold := [2]time.Duration{500 * ms, 1500 * ms}
	return []fault{
		{"pg-terminate", [2]time.Duration{0, 500 * ms}, 0, terminate},
		{"pg-too-many-connections", hold, 0, tooManyConnections},
		{"pg-serialization", hold, 0, serialization},
		{"pg-poison-row", hold, 0, poisonRow},
		{"pg-lock", [2]time.Duration{500 * ms, 2 * time.Second}, 0, lock("relay.webhooks")},
		{"pg-lock-and-kill-relay", hold, 0, both(lock("relay.attempts"), killRelay)},
	}
}

const endSessions = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '` + roleName + `'`

// sql runs statements as the owner of everything, trying for a while: an
// earlier fault may not be quite over.
func (b *breaking) sql(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		err := b.eventually(ctx, 20*time.Second, "sql", func(ctx context.Context) error {
			_, err := b.pool.Exec(ctx, statement)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// 57P01: the administrator ends the sessions.
func terminate(ctx context.Context, b *breaking) (func(context.Context) error, error) {
	return nothingToHeal, b.sql(ctx, endSessions)
}

// 53300: no connection is left for relay.
func tooManyConnections(ctx context.Context, b *breaking) (func(context.Context) error, error) {
	err := b.sql(ctx, "ALTER ROLE "+roleName+" CONNECTION LIMIT 0", endSessions)
	return func(ctx context.Context) error {
		return b.sql(ctx, "ALTER ROLE "+roleName+" CONNECTION LIMIT -1")
	}, err
}

// 40001: a third of the rows cannot be serialized, as with a strict isolation.
func serialization(ctx context.Context, b *breaking) (func(context.Context) error, error) {
	return b.trigger(ctx, "random() < 0.1", "40001")
}

// 22021: Postgres refuses what some answers contain.
func poisonRow(ctx context.Context, b *breaking) (func(context.Context) error, error) {
	return b.trigger(ctx, "NEW.error_class IS NULL AND hashtext(NEW.attempt_id::text) % 40 = 0", "22021")
}

// trigger has some of the attempts refused.
func (b *breaking) trigger(ctx context.Context, when, code string) (func(context.Context) error, error) {
	err := b.sql(ctx,
		fmt.Sprintf(`CREATE OR REPLACE FUNCTION campaign_fault() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				IF %s THEN RAISE EXCEPTION 'injected' USING ERRCODE = '%s'; END IF;
				RETURN NEW;
			END $$`, when, code),
		`CREATE TRIGGER campaign_fault BEFORE INSERT ON relay.attempts FOR EACH ROW EXECUTE FUNCTION campaign_fault()`)
	return func(ctx context.Context) error {
		return b.sql(ctx, `DROP TRIGGER IF EXISTS campaign_fault ON relay.attempts`)
	}, err
}

// lock holds a lock on a table, as a careless migration would: on the webhooks
// nothing can be claimed, on the attempts nothing recorded.
func lock(table string) injection {
	return func(ctx context.Context, b *breaking) (func(context.Context) error, error) {
		var tx pgx.Tx
		// The pool may still hold connections from before a fault.
		err := b.eventually(ctx, 10*time.Second, "lock "+table, func(once context.Context) (err error) {
			if tx, err = b.pool.Begin(ctx); err != nil { // it outlives this try
				return err
			}
			if _, err = tx.Exec(once, `LOCK TABLE `+table+` IN ACCESS EXCLUSIVE MODE`); err != nil {
				_ = tx.Rollback(ctx) // it may be what was broken
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		return tx.Rollback, nil
	}
}
