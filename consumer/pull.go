package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pull asks a durable consumer for up to n messages and hands each over as it
// arrives, for pullWait at most. It returns nil also if there were fewer.
//
// It does what Fetch of nats.go does, but for one thing: a message is told from
// an answer of the server by its reply subject. Fetch takes every empty message
// with a header Status for such an answer, and a producer may well write one.
func (c *Consumer) pull(from *jetstream.ConsumerInfo, n int, each func(jetstream.Msg)) error {
	arriving := make(chan *nats.Msg, n+1) // and the server's last word
	inbox := c.Conn.NewInbox()
	sub, err := c.Conn.ChanSubscribe(inbox, arriving)
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // it fails with the connection
	request, err := json.Marshal(map[string]any{"batch": n, "expires": pullWait})
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	if err := c.Conn.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+from.Stream+"."+from.Name, inbox, request); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	late := time.NewTimer(pullWait + time.Second)
	defer late.Stop()
	for n > 0 {
		select {
		case m := <-arriving:
			if m.Reply == "" {
				return lastWord(m)
			}
			n--
			each(delivery{m})
		case <-late.C:
			return nil
		}
	}
	return nil
}

// lastWord reads the answer with which a server ends a pull early.
func lastWord(m *nats.Msg) error {
	switch status := m.Header.Get("Status"); status {
	case "404", "408": // there is no message, or no more within the time
		return nil
	case "503":
		return nats.ErrNoResponders
	default:
		return fmt.Errorf("pull: %s %s", status, m.Header.Get("Description"))
	}
}

// delivery makes a message that was pulled a [jetstream.Msg].
type delivery struct{ msg *nats.Msg }

var errNotUsed = errors.New("consumer: relay does not use this")

func (d delivery) Data() []byte                          { return d.msg.Data }
func (d delivery) Headers() nats.Header                  { return d.msg.Header }
func (d delivery) Subject() string                       { return d.msg.Subject }
func (d delivery) Reply() string                         { return d.msg.Reply }
func (d delivery) Ack() error                            { return d.msg.Ack() }
func (d delivery) DoubleAck(ctx context.Context) error   { return d.msg.AckSync(nats.Context(ctx)) }
func (d delivery) Nak() error                            { return d.msg.Nak() }
func (d delivery) NakWithDelay(wait time.Duration) error { return d.msg.NakWithDelay(wait) }
func (d delivery) InProgress() error                     { return d.msg.InProgress() }
func (d delivery) Term() error                           { return errNotUsed }
func (d delivery) TermWithReason(string) error           { return errNotUsed }

func (d delivery) Metadata() (*jetstream.MsgMetadata, error) {
	m, err := d.msg.Metadata()
	if err != nil {
		return nil, err
	}
	return &jetstream.MsgMetadata{
		Sequence:     jetstream.SequencePair{Consumer: m.Sequence.Consumer, Stream: m.Sequence.Stream},
		NumDelivered: m.NumDelivered, NumPending: m.NumPending, Timestamp: m.Timestamp,
		Stream: m.Stream, Consumer: m.Consumer, Domain: m.Domain,
	}, nil
}
