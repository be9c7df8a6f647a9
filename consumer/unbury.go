package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
)

// A letter must not stand beside an event that was replayed and has ended. Two
// things could leave one there: a replay that broke off between its copy and
// the letter's removal, and a burial whose letter was stored, replayed and
// removed before the burial heard that it was stored, and stored it once more.
// So whatever ends a replayed event removes the letters of before, and whatever
// finds its event replayed removes its own.

// end acknowledges a message that nothing is left to be done for.
func (c *Consumer) end(ctx context.Context, m message, w relay.Webhook, v relay.Verdict) error {
	if err := c.unburyOlder(ctx, m, w); err != nil {
		return err
	}
	if v.Action == relay.Superseded {
		if err := c.unbury(ctx, w.EndpointKey, w.Key, w.Generation); err != nil {
			return err
		}
	}
	if v.Action == relay.Delivered && c.tails[m.stream].keep(m) {
		return nil
	}
	return c.ack(ctx, m)
}

// unburyOlder removes the letter that a message was brought back from.
func (c *Consumer) unburyOlder(ctx context.Context, m message, w relay.Webhook) error {
	if m.letter == "" {
		return nil
	}
	return c.unbury(ctx, m.letter, w.Key, w.Generation-1)
}

// unbury removes the letter of an event, if there is one under the endpoint's
// key and it is of this generation or an earlier one.
func (c *Consumer) unbury(ctx context.Context, endpointKey string, k relay.Key, generation int) error {
	subject := subjectDead + endpointKey + "." + k.String()
	err := attemptTimes(ctx, func(ctx context.Context) error {
		there, err := c.dead.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil || readMeta(there.Subject, there.Header).generation > generation {
			return err
		}
		return remove(ctx, c.dead, there.Sequence)
	})
	if err != nil {
		return fmt.Errorf("remove the letter %s: %w", subject, err)
	}
	return nil
}
