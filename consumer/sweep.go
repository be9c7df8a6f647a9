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
	// roundEach is how often sweeps begin again at the first overdue schedule.
	// In between they look at what became overdue since: what is late by now and
	// still has no message will hardly get one.
	roundEach = 5 * time.Minute
)

// round is how far the sweeps have come on their way through all overdue
// schedules, the longest overdue first.
type round struct {
	began  time.Time
	after  relay.Webhook // the last one that was looked at
	whole  bool          // it has come to the end
	undone bool          // some could not be published again
}

// begin starts a new round if the old one is over and a new one is due: at once
// where something is known to be left.
func (r *round) begin(now time.Time) {
	if r.began.IsZero() || r.whole && (r.undone || now.Sub(r.began) >= roundEach) {
		*r = round{began: now}
	}
}

// sweep republishes schedules that did not fire, until ctx ends.
func (c *Consumer) sweep(ctx context.Context) {
	tick := time.NewTicker(c.Sweep)
	defer tick.Stop()
	var r round
	for {
		r.begin(time.Now())
		if err := c.republishOverdue(ctx, &r); err != nil && ctx.Err() == nil {
			c.log.Warn().Err(err).Msg("sweep")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// republishOverdue takes one batch of a round. It goes on behind a schedule that
// fails, so that it holds up no other one.
func (c *Consumer) republishOverdue(ctx context.Context, r *round) error {
	late, err := c.Calendar.Overdue(ctx, overdue, r.after, overdueBatch)
	if err != nil {
		return fmt.Errorf("consumer: list overdue schedules: %w", err)
	}
	for _, w := range late {
		r.after = w
		if err := c.republish(ctx, w); err != nil {
			r.undone = true
			return err
		}
	}
	r.whole = len(late) < overdueBatch
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
	due := copyOf(subjectDue+w.EndpointKey, raw.Header, raw.Data, readMeta(raw.Subject, raw.Header))
	err = c.store(ctx, StreamLater, func(ctx context.Context) error {
		_, err := c.js.PublishMsg(ctx, due)
		return err
	})
	if err != nil {
		return fmt.Errorf("consumer: republish %s: %w", subject, err)
	}
	c.log.Warn().Str("key", w.Key.String()).Msg("schedule did not fire; published it again")
	return remove(ctx, c.later, raw.Sequence)
}
