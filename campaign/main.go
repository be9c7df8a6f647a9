// Campaign is relay's fault campaign: it runs real relays on a real NATS and a
// real Postgres under load, breaks everything around them in an order that a
// seed decides, and then holds what receivers saw against what relay recorded.
//
//	go run ./campaign -duration 75s -seed 1 -rate 250
//
// and, of runs that were made,
//
//	go run ./campaign -add-up DIR...
//
// It prints the seed and the calendar of faults first and the verdict last,
// and exits with 1 if an invariant does not hold. The history of the run, the
// logs and the report stay in the directory that -dir names. The same seed
// makes the same calendar, not the same interleaving.
//
//	world.go     the processes: relays.go, natsserver.go, Postgres by package embedded
//	cable.go     the network between them, as bad as it is told
//	producer.go  known events at a steady rate
//	receiver.go  endpoints that misbehave by plan
//	nemesis.go   the calendar of faults; faults_*.go what each of them does
//	operator.go  what is done to registered endpoints meanwhile; registered.go who they are
//	history.go   what happened, on disk
//	checker.go   the invariants, from the history, the streams and the tables alone
//	sum.go       the table of many runs
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// settings are what a campaign can be told.
type settings struct {
	Duration   time.Duration // of the load
	Seed       uint64
	Rate       int      // events per second
	Relays     int      // processes
	Dir        string   // what stays of the run
	Race       bool     // build relay with the race detector
	Cluster    bool     // three NATS servers and streams of three replicas
	Quiet      bool     // only events that succeed at once
	Only       []string // names of faults; none: all
	Every      time.Duration
	Rest       int           // after every so many faults none comes for quiet. 0: never
	Registered bool          // endpoints are registered, and an operator changes them
	From       string        // the commit of the relay that the stations start with; empty: the present one
	Relay      string        // a relay that is already built
	BuildFlags []string      // of relay, in addition
	WarmUp     time.Duration // without faults. Defaults to 5 s
	Patience   time.Duration // from the last heal until all is drained, at most. Defaults to a minute

	steps bool // a clock will be stepped
}

func (s settings) file(name string) string { return filepath.Join(s.Dir, name) }

func main() {
	var s settings
	var only string
	var sums bool
	flag.DurationVar(&s.Duration, "duration", 75*time.Second, "how long events are published")
	flag.Uint64Var(&s.Seed, "seed", 1, "decides the calendar of faults and the events")
	flag.IntVar(&s.Rate, "rate", 250, "events per second")
	flag.IntVar(&s.Relays, "relays", 2, "relay processes")
	flag.StringVar(&s.Dir, "dir", "", "where history, logs and report go; a temporary directory if empty")
	flag.BoolVar(&s.Race, "race", true, "build relay with the race detector")
	flag.BoolVar(&s.Cluster, "cluster", false, "run three NATS servers, with streams of three replicas")
	flag.DurationVar(&s.Every, "every", 700*time.Millisecond, "the pause between two faults, on average")
	flag.IntVar(&s.Rest, "rest", 0, "after every so many faults, leave relay in peace until it must work again")
	flag.BoolVar(&s.Registered, "registered", true, "register endpoints, and have an operator hold, rotate and change them meanwhile")
	flag.StringVar(&s.From, "from", "", "start with relay as of this commit; upgrades then replace it, and go back")
	flag.StringVar(&only, "faults", "", "names of the faults to choose from, with commas; none for no fault at all")
	flag.BoolVar(&sums, "add-up", false, "run nothing: add up the reports of runs, whose directories are the arguments")
	flag.Parse()
	if sums {
		if err := addUp(os.Stdout, flag.Args()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if only != "" {
		s.Only = strings.Split(only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	v, err := s.run(ctx, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || len(v.Violations) > 0 {
		stop()
		os.Exit(1)
	}
}

// run runs one campaign and judges it. An error means that there is no verdict.
func (s settings) run(ctx context.Context, out io.Writer) (verdict, error) {
	if s.Dir == "" {
		dir, err := os.MkdirTemp("", "relay-campaign-")
		if err != nil {
			return verdict{}, fmt.Errorf("campaign: %w", err)
		}
		s.Dir = dir
	}
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return verdict{}, fmt.Errorf("campaign: %w", err)
	}
	if s.Dir = dir; os.MkdirAll(s.Dir, 0o750) != nil {
		return verdict{}, fmt.Errorf("campaign: cannot make %s", s.Dir)
	}
	if s.WarmUp == 0 {
		s.WarmUp = 5 * time.Second
	}
	if s.Patience == 0 {
		s.Patience = time.Minute
	}
	n := newNemesis(s)
	s.steps = n.has("clock-step")
	fmt.Fprintf(out, "seed %d, %v of %d events/s, history in %s\n", s.Seed, s.Duration, s.Rate, s.Dir)
	n.print(out)
	fmt.Fprintln(out, "building and starting …")
	w, err := newWorld(ctx, s)
	if err != nil {
		return verdict{}, err
	}
	defer w.close()
	fmt.Fprintf(out, "%d relays work; publishing\n", len(w.stations))
	if err := w.campaign(ctx, n, out); err != nil {
		return verdict{}, err
	}
	e, err := w.gather(ctx)
	if err != nil {
		return verdict{}, err
	}
	v := e.check()
	v.circumstances, err = w.circumstances(ctx)
	v.print(out, s)
	return v, err
}

// campaign publishes and breaks, lets everything heal and drain, and stops the
// relays.
func (w *world) campaign(ctx context.Context, n *nemesis, out io.Writer) error {
	watching, stopWatching := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { w.watch(watching, out) })
	watch.Go(func() { w.feelLag(watching) })
	load, stopLoad := context.WithTimeout(ctx, w.settings.Duration)
	defer stopLoad()
	p := &producer{
		history: w.history, js: w.js, seed: w.settings.Seed, rate: w.settings.Rate,
		url: "http://" + w.endpoints.address(), quiet: w.settings.Quiet,
	}
	if w.operator != nil {
		p.registered = w.operator.endpoints
	}
	var producing sync.WaitGroup
	producing.Go(func() { p.run(load) })
	producing.Go(func() { w.operator.run(load) })
	err := n.run(load, w, out)
	producing.Wait()
	if err != nil || ctx.Err() != nil {
		stopWatching()
		watch.Wait()
		return fmt.Errorf("campaign: %w", errOr(err, ctx.Err()))
	}
	w.history.note(entry{What: sayEbb})
	fmt.Fprintln(out, "all published, all healed; draining")
	w.drain(ctx)
	for _, s := range w.stations {
		s.usage(ctx, "drained")
	}
	stopWatching()
	watch.Wait()
	for _, s := range w.stations {
		s.stop()
	}
	return w.history.close()
}

func errOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
