package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrOtherStream is returned by [Log.Bind] for a database that is the record of
// another stream.
var ErrOtherStream = errors.New("audit: the database is the record of another stream")

// Bind ties the database to the stream that events come from, known by the moment
// at which JetStream made it, for good. A key is the time and the sequence at which
// an event was stored, and no two events of one stream share it; those of two
// streams in one database might, and then relay would take the second for one
// that is delivered. So each stream has a database of its own, and whoever comes
// with another gets [ErrOtherStream].
//
// Only a relay that has been working on the stream, and sees that it was made
// anew, may name the one before: it is gone, and the new one takes its place.
// Otherwise before is zero.
//
// Bind waits while Postgres is away, until ctx ends.
func (l *Log) Bind(ctx context.Context, before, made time.Time) error {
	for {
		bound, err := l.bind(ctx, before, made)
		if err == nil && bound.Equal(micros(made)) {
			return nil
		}
		if err == nil {
			return fmt.Errorf("%w: that stream was made at %s, and this one at %s. Each partition needs a database of its own. "+
				"If the other stream is gone for good, forget it: DELETE FROM relay.stream",
				ErrOtherStream, bound.UTC().Format(time.RFC3339Nano), micros(made).UTC().Format(time.RFC3339Nano))
		}
		refused, answered := errors.AsType[*pgconn.PgError](err)
		if answered && strings.HasPrefix(refused.Code, "42") || !pause(ctx, minBackoff) { // no such table, or not for this user
			return fmt.Errorf("audit: look whose record the database is: %w", err)
		}
	}
}

// bind returns the stream that the database belongs to afterwards.
func (l *Log) bind(ctx context.Context, before, made time.Time) (bound time.Time, err error) {
	if !before.IsZero() {
		_, err = l.pool.Exec(ctx, "UPDATE relay.stream SET created_at = $2 WHERE created_at = $1", micros(before), micros(made))
	}
	if err == nil {
		_, err = l.pool.Exec(ctx, "INSERT INTO relay.stream (created_at) VALUES ($1) ON CONFLICT DO NOTHING", micros(made))
	}
	if err == nil {
		err = l.pool.QueryRow(ctx, "SELECT created_at FROM relay.stream").Scan(&bound)
	}
	return bound, err
}

// micros is a time as Postgres keeps it.
func micros(t time.Time) time.Time { return t.Truncate(time.Microsecond) }
