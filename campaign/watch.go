package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
)

// watch samples what relay says of itself and how much waits, until ctx ends.
func (w *world) watch(ctx context.Context, out io.Writer) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	began, told := time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, s := range w.stations {
			w.askReady(ctx, s)
		}
		w.countLanes(ctx)
		if time.Since(told) >= 10*time.Second {
			told = time.Now()
			fmt.Fprintf(out, "%4.0f s: %d requests\n", time.Since(began).Seconds(), w.receiver.requests.Load())
		}
	}
}

// lagSlack is how long this process must have stood still for want of a
// processor to note it. The relays then did too.
const lagSlack = 100 * time.Millisecond

// feelLag notes when the machine had no time for the campaign itself, until
// ctx ends.
func (w *world) feelLag(ctx context.Context) {
	const beat = 10 * time.Millisecond
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if lag := time.Since(last) - beat; lag > lagSlack {
			w.history.note(entry{What: sayLag, Millis: lag.Milliseconds()})
		}
		last = time.Now()
	}
}

// askReady notes when /readyz answers otherwise than the last time.
func (w *world) askReady(ctx context.Context, s *station) {
	once, cancel := context.WithTimeout(ctx, 2500*time.Millisecond)
	defer cancel()
	status, body := s.ask(once, "/readyz")
	ready := status == 200
	s.mu.Lock()
	changed := ready != s.ready
	s.ready = ready
	s.mu.Unlock()
	if changed {
		w.history.note(entry{What: sayReady, Name: s.name, Status: status, Note: strings.Join(strings.Fields(body), " ")})
	}
	if changed || !ready {
		w.readGauges(ctx, s)
	}
}

// readGauges notes which of the gauges beside /readyz say that something is
// wrong. They are asked for when /readyz has something to say.
func (w *world) readGauges(ctx context.Context, s *station) {
	ctx, cancel := context.WithTimeout(ctx, 2500*time.Millisecond)
	defer cancel()
	status, page := s.ask(ctx, "/metrics")
	if status != 200 {
		return
	}
	e := entry{What: sayGauge, Name: s.name}
	for line := range strings.Lines(page) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		check, ok := strings.CutPrefix(name, "relay_ready{check=\"")
		if !ok {
			continue
		}
		e.Number++
		if value == "0" {
			e.Note = strings.TrimSpace(e.Note + " " + strings.TrimSuffix(check, "\"}"))
		}
	}
	w.history.note(e)
}

// countLanes notes how many events are parked, by endpoint.
func (w *world) countLanes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := w.js.Stream(ctx, consumer.StreamLater)
	if err != nil {
		return // NATS is away
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter("webhooks.parked.>"))
	if err != nil {
		return
	}
	w.history.note(entry{What: sayLane, Name: "all", Seq: uint64(len(info.State.Subjects))})
	for subject, n := range info.State.Subjects {
		w.history.note(entry{What: sayLane, Name: strings.TrimPrefix(subject, "webhooks.parked."), Seq: n})
	}
}

// drain waits until nothing is left to do, within bounds; the checker says
// what is wrong with the rest.
func (w *world) drain(ctx context.Context) {
	err := w.eventually(ctx, w.settings.Patience, "drain", func(ctx context.Context) error {
		for _, name := range []string{consumer.StreamQueue, consumer.StreamLater} {
			stream, err := w.js.Stream(ctx, name)
			if err != nil {
				return err
			}
			if n := stream.CachedInfo().State.Msgs; n > 0 {
				return errors.Join(fmt.Errorf("%d messages on %s", n, name), w.operator.releaseAll(ctx))
			}
		}
		return nil
	})
	e := entry{What: sayDrained}
	if err != nil && !errors.Is(err, context.Canceled) {
		e.Note = err.Error()
	}
	w.history.note(e)
}
