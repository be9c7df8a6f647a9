package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay"
)

const selectFailing = `
SELECT endpoint_key, failing_since, last_failure_at
FROM relay.endpoints
WHERE last_failure_at - failing_since >= $1::bigint * interval '1 microsecond'
ORDER BY failing_since`

// Failing returns the endpoints that have failed for at least as long, from the
// first failure after their last success to their last failure, the longest first.
// An endpoint that nobody called in between has failed all the same.
func (l *Log) Failing(ctx context.Context, atLeast time.Duration) ([]relay.Failing, error) {
	rows, _ := l.pool.Query(ctx, selectFailing, atLeast.Microseconds()) // CollectRows tells the error
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f relay.Failing, err error) {
		err = row.Scan(&f.EndpointKey, &f.Since, &f.Last)
		f.Since, f.Last = f.Since.UTC(), f.Last.UTC()
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("audit: failing endpoints: %w", err)
	}
	return all, nil
}
