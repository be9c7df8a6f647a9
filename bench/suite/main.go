// Suite measures relay against the bare loop and against its goals, in
// alternating runs on this machine, and writes BENCHMARKS.md:
//
//	go run ./bench/suite -only burst,rate -runs 3
//
// Everything is a process of its own: Postgres, relay (or the floor), and relay
// bench, which is load and receiver. Each run starts on an empty database and
// empty streams. The reports stay as JSON lines in the results folder, one file
// a scenario, and what is there from earlier counts too: so many evenings make
// one table. Remove the folder to begin anew.
//
//	scenarios.go  what is measured: one function each; start here. sick.go, scale.go, trust.go and profile.go go on
//	machine.go    Postgres, the binaries, this machine
//	target.go     one relay or one floor, and bench on it
//	results.go    the JSON lines
//	goals.go      what is hoped for, and whether it came to be
//	document.go   BENCHMARKS.md
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// settings are the flags.
type settings struct {
	Only    []string // beginnings of names; none: all
	Runs    int
	Short   bool
	Scale   float64  // of the numbers of events, for trying the suite itself
	Dir     string   // of the stores
	Results string   // of the JSON lines
	Out     string   // the document; "" for none
	Relay   string   // a relay that is already built
	Set     []string // further settings of relay, key=value
	Keep    bool     // what processes wrote to their standard error
}

func main() {
	var s settings
	var only string
	flag.StringVar(&only, "only", "", "scenarios, by the beginning of their names, with commas (default: all)")
	flag.IntVar(&s.Runs, "runs", 5, "runs of each side of each scenario; 0 only writes the document")
	flag.BoolVar(&s.Short, "short", false, "less of what takes longest: no ten million rows, a tenth of the parked events")
	flag.Float64Var(&s.Scale, "scale", 1, "multiply the numbers of events, to try a scenario quickly; such results are for nothing else")
	flag.StringVar(&s.Dir, "dir", "", "directory for streams and database (default: a temporary one); not on a tmpfs")
	flag.StringVar(&s.Results, "results", "bench/results", "directory of the reports, as JSON lines; earlier ones there count too")
	flag.StringVar(&s.Out, "out", "BENCHMARKS.md", "the document; empty for none")
	flag.StringVar(&s.Relay, "relay", "", "a relay that is already built (default: this source)")
	flag.BoolVar(&s.Keep, "verbose", false, "show what the processes say")
	flag.Func("set", "a setting of relay, key=value; repeatable", func(kv string) error {
		s.Set = append(s.Set, kv)
		return nil
	})
	list := flag.Bool("list", false, "list the scenarios")
	flag.Parse()
	if only != "" {
		s.Only = strings.Split(only, ",")
	}
	if *list {
		for _, sc := range scenarios() {
			fmt.Printf("%-20s %s\n", sc.name, sc.title)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		os.Exit(1)
	}
}

// run measures the chosen scenarios in turn, and then writes the document from
// all results that are there.
func run(ctx context.Context, s settings) error {
	var chosen []scenario
	for _, sc := range scenarios() {
		if s.wants(sc) {
			chosen = append(chosen, sc)
		}
	}
	if len(chosen) == 0 {
		return errors.New("no scenario has such a name: -list shows them")
	}
	m, err := openMachine(ctx, s)
	if err != nil {
		return err
	}
	err = m.measure(ctx, chosen)
	return errors.Join(err, m.close(), m.document(context.WithoutCancel(ctx)))
}

func (s settings) wants(sc scenario) bool {
	return len(s.Only) == 0 || slices.ContainsFunc(s.Only, func(name string) bool { return strings.HasPrefix(sc.name, name) })
}

// measure makes all runs of a scenario before it goes on to the next: its sides
// take turns, so that what changes on the machine changes for all of them.
func (m *machine) measure(ctx context.Context, chosen []scenario) error {
	for _, sc := range chosen {
		runs := m.Runs
		if sc.once {
			runs = 1
		}
		for i := range runs {
			fmt.Printf("%s, run %d of %d\n", sc.name, i+1, runs)
			m.scenario, m.pass, m.busy = sc.name, newPass(), loadAverage()
			if err := sc.run(ctx, m); err != nil {
				return fmt.Errorf("%s: %w", sc.name, err)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// n is a number of events, as large as this suite wants it.
func (s settings) n(events int) int { return max(100, int(float64(events)*s.Scale)) }
