package main

import (
	"context"
	"errors"
)

// scenario is one thing that is measured. Its function makes one run of each of
// its sides and keeps their reports.
type scenario struct {
	name  string
	title string
	run   func(ctx context.Context, m *machine) error
	goals []goal
	long  bool // -short leaves it out
}

func scenarios() []scenario {
	return []scenario{
		{
			name: "burst-always", title: "20,000 events for one endpoint at once, every message synced", run: burstAlways,
			goals: againstFloor(),
		},
		{
			name: "burst-default", title: "the same, with the server's default sync", run: burstDefault,
			goals: againstFloor(),
		},
		{
			name: "rate", title: "200 events a second for one endpoint", run: rate,
			goals: []goal{
				atMost("p50 against the bare loop", 2.5, ratio(sideRelay, sideFloor, p50)),
				atMost("p99, ms", 10, median(sideRelay, p99)),
			},
		},
		{
			name: "hang-10k-always", title: "200 events a second beside an endpoint that hangs, with 10,000 events queued first", run: hang10kAlways,
			goals: hang10kGoals(),
		},
		{
			name: "hang-10k-default", title: "the same, with the server's default sync", run: hang10kDefault,
			goals: hang10kGoals(),
		},
	}
}

const (
	burstFlags = "--events 20000"
	rateFlags  = "--events 3000 --rate 200"
)

func burstAlways(ctx context.Context, m *machine) error  { return burst(ctx, m, syncAlways) }
func burstDefault(ctx context.Context, m *machine) error { return burst(ctx, m, syncDefault) }

// burst: the bare loop, then relay.
func burst(ctx context.Context, m *machine, sync string) error {
	return errors.Join(m.one(ctx, sideFloor, sync, burstFlags), m.one(ctx, sideRelay, sync, burstFlags))
}

func rate(ctx context.Context, m *machine) error {
	return errors.Join(m.one(ctx, sideFloor, syncAlways, rateFlags), m.one(ctx, sideRelay, syncAlways, rateFlags))
}

func hang10kAlways(ctx context.Context, m *machine) error {
	return hang(ctx, m, syncAlways, "--queued 10000")
}

func hang10kDefault(ctx context.Context, m *machine) error {
	return hang(ctx, m, syncDefault, "--queued 10000")
}

// hang: relay alone, then beside the queue of an endpoint that hangs.
func hang(ctx context.Context, m *machine, sync, queued string) error {
	const healthy = "--events 6000 --rate 200 --patience 2m"
	return errors.Join(
		m.as(ctx, sideAlone, sideRelay, sync, healthy),
		m.one(ctx, sideRelay, sync, healthy+" "+queued+" --queued-as hang"))
}

// sideAlone is relay without what the scenario puts beside it.
const sideAlone = "relay alone"

// one measures a side on stores of its own.
func (m *machine) one(ctx context.Context, side, sync, flags string) error {
	return m.as(ctx, side, side, sync, flags)
}

// as measures a side and keeps the report under another name.
func (m *machine) as(ctx context.Context, name, side, sync, flags string) error {
	t, err := m.start(ctx, side, sync)
	if err != nil {
		return err
	}
	report, err := t.bench(ctx, flags)
	if err = errors.Join(err, t.close(ctx)); err != nil {
		return err
	}
	return m.keep(line{Side: name, Sync: sync, Command: "relay bench " + flags, Report: report})
}
