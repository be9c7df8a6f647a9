package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/bench"
	"github.com/relaywebhooks/relay/consumer"
)

// benchCommand is relay bench. Its flags are the fields of bench.Options.
type benchCommand struct {
	Events  int     `default:"20000" help:"How many events to publish."`
	Rate    float64 `help:"Events per second; 0 is as fast as possible."`
	Payload int     `default:"1024" placeholder:"BYTES" help:"Size of a body."`
	Async   bool    `help:"Publish a burst one event at a time instead of in atomic batches."`
	WarmUp  int     `default:"1000" placeholder:"N" help:"Events that go to a healthy endpoint before anything is measured."`

	Endpoints int           `default:"1" help:"How many endpoints take the events in turn."`
	Fail      float64       `placeholder:"SHARE" help:"Which part of the endpoints answers 500: 0 to 1."`
	Hang      float64       `placeholder:"SHARE" help:"Which part does not answer."`
	Slow      float64       `placeholder:"SHARE" help:"Which part is slow to answer."`
	Refuse    float64       `placeholder:"SHARE" help:"Which part refuses connections."`
	Limit     float64       `placeholder:"SHARE" help:"Which part answers 429."`
	Flap      float64       `placeholder:"SHARE" help:"Which part answers 500 and 200 by turns."`
	SlowFor   time.Duration `default:"10s" help:"How long a slow endpoint takes."`
	FlapEvery time.Duration `default:"5s" help:"How long a flapping endpoint stays as it is."`

	Queued    int           `placeholder:"N" help:"Publish so many events for one sick endpoint first, in one go."`
	QueuedAs  string        `default:"hang" enum:"healthy,slow,flap,fail,limit,hang,refuse" help:"How that endpoint behaves: healthy, slow, flap, fail, limit, hang or refuse."`
	Settle    bool          `help:"Wait until those are set aside before the load begins."`
	HealAfter time.Duration `help:"Make that endpoint well so long after the load began, and wait for its events too."`
	HealedAs  string        `default:"healthy" enum:"healthy,slow" help:"How it behaves from then on: healthy or slow."`

	Listen   string        `default:"127.0.0.1:8424" placeholder:"HOST:PORT" help:"Where the receiver listens."`
	Refusing string        `placeholder:"HOST:PORT" help:"An address where nothing listens. Defaults to the receiver's port on 127.0.0.2."`
	Metrics  []string      `placeholder:"URL" sep:"none" help:"The /metrics page of a relay, for its CPU time and memory. Repeatable."`
	PID      []int         `name:"pid" help:"A process to measure with all its children, such as Postgres. Repeatable."`
	Patience time.Duration `default:"30s" help:"How long nothing may arrive before the rest is given up for lost."`

	JSON string `name:"json" placeholder:"FILE" help:"Write the report as JSON; - is standard output, instead of the text."`
	SVG  string `name:"svg" placeholder:"FILE" help:"Draw the latencies and the throughput."`
}

// Run measures the relay that takes its events from this NATS server.
func (c *benchCommand) Run(ctx context.Context, p *program) error {
	l, err := p.load()
	if err != nil {
		return err
	}
	conn, err := l.dialProducer()
	if errors.Is(err, nats.ErrNoServers) {
		return fmt.Errorf("%w\nrelay bench measures a relay that is running and starts none: run relay dev in another terminal, or say where NATS is with --set nats.url=…", err)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	o := c.options()
	o.Conn, o.Told = conn, func(line string) { fmt.Fprintln(p.stderr, line) }
	report, err := bench.Run(ctx, o)
	if err != nil {
		return err
	}
	return c.show(p, report)
}

func (c *benchCommand) options() bench.Options {
	return bench.Options{
		Subject: consumer.SubjectOutbound, Stream: consumer.StreamQueue,
		Events: c.Events, Rate: c.Rate, Payload: c.Payload, Async: c.Async, WarmUp: c.WarmUp, Endpoints: c.Endpoints,
		Shares: bench.Shares{
			bench.Fail: c.Fail, bench.Hang: c.Hang, bench.Slow: c.Slow,
			bench.Refuse: c.Refuse, bench.Limit: c.Limit, bench.Flap: c.Flap,
		},
		Slow: c.SlowFor, FlapEvery: c.FlapEvery,
		Queued: c.Queued, QueuedAs: bench.Kind(c.QueuedAs), Settle: c.Settle, HealAfter: c.HealAfter, HealedAs: bench.Kind(c.HealedAs),
		Listen: c.Listen, Refusing: c.Refusing, Metrics: c.Metrics, PIDs: c.PID, Patience: c.Patience,
	}
}

// show prints the report and writes the files. Lost events are a failure.
func (c *benchCommand) show(p *program, report bench.Report) error {
	if c.JSON != "-" {
		if err := report.Print(p.stdout); err != nil {
			return err
		}
	}
	if c.JSON != "" {
		if err := c.writeJSON(p, report); err != nil {
			return err
		}
	}
	if c.SVG != "" {
		if err := os.WriteFile(c.SVG, report.SVG(), 0o644); err != nil { //nolint:gosec // a picture for everyone
			return err
		}
	}
	if report.Lost > 0 {
		return fmt.Errorf("%d events were confirmed and did not arrive", report.Lost)
	}
	return nil
}

func (c *benchCommand) writeJSON(p *program, report bench.Report) error {
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if c.JSON == "-" {
		_, err = p.stdout.Write(text)
		return err
	}
	return os.WriteFile(c.JSON, text, 0o644) //nolint:gosec // figures for everyone
}
