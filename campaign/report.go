package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// shown bounds the violations that are printed; the report has all.
const shown = 12

// figures counts what happened.
func (c *checker) figures() {
	kinds, status, plans := map[string]int{}, map[string]int{}, map[plan]int{}
	requests, replayed, unheard, twice, late := 0, 0, 0, 0, 0
	for id, all := range c.requests {
		requests += len(all)
		plans[planOf(id)]++
		for _, q := range all {
			if q.row == nil || q.status/100 != 2 {
				continue
			}
			switch q.row.kind {
			case "error":
				unheard++
			case "unrecorded":
				twice++
			}
		}
	}
	perKill, kills := map[int]int{}, 0
	for _, r := range c.rows {
		kinds[r.kind]++
		if cause, found := c.causeOf(r); r.kind == "unrecorded" && found {
			perKill[cause]++
		}
	}
	for _, v := range c.evidence.events {
		status[v.status]++
		if v.generation > 0 {
			replayed++
		}
	}
	lanes := uint64(0)
	for _, e := range c.history {
		switch {
		case e.What == sayGone || e.What == sayPaused:
			kills++
		case e.What == sayLane && e.Name != "all":
			lanes = max(lanes, e.Seq)
		}
	}
	for id := range c.intended {
		if planOf(id) == planLate {
			late++
		}
	}
	most := 0
	for _, n := range perKill {
		most = max(most, n)
	}
	calm, sick := c.latencies()
	v := &c.verdict
	v.add("events confirmed", "%d (%d scheduled, %d replayed)", len(c.acked), late, replayed)
	v.add("faults", "%d", len(c.faults))
	v.add("requests", "%d", requests)
	v.add("rows", "%d response, %d error, %d unrecorded", kinds["response"], kinds["error"], kinds["unrecorded"])
	v.add("ended", "%d delivered, %d failed, %d dead; %d letters", status["delivered"], status["failed"], status["dead"], len(c.letters))
	v.add("answered 2xx, unheard by relay", "%d", unheard)
	v.add("answered 2xx, unrecorded", "%d", twice)
	v.add("relay kills and pauses", "%d, interrupting %d attempts, at most %d each", kills, kinds["unrecorded"], most)
	v.add("largest lane", "%d events", lanes)
	v.add("acceptance to request", "p50 %v p99 %v calm, p99 %v beside sick endpoints",
		quantile(calm, 0.5).Round(time.Millisecond), quantile(calm, 0.99).Round(time.Millisecond), quantile(sick, 0.99).Round(time.Millisecond))
	v.add("draining", "%v", c.first(sayDrained).At.Sub(c.first(sayEbb).At).Round(time.Millisecond))
}

// print tells the verdict and stores it as report.json.
func (v verdict) print(out io.Writer, s settings) {
	fmt.Fprintln(out)
	for _, f := range v.Figures {
		fmt.Fprintf(out, "%-32s %v\n", f.Name, f.Value)
	}
	names := slices.Sorted(maps.Keys(v.Faults))
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, v.Faults[name])
	}
	fmt.Fprintf(out, "%-32s %s\n", "faults by kind", strings.Join(names, ", "))
	byInvariant := map[string]int{}
	for i, x := range v.Violations {
		byInvariant[x.Invariant]++
		if i < shown {
			fmt.Fprintf(out, "\nVIOLATION %s %s: %s\n    %s\n", x.Invariant, x.ID, x.What, strings.Join(x.Story, "\n    "))
		}
	}
	if len(v.Violations) == 0 {
		fmt.Fprintf(out, "\nseed %d: nothing lost, nothing invented, every duplicate explained\n", s.Seed)
	} else {
		fmt.Fprintf(out, "\nseed %d: %d VIOLATIONS: %v\n", s.Seed, len(v.Violations), byInvariant)
	}
	report, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.WriteFile(s.file("report.json"), report, 0o600)
	}
	if err != nil {
		fmt.Fprintln(out, "the report could not be written:", err)
	}
}
