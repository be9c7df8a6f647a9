package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
)

// Sides that are relay or the floor under special conditions.
const (
	sideAlone  = "relay alone"        // without what the scenario puts beside it
	sideAside  = "broker's own speed" // the floor, which only moves the sick endpoint's events away
	sideBurst  = "burst beside"
	sideBursty = "burst alone"
)

// usualSecond goes beside what a p99 is over all: where that is far above it, a few
// seconds have nearly all that was slow.
const usualSecond = "the same of the second in the middle, by the p99 of each"

func hang10kAlways(ctx context.Context, m *machine) error { return hang(ctx, m, syncAlways, 10_000) }

func hang10kDefault(ctx context.Context, m *machine) error { return hang(ctx, m, syncDefault, 10_000) }

func hang100kAlways(ctx context.Context, m *machine) error { return hang(ctx, m, syncAlways, 100_000) }

func hang100kDefault(ctx context.Context, m *machine) error {
	return hang(ctx, m, syncDefault, 100_000)
}

// hang: relay alone, then beside the queue of an endpoint that hangs; and the
// floor, which sets that queue aside as fast as the broker moves messages.
func hang(ctx context.Context, m *machine, sync string, queued int) error {
	queued = m.n(queued)
	healthy := fmt.Sprintf("--events %d --rate 200 --patience 3m", m.n(6000))
	beside := fmt.Sprintf("%s --queued %d --queued-as hang", healthy, queued)
	aside := fmt.Sprintf("--events 200 --rate 200 --queued %d --queued-as hang --settle", queued)
	return errors.Join(
		m.as(ctx, sideAlone, options{side: sideRelay, sync: sync}, healthy),
		m.one(ctx, sideRelay, sync, beside),
		m.as(ctx, sideAside, options{side: sideFloor, sync: sync, aside: true}, aside))
}

func hang10kGoals() []goal {
	return []goal{
		atMost("first healthy delivery, ms", 1000, median(sideRelay, first)),
		atMost("p99 from then on against alone", 1.5, ratioOf(sideRelay, settledP99, sideAlone, p99)),
		atMost(usualSecond, 1.5, ratio(sideRelay, sideAlone, usualP99)),
		atMost("lost", 0, most(sideRelay, lost)),
	}
}

func hang100kGoals() []goal {
	return []goal{
		atMost("first healthy delivery, from the first queued event on, against setting the queue aside at the broker's own speed",
			1.3, ratioOf(sideRelay, firstOfAll, sideAside, settled)),
		atMost("p99 from then on against alone", 1.5, ratioOf(sideRelay, settledP99, sideAlone, p99)),
		atMost(usualSecond, 1.5, ratio(sideRelay, sideAlone, usualP99)),
		atMost("lost", 0, most(sideRelay, lost)),
	}
}

// parkedMillion: a rate and a burst on a relay that has nothing else to do, and
// on one that has a million events parked; then that one is started again. The rate
// goes on for a minute: in its first seconds the kernel still writes what Postgres
// has taken down of the million.
func parkedMillion(ctx context.Context, m *machine) error {
	parked := 1_000_000
	if m.Short {
		parked = 100_000
	}
	parked = m.n(parked)
	rate, burst := fmt.Sprintf("--events %d --rate 500", m.n(30_000)), m.burstFlags()
	o := options{side: sideRelay, sync: syncSecond}
	alone := func(t *target) error {
		return errors.Join(t.measure(ctx, sideAlone, rate), t.measure(ctx, sideBursty, burst))
	}
	beside := func(t *target) error {
		first := fmt.Sprintf("%s --queued %d --queued-as fail --settle", rate, parked)
		if err := errors.Join(t.measure(ctx, sideRelay, first), t.measure(ctx, sideBurst, burst)); err != nil {
			return err
		}
		return t.restart(ctx, parked)
	}
	return errors.Join(m.with(ctx, o, alone), m.with(ctx, o, beside))
}

// sideRestart keeps what relay bench cannot see: the restart.
const sideRestart = "restart"

// restart stops relay and starts it on the same stores, and counts what they
// hold.
func (t *target) restart(ctx context.Context, parked int) error {
	t.stop()
	took, err := t.launch(ctx)
	if err != nil {
		return err
	}
	held, err := t.held(ctx)
	if err != nil {
		return err
	}
	return t.m.keep(line{Side: sideRestart, Sync: t.o.sync, Command: "relay run", Extra: map[string]float64{
		"ready_seconds": took.Seconds(), "held": float64(held), "missing": float64(parked - held),
	}})
}

