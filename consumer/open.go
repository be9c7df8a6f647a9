package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// open finds the streams and their durable consumers. A JetStream that does not
// answer is waited for, as Postgres is: a cluster may be electing, and a process
// that was started at that moment must not end. One that says that something
// does not exist, or is not to be had, is believed.
func (c *Consumer) open(ctx context.Context) (queue, due jetstream.Consumer, err error) {
	for told := false; ; told = true {
		queue, due, err = c.lookUp(ctx)
		if err == nil || ctx.Err() != nil || c.refusedForGood(err) {
			return queue, due, err
		}
		if !told {
			c.log.Warn().Err(err).Msg("JetStream does not answer yet; trying again")
		}
		pause(ctx, fetchPause)
	}
}

// refusedForGood reports whether trying again would change nothing.
func (c *Consumer) refusedForGood(err error) bool {
	for _, final := range []error{
		jetstream.ErrStreamNotFound, jetstream.ErrConsumerNotFound, jetstream.ErrJetStreamNotEnabledForAccount,
		nats.ErrConnectionClosed,
	} {
		if errors.Is(err, final) {
			return true
		}
	}
	return errors.Is(c.Conn.LastError(), nats.ErrPermissionViolation)
}

func (c *Consumer) lookUp(ctx context.Context) (queue, due jetstream.Consumer, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if queue, err = c.js.Consumer(ctx, StreamQueue, DurableQueue); err != nil {
		return nil, nil, missingStream(StreamQueue, DurableQueue, err)
	}
	stream, err := c.js.Stream(ctx, StreamQueue)
	if err != nil {
		return nil, nil, missingStream(StreamQueue, "", err)
	}
	c.made = stream.CachedInfo().Created
	if due, err = c.js.Consumer(ctx, StreamLater, DurableDue); err != nil {
		return nil, nil, missingStream(StreamLater, DurableDue, err)
	}
	if c.later, err = c.js.Stream(ctx, StreamLater); err != nil {
		return nil, nil, missingStream(StreamLater, "", err)
	}
	if c.dead, err = c.js.Stream(ctx, StreamDead); err != nil {
		return nil, nil, missingStream(StreamDead, "", err)
	}
	return queue, due, nil
}

func missingStream(stream, durable string, err error) error {
	what := "stream " + stream
	if durable != "" {
		what += " with durable consumer " + durable
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("consumer: %s does not exist: run relay init: %w", what, err)
	}
	return fmt.Errorf("consumer: look up %s: %w", what, err)
}
