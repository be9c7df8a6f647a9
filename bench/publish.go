package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	window     = 4000    // publishes under way
	batchLen   = 500     // messages in an atomic batch; a server takes 1000
	batchBytes = 4 << 20 // and so many bytes of them, about
)

// publisher publishes the events of a run and keeps when it did.
type publisher struct {
	o    Options
	js   jetstream.JetStream
	body []byte
	r    *receiver

	published []int64 // when, by event; nanoseconds since the run began
	confirmed []bool
	refused   int
	why       error // of the first that was refused
	late      time.Duration
}

func newPublisher(o Options, r *receiver) (*publisher, error) {
	js, err := jetstream.New(o.Conn, jetstream.WithPublishAsyncMaxPending(window), jetstream.WithPublishAsyncTimeout(time.Minute))
	if err != nil {
		return nil, fmt.Errorf("bench: open JetStream: %w", err)
	}
	return &publisher{
		o: o, js: js, r: r, body: payload(o.Payload),
		published: make([]int64, len(r.events)), confirmed: make([]bool, len(r.events)),
	}, nil
}

// payload is a JSON document of exactly n bytes.
func payload(n int) []byte {
	b := []byte(`{"data":"`)
	for len(b) < n-2 {
		b = append(b, "abcdefghijklmnopqrstuvwxyz012345"[len(b)%32])
	}
	return append(b, '"', '}')
}

func (p *publisher) message(index int) *nats.Msg {
	return &nats.Msg{Subject: p.o.Subject, Data: p.body, Header: nats.Header{
		"Relay-Url": {p.r.events[index].url(p.o.run, index, p.r.url, p.o.refusing(p.r.url))},
	}}
}

// burst publishes events as fast as it can: in atomic batches where the server
// takes them, which makes one sync of the disk for all of a batch.
func (p *publisher) burst(ctx context.Context, from, to int) error {
	size := min(batchLen, max(1, batchBytes/max(1, p.o.Payload)))
	if p.o.Async || size < 2 {
		return p.async(ctx, from, to, 0)
	}
	for from < to {
		end := min(from+size, to)
		err := p.batch(ctx, from, end)
		if isUnsupported(err) {
			p.o.Async = true
			return p.async(ctx, from, to, 0)
		}
		if err != nil {
			return err
		}
		from = end
	}
	return nil
}

// isUnsupported reports an answer that says that there are no atomic batches
// here; nothing of such a batch is stored.
func isUnsupported(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == jetstreamext.JSErrCodeBatchPublishNotEnabled
}

func (p *publisher) batch(ctx context.Context, from, to int) error {
	msgs := make([]*nats.Msg, 0, to-from)
	for i := from; i < to; i++ {
		msgs = append(msgs, p.message(i))
	}
	now := p.r.since()
	for i := from; i < to; i++ {
		p.published[i] = now
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("no answer within a minute"))
	defer cancel()
	if _, err := jetstreamext.PublishMsgBatch(ctx, p.js, msgs); err != nil {
		return fmt.Errorf("bench: publish a batch of %d: %w", len(msgs), err)
	}
	for i := from; i < to; i++ {
		p.confirmed[i] = true
	}
	return nil
}

// async publishes one event after the other without waiting for the answers, at
// a rate if there is one. Each event has its moment from the start, so that no
// delay adds up.
func (p *publisher) async(ctx context.Context, from, to int, rate float64) error {
	type sent struct {
		index int
		ack   jetstream.PubAckFuture
	}
	acks := make(chan sent, 2*window)
	var collecting sync.WaitGroup
	collecting.Go(func() {
		for s := range acks {
			select {
			case <-s.ack.Ok():
				p.confirmed[s.index] = true
			case err := <-s.ack.Err():
				p.refuse(err)
			case <-ctx.Done():
			}
		}
	})
	defer collecting.Wait()
	defer close(acks)
	began := time.Now()
	for i := from; i < to; i++ {
		if rate > 0 {
			p.pace(ctx, began.Add(time.Duration(float64(i-from)/rate*float64(time.Second))))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.published[i] = p.r.since()
		ack, err := p.js.PublishMsgAsync(p.message(i), jetstream.WithStallWait(time.Minute))
		if err != nil {
			return fmt.Errorf("bench: publish: %w", err)
		}
		acks <- sent{i, ack}
	}
	return nil
}

// pace waits for a moment, and notes how much later it is.
func (p *publisher) pace(ctx context.Context, moment time.Time) {
	if d := time.Until(moment); d > 0 {
		wait(ctx, d)
	}
	p.late = max(p.late, time.Since(moment))
}

func (p *publisher) refuse(err error) {
	p.refused++
	if p.why == nil {
		p.why = err
	}
}