// held is how many events the streams hold.
func (t *target) held(ctx context.Context) (n int, err error) {
	conn, err := nats.Connect(t.natsURL())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return 0, err
	}
	for _, name := range []string{consumer.StreamQueue, consumer.StreamLater, consumer.StreamDead} {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return 0, err
		}
		n += int(s.CachedInfo().State.Msgs) //nolint:gosec // so many do not fit the disk
	}
	return n, nil
}

func parkedGoals() []goal {
	return []goal{
		atMost("p99 against alone", 2, ratio(sideRelay, sideAlone, p99)),
		atMost(usualSecond, 2, ratio(sideRelay, sideAlone, usualP99)),
		atLeast("burst against alone", 0.8, ratioOf(sideBurst, throughput, sideBursty, throughput)),
		atMost("requests to the dead endpoint: what opened its circuit, and probes", 100, most(sideRelay, early)),
		atMost("memory of relay and NATS, MiB", 200, median(sideRelay, memoryAfter)),
		atMost("restart to ready, s", 5, median(sideRestart, extra("ready_seconds"))),
		atMost("parked events that the streams do not hold", 0, most(sideRestart, extra("missing"))),
	}
}

// sideWell is relay with as many events as beside the sick, but nobody is sick:
// what is slower then is slow because of the load.
const sideWell = "relay, all well"

// mixed: fifty events a second for a hundred healthy endpoints, alone and
// among a thousand others that get as many each: first well, then sick ones.
func mixed(ctx context.Context, m *machine) error {
	const sick = " --fail 0.1516 --hang 0.1516 --slow 0.1515 --refuse 0.1515 --limit 0.1515 --flap 0.1515"
	return errors.Join(
		m.as(ctx, sideAlone, options{side: sideRelay, sync: syncAlways}, fmt.Sprintf("--events %d --rate 50 --endpoints 100 --patience 2m", m.n(3000))),
		m.as(ctx, sideWell, options{side: sideRelay, sync: syncAlways}, fmt.Sprintf("--events %d --rate 550 --endpoints 1100 --patience 2m", m.n(11_000))),
		m.one(ctx, sideRelay, syncAlways, fmt.Sprintf("--events %d --rate 550 --endpoints 1100 --patience 2m", m.n(33_000))+sick))
}

func mixedGoals() []goal {
	return []goal{
		atMost("healthy p99 against alone", 2, ratio(sideRelay, sideAlone, p99)),
		atMost(usualSecond, 2, ratio(sideRelay, sideAlone, usualP99)),
		atMost("healthy p99 against as many events for endpoints that are all well", 2, ratio(sideRelay, sideWell, p99)),
		atMost("lost", 0, most(sideRelay, lost)),
	}
}

// drain: a rate alone; as many events at once as will be parked, which is what
// the endpoint's own speed allows; and then the endpoint that comes back. It
// takes 50 ms to answer, as real ones do: one that takes no time is as fast as
// relay, and measures only how two cores are shared.
func drain(ctx context.Context, m *machine) error {
	parked := 100_000
	if m.Short {
		parked = 10_000
	}
	parked = m.n(parked)
	alone := fmt.Sprintf("--events %d --rate 200 --patience 3m", m.n(6000))
	rate := fmt.Sprintf("--events %d --rate 200 --patience 3m", max(m.n(24_000), 12_000)) // a circuit stays open for as long as a minute
	o := options{side: sideRelay, sync: syncDefault}
	return errors.Join(
		m.as(ctx, sideAlone, o, alone),
		m.as(ctx, sideBursty, o, fmt.Sprintf("--events %d --slow 1 --slow-for 50ms --patience 3m", parked)),
		m.as(ctx, sideRelay, o, fmt.Sprintf("%s --queued %d --queued-as fail --settle --heal-after 5s --healed-as slow --slow-for 50ms", rate, parked)))
}

func drainGoals() []goal {
	return []goal{
		atMost("time to drain against a burst of as many", 1.3, ratioOf(sideRelay, drained, sideBursty, duration)),
		atMost("healthy p99 meanwhile against alone", 1.5, ratioOf(sideRelay, meanwhileP99, sideAlone, p99)),
		atMost(usualSecond, 1.5, ratio(sideRelay, sideAlone, usualP99)),
		atMost("parked events that were not delivered", 0, most(sideRelay, unrecovered)),
		atMost("lost", 0, most(sideRelay, lost)),
	}
}
