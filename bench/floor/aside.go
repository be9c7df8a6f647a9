package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// mover sets events aside: it copies them to a lane of relay's stream in atomic
// batches and acknowledges them. It decides nothing and writes nothing down, so
// this is how fast the broker can move a queue out of the way.
type mover struct {
	js jetstream.JetStream
	in chan jetstream.Msg
}

const maxMoved = 500 // in a batch

func newMover(js jetstream.JetStream) *mover {
	return &mover{js: js, in: make(chan jetstream.Msg, 4*maxMoved)}
}

func (v *mover) wants(m jetstream.Msg) bool {
	return strings.Contains(m.Headers().Get("Relay-Url"), "/hang/")
}

func (v *mover) run(ctx context.Context) {
	batch := make([]jetstream.Msg, 0, maxMoved)
	for first := range v.in {
		batch = append(batch[:0], first)
	more:
		for len(batch) < maxMoved {
			select {
			case m, ok := <-v.in:
				if !ok {
					break more
				}
				batch = append(batch, m)
			default:
				break more
			}
		}
		if err := v.move(ctx, batch); err != nil {
			fmt.Fprintln(os.Stderr, "floor: set aside:", err)
		}
	}
}

func (v *mover) move(ctx context.Context, batch []jetstream.Msg) error {
	copies := make([]*nats.Msg, len(batch))
	for i, m := range batch {
		copies[i] = &nats.Msg{Subject: "webhooks.parked.floor", Data: m.Data(), Header: nats.Header{
			"Relay-Url": m.Headers().Values("Relay-Url"),
		}}
	}
	if _, err := jetstreamext.PublishMsgBatch(ctx, v.js, copies); err != nil {
		return err
	}
	for _, m := range batch {
		if err := m.Ack(); err != nil {
			return err
		}
	}
	return nil
}
