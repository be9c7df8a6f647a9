package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sum adds up runs that were made of the same thing.
type sum struct {
	counts
	what   string
	seeds  []uint64
	faults int
	broken map[string]int // violations by invariant
}

// columns are the invariants that have a column of their own in the table.
var columns = []struct{ title, invariant string }{
	{"lost", "I1"},
	{"requests without a row", "I3"},
	{"invented rows", "I4"},
	{"letters that must not be there", "I7"},
	{"duplicates without a cause", "I6"},
}

// addUp reads the reports of runs, from their directories or by their own
// names, and writes the tables of RELIABILITY.md: what was run, by revision,
// and the faults of all by kind.
func addUp(out io.Writer, paths []string) error {
	groups, total, kinds, versions := map[string]*sum{}, &sum{what: "all", broken: map[string]int{}}, map[string]int{}, map[string]bool{}
	for _, path := range paths {
		v, err := readReport(path)
		if err != nil {
			return err
		}
		what := v.kind()
		if groups[what] == nil {
			groups[what] = &sum{what: what, broken: map[string]int{}}
		}
		groups[what].add(v)
		total.add(v)
		for kind, n := range v.Faults {
			kinds[kind] += n
		}
		for name, version := range v.Versions {
			versions[name+" "+version] = true
		}
	}
	writeSums(out, groups, total)
	fmt.Fprintf(out, "\n%d heals had five seconds to show that every relay works again; the longest took %.1f s.\n",
		total.Healed, float64(total.SlowestHeal)/1000)
	fmt.Fprintf(out, "\nVersions: %s.\n", strings.Join(slices.Sorted(maps.Keys(versions)), "; "))
	fmt.Fprintf(out, "\n| fault | times |\n|---|---|\n")
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		fmt.Fprintf(out, "| `%s` | %s |\n", kind, thousands(kinds[kind]))
	}
	return nil
}

func readReport(path string) (verdict, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "report.json")
	}
	var v verdict
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		return v, fmt.Errorf("campaign: report %s: %w", path, err)
	}
	return v, nil
}

// kind is what runs must have in common to be added up.
func (v *verdict) kind() string {
	what := cmp.Or(v.Revision, "unknown")
	if v.Cluster {
		what += ", a cluster of three"
	}
	if v.From != "" {
		what += ", upgraded from " + v.From + " and back"
	}
	return what
}

func (s *sum) add(v verdict) {
	s.seeds = append(s.seeds, v.Seed)
	s.Events += v.Events
	s.Requests += v.Requests
	s.Rows += v.Rows
	s.Kills += v.Kills
	s.Interrupted += v.Interrupted
	s.Duplicates += v.Duplicates
	s.Healed += v.Healed
	s.SlowestHeal = max(s.SlowestHeal, v.SlowestHeal)
	for _, n := range v.Faults {
		s.faults += n
	}
	for _, x := range v.Violations {
		s.broken[x.Invariant]++
	}
}

func writeSums(out io.Writer, groups map[string]*sum, total *sum) {
	titles := []string{"relay", "runs", "seeds", "events", "faults", "requests", "rows", "kills and pauses", "attempts interrupted", "answered 2xx again"}
	for _, c := range columns {
		titles = append(titles, c.title)
	}
	fmt.Fprintf(out, "| %s | anything else |\n|%s\n", strings.Join(titles, " | "), strings.Repeat("---|", len(titles)+1))
	for _, what := range slices.Sorted(maps.Keys(groups)) {
		fmt.Fprintln(out, groups[what].line())
	}
	if len(groups) > 1 {
		fmt.Fprintln(out, total.line())
	}
}

func (s *sum) line() string {
	cells := []string{s.what, strconv.Itoa(len(s.seeds)), ranges(s.seeds)}
	for _, n := range []int{s.Events, s.faults, s.Requests, s.Rows, s.Kills, s.Interrupted, s.Duplicates} {
		cells = append(cells, thousands(n))
	}
	rest := maps.Clone(s.broken)
	for _, c := range columns {
		cells = append(cells, thousands(s.broken[c.invariant]))
		delete(rest, c.invariant)
	}
	var others []string
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		others = append(others, fmt.Sprintf("%s %d", name, rest[name]))
	}
	return "| " + strings.Join(append(cells, cmp.Or(strings.Join(others, ", "), "0")), " | ") + " |"
}

// ranges writes numbers with each run of neighbours as one: 1, 4–6.
func ranges(numbers []uint64) string {
	numbers = slices.Compact(slices.Sorted(slices.Values(numbers)))
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		part := strconv.FormatUint(numbers[i], 10)
		if j > i {
			part += "–" + strconv.FormatUint(numbers[j], 10)
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ", ")
}

// thousands writes a number with commas.
func thousands(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
