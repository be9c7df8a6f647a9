package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// loop is the bare loop. So many workers each see one message through at a time.
type loop struct {
	queue     jetstream.Consumer
	rows      *committer
	transport *http.Transport
	slots     int
	plain     bool
	mover     *mover // of what is set aside; nil: nothing is
}

func newLoop(queue jetstream.Consumer, rows *committer, aside *mover, s settings) *loop {
	l := &loop{
		queue: queue, rows: rows, slots: s.Slots, plain: s.Plain,
		transport: &http.Transport{MaxIdleConns: s.Slots, MaxIdleConnsPerHost: s.Slots, DisableCompression: true},
	}
	if s.Aside {
		l.mover = aside
	}
	return l
}

// run works until ctx ends and what is in hand is done.
func (l *loop) run(ctx context.Context) error {
	ahead := 2 * l.slots
	if l.mover != nil {
		ahead = 4 * maxMoved
	}
	messages, err := l.queue.Messages(jetstream.PullMaxMessages(ahead))
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer context.AfterFunc(ctx, messages.Stop)()
	work, done := l.workers(context.WithoutCancel(ctx))
	defer done()
	for {
		m, err := messages.Next()
		switch {
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return nil
		case err != nil:
			return fmt.Errorf("pull: %w", err)
		case l.mover != nil && l.mover.wants(m):
			l.mover.in <- m
		default:
			work <- m
		}
	}
}

// workers starts those who do the work; done waits until they have finished.
func (l *loop) workers(ctx context.Context) (work chan jetstream.Msg, done func()) {
	var working sync.WaitGroup
	work = make(chan jetstream.Msg)
	for range l.slots {
		working.Go(func() {
			for m := range work {
				if err := l.handle(ctx, m); err != nil {
					fmt.Fprintln(os.Stderr, "floor:", err) // JetStream delivers it again
				}
			}
		})
	}
	if l.mover != nil {
		working.Go(func() { l.mover.run(ctx) })
	}
	return work, func() {
		close(work)
		if l.mover != nil {
			close(l.mover.in)
		}
		working.Wait()
	}
}

func (l *loop) handle(ctx context.Context, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	r := &row{seq: meta.Sequence.Stream, url: m.Headers().Get("Relay-Url"), started: time.Now(), done: make(chan error, 1)}
	r.status, err = l.post(ctx, r.url, m.Data())
	r.took = time.Since(r.started)
	if err != nil {
		text := err.Error()
		r.err = &text
	}
	if err := l.rows.write(r); err != nil {
		return err
	}
	if l.plain {
		return m.Ack()
	}
	return m.DoubleAck(ctx)
}

// post makes one exchange and reads it to its end, so that its connection is
// used again.
func (l *loop) post(ctx context.Context, url string, body []byte) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("no answer within 30s"))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}
