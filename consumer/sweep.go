package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
)

const (
	// overdue is how late a schedule may be before it is taken for stuck: one
	// that fires while the server's store is full stays so until a restart.
	overdue = time.Minute
	// overdueBatch bounds one sweep.
	overdueBatch = 500
)

// sweep republishes schedules that did not fire, until ctx ends.
func (c *Consumer) sweep(ctx context.Context) {
	tick := time.NewTicker(c.Sweep)
	defer tick.Stop()
	for {
		if err := c.republishOverdue(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn().Err(err).Msg("sweep")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *Consumer) republishOverdue(ctx context.Context) error {
	late, err := c.Log.Overdue(ctx, overdue, overdueBatch)
	if err != nil {
		return fmt.Errorf("consumer: list overdue schedules: %w", err)
	}
	for _, w := range late {
		if err := c.republish(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// republish makes one stuck schedule due now. A schedule that is gone has
// fired: its copy is on its way.
func (c *Consumer) republish(ctx context.Context, w relay.Webhook) error {
	subject := scheduleSubject(w)
	raw, err := c.later.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("consumer: read %s: %w", subject, err)
	}
	if _, err := c.js.PublishMsg(ctx, copyOf(subjectDue+w.EndpointKey, raw.Header, raw.Data, readMeta(raw.Subject, raw.Header))); err != nil {
		return fmt.Errorf("consumer: republish %s: %w", subject, err)
	}
	c.log.Warn().Str("key", w.Key.String()).Msg("schedule did not fire; published it again")
	return remove(ctx, c.later, raw.Sequence)
}
