package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay"
)

const selectOverdue = `
SELECT accepted_at, seq, generation, endpoint_key, webhook_id, wake_at
FROM relay.webhooks
WHERE wake_at IS NOT NULL AND wake_at < now() - $1::bigint * interval '1 microsecond' AND status = 'pending'
    AND (wake_at, accepted_at, seq) > ($2::timestamptz, $3::timestamptz, $4::bigint)
ORDER BY wake_at, accepted_at, seq
LIMIT $5`

// Overdue returns events that wait as schedules and were due longer ago than
// since, the longest overdue first, at most limit of them: schedules that did
// not fire. Only their Key, Generation, EndpointKey and ID are filled, and
// ScheduledAt with the time at which they were due. It begins after the event
// after, the last one of an earlier answer, or at the first if that is the zero
// value.
func (l *Log) Overdue(ctx context.Context, since time.Duration, after relay.Webhook, limit int) ([]relay.Webhook, error) {
	rows, _ := l.pool.Query(ctx, selectOverdue, since.Microseconds(), // CollectRows tells the error
		after.ScheduledAt, after.Key.Time, int64(after.Key.Seq), limit) //nolint:gosec // far below 2^63
	ws, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (w relay.Webhook, err error) {
		var (
			accepted time.Time
			seq      int64
		)
		err = row.Scan(&accepted, &seq, &w.Generation, &w.EndpointKey, &w.ID, &w.ScheduledAt)
		w.Key = relay.NewKey(accepted, uint64(seq)) //nolint:gosec // written from a uint64
		w.ScheduledAt = w.ScheduledAt.UTC()
		return w, err
	})
	if err != nil {
		return nil, fmt.Errorf("audit: overdue events: %w", err)
	}
	return ws, nil
}
