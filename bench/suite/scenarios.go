package main

import (
	"context"
	"errors"
	"fmt"
)

// scenario is one thing that is measured. Its function makes one run of each of
// its sides and keeps their reports.
type scenario struct {
	name  string
	title string
	run   func(ctx context.Context, m *machine) error
	goals []goal
	once  bool // more runs would say no more
}

// scenarios are all of them, in the order of the document.
func scenarios() []scenario {
	return []scenario{
		{
			name: "burst-always", title: "20,000 events for one endpoint at once, every message synced",
			run: burstAlways, goals: againstFloor(),
		},
		{
			name: "burst-default", title: "20,000 events for one endpoint at once, the server's default sync",
			run: burstDefault, goals: againstFloor(),
		},
		{
			name: "rate", title: "200 events a second for one endpoint, every message synced",
			run: rate, goals: rateGoals(),
		},
		{
			name: "hang-10k-always", title: "200 events a second beside an endpoint that hangs, 10,000 events queued first, every message synced",
			run: hang10kAlways, goals: hang10kGoals(),
		},
		{
			name: "hang-10k-default", title: "200 events a second beside an endpoint that hangs, 10,000 events queued first, default sync",
			run: hang10kDefault, goals: hang10kGoals(),
		},
		{
			name: "hang-100k-always", title: "200 events a second beside an endpoint that hangs, 100,000 events queued first, every message synced",
			run: hang100kAlways, goals: hang100kGoals(),
		},
		{
			name: "hang-100k-default", title: "200 events a second beside an endpoint that hangs, 100,000 events queued first, default sync",
			run: hang100kDefault, goals: hang100kGoals(),
		},
		{
			name: "parked-million", title: "500 events a second, and a burst, beside 1,000,000 parked events of a dead endpoint, synced every second",
			run: parkedMillion, goals: parkedGoals(),
		},
		{
			name: "mixed-1000-sick", title: "100 healthy endpoints beside 1,000 sick ones of six kinds, every message synced",
			run: mixed, goals: mixedGoals(),
		},
		{
			name: "drain-100k", title: "200 events a second while an endpoint with 100,000 parked events comes back, default sync",
			run: drain, goals: drainGoals(),
		},
		{
			name: "100k-endpoints", title: "100,000 events for as many endpoints, default sync",
			run: endpoints100k, goals: endpointGoals(),
		},
		{
			name: "audit-size", title: "20,000 events at once with 0, 1 and 10 million rows in the audit log, default sync",
			run: auditSize, goals: auditGoals(),
		},
		{
			name: "three-relays", title: "300 events a second over three relays, one of which is killed, every message synced",
			run: threeRelays, goals: threeGoals(),
		},
		trustScenario(),
		{
			name: "profile", title: "where the time goes in a burst",
			run: profiles, once: true,
		},
	}
}

func (s settings) burstFlags() string { return fmt.Sprintf("--events %d", s.n(20_000)) }
func (s settings) rateFlags() string  { return fmt.Sprintf("--events %d --rate 200", s.n(3000)) }

func burstAlways(ctx context.Context, m *machine) error  { return burst(ctx, m, syncAlways) }
func burstDefault(ctx context.Context, m *machine) error { return burst(ctx, m, syncDefault) }

// burst: the bare loop, then relay.
func burst(ctx context.Context, m *machine, sync string) error {
	return errors.Join(m.one(ctx, sideFloor, sync, m.burstFlags()), m.one(ctx, sideRelay, sync, m.burstFlags()))
}

func rate(ctx context.Context, m *machine) error {
	return errors.Join(m.one(ctx, sideFloor, syncAlways, m.rateFlags()), m.one(ctx, sideRelay, syncAlways, m.rateFlags()))
}

// one measures a side on stores of its own and keeps the report.
func (m *machine) one(ctx context.Context, side, sync, flags string) error {
	return m.as(ctx, side, options{side: side, sync: sync}, flags)
}

// as does the same under another name.
func (m *machine) as(ctx context.Context, name string, o options, flags string) error {
	return m.with(ctx, o, func(t *target) error { return t.measure(ctx, name, flags) })
}

// with starts a target for as long as use takes.
func (m *machine) with(ctx context.Context, o options, use func(*target) error) error {
	t, err := m.start(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(use(t), t.close(ctx))
}

// measure runs relay bench on the target and keeps the report.
func (t *target) measure(ctx context.Context, name, flags string) error {
	report, err := t.bench(ctx, flags)
	if err != nil {
		return err
	}
	return t.m.keep(line{Side: name, Sync: t.o.sync, Command: "relay bench " + flags, Report: report})
}
