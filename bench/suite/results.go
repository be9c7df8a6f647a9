package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/relaywebhooks/relay/bench"
)

// line is one report in the results folder.
type line struct {
	Scenario string             `json:"scenario"`
	Pass     string             `json:"pass"` // runs with the same one were made one after the other
	Side     string             `json:"side"`
	Sync     string             `json:"sync"`
	Version  string             `json:"version"` // of relay's source
	Command  string             `json:"command"`
	Set      []string           `json:"set,omitempty"` // settings of relay that are not the defaults
	Busy     float64            `json:"busy"`          // load average of the machine before the run: other work, if it is not near 0
	Report   bench.Report       `json:"report"`
	Extra    map[string]float64 `json:"extra,omitempty"` // what relay bench does not measure
}

func newPass() string { return strconv.FormatInt(time.Now().UnixMilli(), 36) }

// keep appends a report to the scenario's file and shows the gist of it.
func (m *machine) keep(l line) error {
	l.Scenario, l.Pass, l.Version, l.Set, l.Busy = m.scenario, m.pass, m.version, m.Set, m.busy
	if err := os.MkdirAll(m.Results, 0o755); err != nil { //nolint:gosec // figures for everyone
		return err
	}
	f, err := os.OpenFile(filepath.Join(m.Results, l.Scenario+".jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // figures for everyone
	if err != nil {
		return err
	}
	fmt.Printf("  %-14s %6.0f/s  p50 %.2f  p99 %.2f ms  first %.0f ms  CPU %.3f s/1k (+ Postgres %.3f)  memory %.0f MiB  lost %d  duplicates %d\n",
		l.Side, l.Report.Throughput, p50(l), p99(l), first(l), cpu(l), cpuPostgres(l), memory(l), l.Report.Lost, l.Report.Duplicates)
	return errors.Join(json.NewEncoder(f).Encode(l), f.Close()) //nolint:gosec // a pass is no password
}

// results reads all lines of a scenario, those of earlier suites included.
func (m *machine) results(scenario string) ([]line, error) {
	f, err := os.Open(filepath.Join(m.Results, scenario+".jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	var all []line
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", f.Name(), len(all)+1, err)
		}
		all = append(all, l)
	}
	return all, lines.Err()
}

// of are the lines of one side.
func of(all []line, side string) []line {
	return slices.DeleteFunc(slices.Clone(all), func(l line) bool { return l.Side != side })
}

// healthy is what the report says of healthy endpoints.
func healthy(l line) bench.KindReport {
	for _, k := range l.Report.Kinds {
		if k.Kind == bench.Healthy && !k.Queued {
			return k
		}
	}
	return bench.KindReport{}
}

func usage(l line, i int) bench.Usage {
	if i < len(l.Report.Usage) {
		return l.Report.Usage[i]
	}
	return bench.Usage{}
}

// The figures that goals are about.
func throughput(l line) float64 { return l.Report.Throughput }
func p50(l line) float64        { return healthy(l).Latency.P50 }
func p99(l line) float64        { return healthy(l).Latency.P99 }

// These two are infinite if there was nothing that could be late.
func settledP99(l line) float64   { return p99Of(healthy(l).Settled) }
func meanwhileP99(l line) float64 { return p99Of(healthy(l).Meanwhile) }

// usualP99 is the p99 of the second in the middle, of those in which parked events
// came back if any did: what it is while the disk does not pause.
func usualP99(l line) float64 {
	var every, recovering []float64
	for _, s := range l.Report.Timeline {
		if s.P99 > 0 {
			every = append(every, s.P99)
		}
		if s.P99 > 0 && s.Recovered > 0 {
			recovering = append(recovering, s.P99)
		}
	}
	if len(recovering) > 0 {
		every = recovering
	}
	usual, ok := middle(every)
	if !ok {
		return math.Inf(1)
	}
	return usual
}

func p99Of(l bench.Latency) float64 {
	if l.Count == 0 {
		return math.Inf(1)
	}
	return l.P99
}

func first(l line) float64 { return healthy(l).FirstMS }

// Counted from the first publish of what was queued first, in seconds.
func firstOfAll(l line) float64 { return l.Report.QueuedSeconds + first(l)/1000 }
func settled(l line) float64    { return l.Report.SettledSeconds }

func settledRate(l line) float64 { return float64(l.Report.Options.Queued) / l.Report.SettledSeconds }

// cpu is that of relay or the floor, NATS included; cpuAll with Postgres.
func cpu(l line) float64         { return usage(l, 0).CPUPer1000 }
func cpuPostgres(l line) float64 { return usage(l, 1).CPUPer1000 }
func cpuAll(l line) float64      { return cpu(l) + cpuPostgres(l) }
func memory(l line) float64      { return float64(usage(l, 0).MemMost) / (1 << 20) }

func memoryAfter(l line) float64 { return float64(usage(l, 0).MemAfter) / (1 << 20) }
func memoryGrown(l line) float64 {
	return float64(usage(l, 0).MemMost-usage(l, 0).MemBefore) / (1 << 20)
}

func lost(l line) float64       { return float64(l.Report.Lost) }
func duplicates(l line) float64 { return float64(l.Report.Duplicates) }
func duration(l line) float64   { return l.Report.Seconds }
func latest(l line) float64     { return healthy(l).Latency.Max / 1000 }

// drained is how long the parked events took, by the speed of those in the
// middle: one in a hundred at both ends was tried before, and waits for its next
// attempt.
func drained(l line) float64 { return (l.Report.RecoveryEnded - l.Report.RecoveryBegan) / 0.98 }

// unrecovered are the parked events that were not delivered after all.
func unrecovered(l line) float64 {
	for _, k := range l.Report.Kinds {
		if k.Queued {
			return float64(k.Confirmed - k.Delivered)
		}
	}
	return 0
}

// early are the requests for what was queued first, before it was to be tried.
func early(l line) float64 {
	for _, k := range l.Report.Kinds {
		if k.Queued {
			return float64(k.Requests)
		}
	}
	return 0
}

// silent counts the seconds of the load in which nothing was delivered.
func silent(l line) (n float64) {
	for i, s := range l.Report.Timeline {
		if float64(i) < l.Report.PublishSeconds && s.Delivered == 0 {
			n++
		}
	}
	return n
}

// extra is a figure that relay bench does not measure.
func extra(name string) func(line) float64 {
	return func(l line) float64 { return l.Extra[name] }
}
