package relay_test

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The pages that name tests. A page that is not there names none.
var pagesWithTests = []string{"README.md", "RELIABILITY.md", "SECURITY.md", "CONTRIBUTING.md"}

var (
	fences    = regexp.MustCompile("(?ms)^```.*?^```$") // what stands between them is an example
	testNames = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	crashRow  = regexp.MustCompile(`(?m)^\| C(\d+) \|.*\|$`)

	hostileRow  = regexp.MustCompile(`(?m)^\| ([A-Z])(\d+)(?:–[A-Z](\d+))? \| .* \| (.*) \|$`)
	hostileName = regexp.MustCompile("^[\"`]([EUADHRTPNSM]\\d{1,2}) ") // of a subtest, in quotes
	hostileWord = regexp.MustCompile(`\b[EUADHRTPNSM]\d{1,2}\b`)
)

// crashPoints is how many points the table in RELIABILITY.md has, from C0 on.
const crashPoints = 20

// hostileCases is how many numbers the table in SECURITY.md has.
const hostileCases = 139

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

// TestEveryHostileCaseHasATest: each number of the table stands in the package of a
// test that its row names, before the name of a subtest or in a comment, or the row
// says why not; and no subtest has a number that the table has not.
func TestEveryHostileCaseHasATest(t *testing.T) {
	dirs, marks, names := hostileMarks(t)
	rows := map[string]bool{}
	for _, row := range hostileRow.FindAllStringSubmatch(page(t, "SECURITY.md"), -1) {
		tests := testNames.FindAllString(row[4], -1)
		if len(tests) == 0 && !strings.HasPrefix(row[4], "Not tested: ") {
			t.Errorf("%s%s: want a test, or why there is none (Not tested: …)", row[1], row[2])
		}
		first, _ := strconv.Atoi(row[2])
		last, _ := strconv.Atoi(cmp.Or(row[3], row[2]))
		for n := first; n <= last; n++ {
			number := row[1] + strconv.Itoa(n)
			if rows[number] {
				t.Errorf("%s stands in the table twice", number)
			}
			rows[number] = true
			if len(tests) > 0 && !slices.ContainsFunc(tests, func(test string) bool { return marks[dirs[test]+" "+number] }) {
				t.Errorf("%s: beside none of %v is it named", number, tests)
			}
		}
	}
	if len(rows) != hostileCases {
		t.Errorf("%d cases in the table, want %d", len(rows), hostileCases)
	}
	for name, at := range names {
		if !rows[name] {
			t.Errorf("%v: %s is not in the table of SECURITY.md", at, name)
		}
	}
}

// hostileMarks finds in which folder a test is, which numbers stand in which
// folder, and which of them before the name of a subtest. What relaytest/hostile
// answers belongs to whoever uses it.
func hostileMarks(t *testing.T) (dirs map[string]string, marks map[string]bool, names map[string]token.Position) {
	t.Helper()
	dirs, marks, names = map[string]string{}, map[string]bool{}, map[string]token.Position{}
	const answers = "relaytest/hostile"
	for _, s := range sources(t) {
		if !s.test() && s.dir() != answers || s.in([]string{"bench", "campaign"}) {
			continue
		}
		in := []string{s.dir()}
		if s.dir() == answers {
			in = []string{"delivery", "cmd/relay"}
		}
		mark := func(number string) {
			for _, dir := range in {
				marks[dir+" "+number] = true
			}
		}
		for _, group := range s.file.Comments {
			for _, number := range hostileWord.FindAllString(group.Text(), -1) {
				mark(number)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				dirs[n.Name.Name] = s.dir()
			case *ast.BasicLit:
				if found := hostileName.FindStringSubmatch(n.Value); n.Kind == token.STRING && found != nil {
					mark(found[1])
					names[found[1]] = s.at(n)
				}
			}
			return true
		})
	}
	return dirs, marks, names
}
