package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunsAreAddedUp(t *testing.T) {
	var dirs []string
	for i, v := range []verdict{
		{circumstances: circumstances{Seed: 4, Revision: "abc"}, counts: counts{Events: 1000, Requests: 2000, Rows: 2001, Duplicates: 2, SlowestHeal: 900}, Faults: map[string]int{"kill-nats": 2, "upgrade": 1}},
		{circumstances: circumstances{Seed: 5, Revision: "abc"}, counts: counts{Events: 500, Healed: 3, SlowestHeal: 1200}, Faults: map[string]int{"kill-nats": 1}},
		{circumstances: circumstances{Seed: 9, Revision: "abc", Cluster: true}, counts: counts{Events: 7}, Violations: []violation{{Invariant: "I7"}, {Invariant: "lanes"}}},
	} {
		dir := t.TempDir()
		v.print(&strings.Builder{}, settings{Dir: dir, Seed: v.Seed})
		if dirs = append(dirs, dir); i == 1 {
			dirs[i] = filepath.Join(dir, "report.json")
		}
	}
	var out strings.Builder
	if err := addUp(&out, dirs); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"| abc | 2 | 4–5 | 1,500 | 4 | 2,000 | 2,001 | 0 | 0 | 2 | 0 | 0 | 0 | 0 | 0 | 0 |",
		"| abc, a cluster of three | 1 | 9 | 7 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 1 | 0 | lanes 1 |",
		"| all | 3 | 4–5, 9 | 1,507 | 4 | 2,000 | 2,001 | 0 | 0 | 2 | 0 | 0 | 0 | 1 | 0 | lanes 1 |",
		"3 heals had five seconds to show that every relay works again; the longest took 1.2 s.",
		"| `kill-nats` | 3 |",
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("no line %q in\n%s", line, out.String())
		}
	}
	if err := os.Remove(filepath.Join(dirs[0], "report.json")); err != nil {
		t.Fatal(err)
	}
	if err := addUp(&out, dirs); err == nil || !strings.Contains(err.Error(), "report.json") {
		t.Errorf("a missing report: %v", err)
	}
}
