package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
)

// storeFailed is JetStream's error code for a message that a stream has no
// room for: in all, or on its subject.
const storeFailed jetstream.ErrorCode = 10077

// bury stores a dead letter, waits until it is stored, and only then
// acknowledges the message. The stream keeps one letter of an event and
// refuses a second one, so that burying twice leaves the first as it was.
func (c *Consumer) bury(ctx context.Context, m message, w relay.Webhook, l *nats.Msg) error {
	err := c.store(ctx, StreamDead, func(ctx context.Context) error {
		_, err := c.js.PublishMsg(ctx, l)
		if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == storeFailed {
			return c.replace(ctx, l, w.Generation, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("publish to %s: %w", l.Subject, err)
	}
	c.At(AfterMove)
	if err := c.unburyOlder(ctx, m, w); err != nil {
		return err
	}
	// The letter may have been there before, replayed and removed, when this one
	// was stored: then the event is another generation's.
	if now, err := c.Log.Claim(ctx, w); err != nil {
		return err
	} else if now.Verdict.Action == relay.Superseded {
		if err := c.unbury(ctx, w.EndpointKey, w.Key, w.Generation); err != nil {
			return err
		}
	}
	return c.ack(ctx, m)
}

// replace sees to a letter that the stream refused. The one that is there may
// be of an earlier generation: a replay that broke off before it removed it.
// It is removed by name, which a crash of the server does not undo.
func (c *Consumer) replace(ctx context.Context, l *nats.Msg, generation int, refused error) error {
	there, err := c.dead.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(l.Subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return refused // the whole stream is full
	}
	if err != nil {
		return err
	}
	if readMeta(there.Subject, there.Header).generation >= generation {
		return nil
	}
	if err := remove(ctx, c.dead, there.Sequence); err != nil {
		return err
	}
	_, err = c.js.PublishMsg(ctx, l)
	return err
}
