package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// row is what is written down about one attempt.
type row struct {
	seq     uint64
	url     string
	started time.Time
	took    time.Duration
	status  int
	err     *string
	done    chan error
}

// committer writes rows in batches: what came in while one batch was written is
// the next one. There is no timer.
type committer struct {
	conn *pgx.Conn
	rows chan *row
	end  sync.WaitGroup
}

const maxRows = 1000 // in one statement

func newCommitter(ctx context.Context, url string) (*committer, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	c := &committer{conn: conn, rows: make(chan *row, maxRows)}
	c.end.Go(func() { c.run(context.WithoutCancel(ctx)) })
	return c, nil
}

// write returns when the row is committed.
func (c *committer) write(r *row) error {
	c.rows <- r
	return <-r.done
}

// close ends the committer after its last row.
func (c *committer) close() {
	close(c.rows)
	c.end.Wait()
}

func (c *committer) run(ctx context.Context) {
	defer c.conn.Close(ctx) //nolint:errcheck // the program ends
	batch := make([]*row, 0, maxRows)
	for first := range c.rows {
		batch = append(batch[:0], first)
	more:
		for len(batch) < maxRows {
			select {
			case r, ok := <-c.rows:
				if !ok {
					break more
				}
				batch = append(batch, r)
			default:
				break more
			}
		}
		err := c.insert(ctx, batch)
		for _, r := range batch {
			r.done <- err
		}
	}
}

// insert is one statement, which pgx prepares once.
func (c *committer) insert(ctx context.Context, batch []*row) error {
	seqs, urls, started := make([]int64, len(batch)), make([]string, len(batch)), make([]time.Time, len(batch))
	took, status, errs := make([]int32, len(batch)), make([]int32, len(batch)), make([]*string, len(batch))
	for i, r := range batch {
		seqs[i], urls[i], started[i] = int64(r.seq), r.url, r.started                      //nolint:gosec // a sequence
		took[i], status[i], errs[i] = int32(r.took.Microseconds()), int32(r.status), r.err //nolint:gosec // small numbers
	}
	_, err := c.conn.Exec(ctx, `INSERT INTO floor
		SELECT * FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::int[], $5::int[], $6::text[])
		ON CONFLICT DO NOTHING`, seqs, urls, started, took, status, errs)
	if err != nil {
		return fmt.Errorf("insert %d rows: %w", len(batch), err)
	}
	return nil
}
