package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// fault is one way to break the world. It takes the lock of nothing: the
// nemesis has one fault at a time, and combinations are faults of their own.
type fault struct {
	name string
	hold [2]time.Duration // between inject and heal, at least and at most
	// needs is what the world must have: 'c' a cluster, '1' no cluster, 'l' a
	// campaign that is long enough.
	needs byte
	// inject breaks something and returns how to mend it. heal returns when
	// what was broken works again.
	inject func(ctx context.Context, b *breaking) (heal func(context.Context) error, err error)
}

// breaking is what a fault works with: the world, and its own part of chance.
type breaking struct {
	*world
	random *rand.Rand
	hold   time.Duration
}

// station is the relay process that this fault is about.
func (b *breaking) station() *station { return b.stations[b.random.IntN(len(b.stations))] }

// server is the NATS server that this fault is about.
func (b *breaking) server() *natsServer { return b.nats[b.random.IntN(len(b.nats))] }

// planned is a fault in the calendar.
type planned struct {
	fault
	at, hold time.Duration
	rest     bool // no fault comes for a while after it
	seed     uint64
}

// nemesis breaks things, by a calendar that its seed decides.
type nemesis struct{ calendar []planned }

// longEnough is a campaign that has time for long faults too.
const longEnough = 150 * time.Second

// An outage that stands alone, in a campaign of some length, lasts this long.
const (
	lonely = 40 * time.Second
	alone  = 3 * time.Second
)

func sickens(f fault) bool { return strings.HasPrefix(f.name, "outage-") }

// bounded: relay itself, NATS or Postgres is broken, and what is said of the
// time until relay works again can be seen. An endpoint's outage ends in its lane.
func (f fault) bounded() bool { return !sickens(f) && !strings.HasSuffix(f.name, "-receiver") }

// coolDown is the time of load after the last fault.
const coolDown = 3 * time.Second

// quiet is the time after some heals in which no fault comes: that relay works
// again within resumeBound can only be seen where nothing else breaks it.
const quiet = resumeBound + time.Second

// newNemesis makes the calendar.
func newNemesis(s settings) *nemesis {
	random := rand.New(rand.NewPCG(s.Seed, 2)) //nolint:gosec // a campaign must be repeatable
	chosen := chooseFaults(s)
	n := &nemesis{}
	if len(chosen) == 0 {
		return n
	}
	at := s.WarmUp
	if i := slices.IndexFunc(chosen, sickens); i >= 0 && s.Duration >= lonely {
		// One outage stands alone, so that what it does to others can be told.
		n.calendar = append(n.calendar, planned{fault: chosen[i], at: at, hold: alone, seed: random.Uint64()})
		at += alone + ackWait + 2*requestTimeout
	}
	cards := newDeck(random, chosen, s.central)
	for restless := 1; ; restless++ {
		f := cards.deal()
		p := planned{fault: f, at: at, hold: between(random, f.hold), seed: random.Uint64()}
		if at+p.hold > s.Duration-coolDown {
			return n
		}
		gap := between(random, [2]time.Duration{s.Every / 2, s.Every * 3 / 2})
		if s.Rest > 0 && restless >= s.Rest && f.bounded() {
			p.rest, restless = true, 0
			gap = max(gap, quiet)
		}
		n.calendar = append(n.calendar, p)
		at += p.hold + gap
	}
}

// central reports whether a fault is one of those that this campaign is for.
func (s settings) central(f fault) bool {
	return s.Cluster && f.needs == 'c' || s.From != "" && f.name == upgrading
}

func between(random *rand.Rand, d [2]time.Duration) time.Duration {
	if d[1] <= d[0] {
		return d[0]
	}
	return (d[0] + time.Duration(random.Int64N(int64(d[1]-d[0])))).Round(time.Millisecond)
}

// chooseFaults are those that were asked for, or all that suit the world.
func chooseFaults(s settings) []fault {
	var chosen []fault
	for _, f := range catalogue() {
		suits := f.needs == 0 || f.needs == 'c' && s.Cluster || f.needs == '1' && !s.Cluster || f.needs == 'l' && s.Duration >= longEnough
		if len(s.Only) == 0 && suits || slices.Contains(s.Only, f.name) {
			chosen = append(chosen, f)
		}
	}
	return chosen
}

// catalogue is every fault there is.
func catalogue() []fault {
	return slices.Concat(processFaults(), cableFaults(), postgresFaults(), receiverFaults(), diskFaults(), clusterFaults(), clockFaults())
}

func (n *nemesis) has(name string) bool {
	return slices.ContainsFunc(n.calendar, func(p planned) bool { return p.name == name })
}

func (n *nemesis) print(out io.Writer) {
	fmt.Fprintf(out, "%d faults, each not before its time:\n", len(n.calendar))
	for i, p := range n.calendar {
		rest := ""
		if p.rest {
			rest = ", then quiet"
		}
		fmt.Fprintf(out, "  %3d  %6.1f s  %-24s for %v%s\n", i+1, p.at.Seconds(), p.name, p.hold, rest)
	}
}

// run works through the calendar while ctx lasts. Each fault is healed before
// the next one comes. An error is a fault that could not be made, or that did
// not heal.
func (n *nemesis) run(ctx context.Context, w *world, out io.Writer) error {
	began := time.Now()
	for i, p := range n.calendar {
		if !wait(ctx, time.Until(began.Add(p.at))) {
			return nil // the load has ended; so has the need for faults
		}
		if i == 0 {
			for _, s := range w.stations {
				s.usage(ctx, "warm")
			}
		}
		if err := p.strike(ctx, w, i+1); err != nil {
			return fmt.Errorf("fault %d, %s: %w", i+1, p.name, err)
		}
		if i == len(n.calendar)/2 {
			w.replay(ctx, out)
		}
		if p.rest { // by the heal, not by the calendar: some heals take their time
			wait(ctx, quiet)
		}
	}
	wait(ctx, time.Until(began.Add(w.settings.Duration)))
	return nil
}

func (p planned) strike(ctx context.Context, w *world, number int) error {
	ctx = context.WithoutCancel(ctx)                                                 // what is broken is mended, although the load ends
	b := &breaking{world: w, random: rand.New(rand.NewPCG(p.seed, 3)), hold: p.hold} //nolint:gosec // as above
	w.history.note(entry{What: sayFault, Number: number, Name: p.name})
	heal, err := p.inject(ctx, b)
	if err != nil {
		return err
	}
	wait(ctx, p.hold)
	err = heal(ctx)
	w.history.note(entry{What: sayHeal, Number: number, Name: p.name})
	return err
}

// wait waits and reports whether ctx is still alive.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(0, d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// replay asks all dead letters back, in the middle of everything.
func (w *world) replay(ctx context.Context, out io.Writer) {
	answer := ""
	err := w.eventually(context.WithoutCancel(ctx), 10*time.Second, "replay", func(ctx context.Context) error {
		m, err := w.conn.RequestWithContext(ctx, "relay.dead.replay", []byte("all"))
		if err != nil {
			return err
		}
		if code := m.Header.Get("Nats-Service-Error-Code"); code != "" {
			return errors.New(code + ": " + m.Header.Get("Nats-Service-Error"))
		}
		answer = string(m.Data)
		return nil
	})
	if err != nil {
		answer = err.Error()
		w.history.note(entry{What: sayTrouble, Name: "replay", Note: answer})
	}
	w.history.note(entry{What: sayReplay, Note: answer})
	fmt.Fprintln(out, "replay:", answer)
}
