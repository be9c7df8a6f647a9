package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with the configuration.
type Fault struct {
	Key     string // dotted, or the name of a variable that is no key
	Value   string // as it was written; [hidden] if secret, "" if it does not matter
	Origin  string // file:line, variable, --set or default
	Problem string
}

// String returns one line, the origin first, as compilers do.
func (f Fault) String() string {
	var b strings.Builder
	if f.Origin != "" && f.Origin != f.Key {
		b.WriteString(f.Origin + ": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key)
		if f.Value != "" {
			b.WriteString(" = " + f.Value)
		}
		b.WriteString(": ")
	}
	return b.String() + f.Problem
}

// Faults is all that is wrong with a configuration. As an error it has one line
// per fault.
type Faults []Fault //nolint:errname // people call them so

// Error returns a heading and the faults.
func (fs Faults) Error() string {
	var b strings.Builder
	if len(fs) == 1 {
		b.WriteString("1 fault in the configuration:")
	} else {
		fmt.Fprintf(&b, "%d faults in the configuration:", len(fs))
	}
	for _, f := range fs {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// err returns the faults as an error, or nil if there are none. A key with
// several faults keeps them all; the same fault twice is said once.
func (fs Faults) err() error {
	if len(fs) == 0 {
		return nil
	}
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Problem, b.Problem))
	})
	return slices.Compact(fs)
}

const maxShown = 80 // characters of a value in a fault

// show prepares a foreign value for a line of text.
func show(value string) string {
	if runes := []rune(value); len(runes) > maxShown {
		value = string(runes[:maxShown]) + "…"
	}
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0xFFFD || r == 0x7F }) {
		return fmt.Sprintf("%q", value)
	}
	return value
}

// suggest returns ", did you mean …?" for the candidate that is nearest to the
// word, or "" if none is near.
func suggest(word string, candidates []string) string {
	best, least := "", 1+max(2, len(word)/4)
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is the number of bytes to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
