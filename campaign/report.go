package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// shown bounds the violations that are printed; the report has all.
const shown = 12

// print tells the verdict and stores it as report.json.
func (v *verdict) print(out io.Writer, s settings) {
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
