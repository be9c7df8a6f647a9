package relay_test

import (
	"errors"
	"fmt"
	"go/ast"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The pages that name tests. A page that is not there names none.
var pagesWithTests = []string{"README.md", "RELIABILITY.md", "SECURITY.md", "CONTRIBUTING.md"}

var (
	fences    = regexp.MustCompile("(?ms)^```.*?^```$") // what stands between them is an example
	testNames = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	crashRow  = regexp.MustCompile(`(?m)^\| C(\d+) \|.*\|$`)
)

// crashPoints is how many points the table in RELIABILITY.md has, from C0 on.
const crashPoints = 20

// page reads a page without its examples.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return fences.ReplaceAllString(string(text), "")
}

// TestPagesNameTestsThatExist: who reads that something is tested can run the
// test.
func TestPagesNameTestsThatExist(t *testing.T) {
	tests := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && s.test() {
				tests[f.Name.Name] = true
			}
		}
	}
	named := 0
	for _, name := range pagesWithTests {
		for _, test := range testNames.FindAllString(page(t, name), -1) {
			if named++; !tests[test] {
				t.Errorf("%s names %s, which does not exist", name, test)
			}
		}
	}
	if named < crashPoints {
		t.Errorf("%d tests are named on all pages: is this test looking at the right ones?", named)
	}
}

// TestEveryCrashPointHasATest: or the table says why it has none.
func TestEveryCrashPointHasATest(t *testing.T) {
	rows := crashRow.FindAllStringSubmatch(page(t, "RELIABILITY.md"), -1)
	if len(rows) != crashPoints {
		t.Errorf("%d crash points in the table, want %d", len(rows), crashPoints)
	}
	for i, row := range rows {
		if row[1] != fmt.Sprint(i) {
			t.Errorf("row %d is C%s", i, row[1])
		}
		if cells := strings.Split(row[0], " | "); len(cells) != 6 ||
			!testNames.MatchString(cells[5]) && !strings.Contains(cells[5], "Not tested: ") {
			t.Errorf("C%d: want six cells, and in the last one a test, or why there is none (Not tested: …): %s", i, row[0])
		}
	}
}
