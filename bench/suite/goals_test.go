package main

import (
	"math"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay/bench"
)

func made(side, pass string, throughput, p99 float64) line {
	settled := bench.Latency{Count: 1, P99: p99}
	if p99 == 0 {
		settled = bench.Latency{} // nothing was published after the first delivery
	}
	return line{Side: side, Pass: pass, Report: bench.Report{
		Throughput: throughput,
		Kinds:      []bench.KindReport{{Kind: bench.Healthy, Latency: bench.Latency{Count: 1, P99: p99}, Settled: settled}},
	}}
}

// A ratio is taken within each pass: a slow evening does not count against the
// side that was measured on it.
func TestRatiosAreOfOnePass(t *testing.T) {
	all := []line{
		made(sideFloor, "a", 1000, 1), made(sideRelay, "a", 500, 2),
		made(sideFloor, "b", 100, 1), made(sideRelay, "b", 60, 3),
		made(sideFloor, "c", 1000, 1), made(sideRelay, "c", 700, 4),
		made(sideRelay, "d", 9000, 1), // alone
	}
	if x, ok := ratio(sideRelay, sideFloor, throughput)(all); !ok || x != 0.6 {
		t.Errorf("the ratio is %v, %v, want 0.6", x, ok)
	}
	if x, ok := median(sideFloor, throughput)(all); !ok || x != 1000 {
		t.Errorf("the median is %v, %v", x, ok)
	}
	if x, ok := most(sideRelay, p99)(all); !ok || x != 4 {
		t.Errorf("the most is %v, %v", x, ok)
	}
	if _, ok := ratio(sideRelay, sideAlone, throughput)(all); ok {
		t.Error("there is a ratio to what was not measured")
	}
}

// What was not seen is not met.
func TestAGoalWithoutFiguresIsNotMet(t *testing.T) {
	g := atMost("p99 from then on against alone", 1.5, ratioOf(sideRelay, settledP99, sideAlone, p99))
	x, ok := g.figure([]line{made(sideRelay, "a", 1, 0), made(sideAlone, "a", 1, 5)})
	if !ok || !math.IsInf(x, 1) || g.met(x) {
		t.Errorf("%v, %v, met %v", x, ok, g.met(x))
	}
	if !g.met(1.5) || g.met(1.51) || !atLeast("", 0.5, nil).met(0.5) || atLeast("", 0.5, nil).met(0.49) {
		t.Error("a limit is not where it should be")
	}
}

// Of a drain only the seconds count in which something came back.
func TestTheSecondInTheMiddle(t *testing.T) {
	second := func(p99 float64, recovered int) bench.Second { return bench.Second{P99: p99, Recovered: recovered} }
	for want, seconds := range map[float64][]bench.Second{
		2:           {second(90, 0), second(1, 0), second(2, 0), {}},
		5:           {second(1, 0), second(1, 0), second(1, 0), second(4, 7), second(5, 9), second(60, 1)},
		math.Inf(1): {{}},
	} {
		if got := usualP99(line{Report: bench.Report{Timeline: seconds}}); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

func TestProfilesAreLegible(t *testing.T) {
	got := legible("File: x\nDuration: 3s\n audit.(*committer[go.shape.struct { a [16]uint8 }]).run\n")
	if want := "Duration: 3s\n audit.(*committer).run\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The relays that trust measures are built from this source: it must say what is
// changed.
func TestVariantsCanBeBuilt(t *testing.T) {
	for _, c := range []change{noGuard, redial} {
		if text, err := c.apply("../.."); err != nil || !strings.Contains(text, c.new) {
			t.Errorf("%s: %v", c.file, err)
		}
	}
}
