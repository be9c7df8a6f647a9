package examples_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// root is the folder of the README, from here.
const root = ".."

// block is a fenced block of the README.
type block struct {
	language string // the word after the fence
	text     string
	line     int // of its first line
}

func (b block) String() string { return fmt.Sprintf("README.md:%d", b.line) }

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks returns the README's blocks in a language. There must be some: a test
// of none proves nothing.
func blocks(t *testing.T, language string) []block {
	t.Helper()
	var found []block
	var open *block
	for i, line := range strings.SplitAfter(readme(t), "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case isFence && open == nil:
			open = &block{language: fence, line: i + 2}
		case isFence:
			if open.language == language {
				found = append(found, *open)
			}
			open = nil
		case open != nil:
			open.text += line
		}
	}
	if open != nil {
		t.Fatalf("%v: the block has no end", open)
	}
	if len(found) == 0 {
		t.Fatalf("the README has no block in %s", language)
	}
	return found
}

// TestREADMEKnowsItsBlocks: what no test runs must not look as if one did.
func TestREADMEKnowsItsBlocks(t *testing.T) {
	known := []string{"sh", "sql", "go", "json", "yaml", "text"}
	fence := regexp.MustCompile("(?m)^```(.+)$")
	for _, m := range fence.FindAllStringSubmatch(readme(t), -1) {
		if !slices.Contains(known, m[1]) {
			t.Errorf("a block in %q, which nothing checks", m[1])
		}
	}
}

// TestREADMELinks: every relative link leads to a file, and every test that is
// named as a proof is there.
func TestREADMELinks(t *testing.T) {
	text := readme(t)
	for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("a link leads nowhere: %v", err)
		}
	}
	for _, m := range regexp.MustCompile(`\]\(#([^)]+)\)`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(anchors(text), m[1]) {
			t.Errorf("a link leads to no heading: #%s", m[1])
		}
	}
	proofs := regexp.MustCompile("`((?:Test|Fuzz|Example)[A-Za-z0-9_]+)` \\(\\[([^\\]]+)\\]").FindAllStringSubmatch(text, -1)
	if len(proofs) == 0 {
		t.Error("no promise names its proof")
	}
	for _, m := range proofs {
		code, err := os.ReadFile(filepath.Join(root, m[2]))
		if err != nil || !bytes.Contains(code, []byte("func "+m[1]+"(")) {
			t.Errorf("%s is not in %s", m[1], m[2])
		}
	}
}

// anchors are the headings as GitHub names them in links.
func anchors(text string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// TestREADMEGo vets the README's Go, as a package of this module.
func TestREADMEGo(t *testing.T) {
	t.Cleanup(func() { _ = os.Remove("testdata") }) // unless something else is in it
	for _, b := range blocks(t, "go") {
		dir := filepath.Join("testdata", fmt.Sprint("readme-", b.line))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		name := "readme.go"
		if strings.Contains(b.text, "*testing.T") {
			name = "readme_test.go"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "go", "vet", "./"+filepath.ToSlash(dir)).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", b, err, out)
		}
		if out, err := exec.CommandContext(t.Context(), "gofmt", "-d", filepath.Join(dir, name)).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v: gofmt would write\n%s", b, out)
		}
	}
}

// TestREADMEFields: the README has every field of a message, in both forms, and
// every metric.
func TestREADMEFields(t *testing.T) {
	text := readme(t)
	var forms []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (?:`(Relay-[^`]+)`|the message's body) \\|").FindAllStringSubmatch(text, -1) {
		forms = append(forms, m[1])
		raw := map[string]string{"headers": "Relay-Header-<Name>", "payload": ""}
		want, own := raw[m[1]]
		if !own {
			want = http.CanonicalHeaderKey("relay-" + strings.ReplaceAll(m[1], "_", "-"))
		}
		if m[2] != want {
			t.Errorf("the raw form of %s is %q, want %q", m[1], m[2], want)
		}
	}
	if known := inCode(t, "consumer/fields.go", `(?m)^\t"([a-z_]+)":\s`); !slices.Equal(sorted(forms), known) {
		t.Errorf("the README has the fields %v\nconsumer knows        %v", sorted(forms), known)
	}
	var metrics []string
	for _, m := range regexp.MustCompile("`(relay_[a-z_]+)`").FindAllStringSubmatch(text, -1) {
		if !slices.Contains([]string{"relay_owner", "relay_app", "relay_reader"}, m[1]) {
			metrics = append(metrics, m[1])
		}
	}
	if known := inCode(t, "admin/*.go", `"(relay_[a-z_]+)"`); !slices.Equal(sorted(metrics), known) {
		t.Errorf("the README has the metrics %v\nadmin has                %v", sorted(metrics), known)
	}
}

// inCode returns what a pattern's group matches in files that are no tests.
func inCode(t *testing.T, glob, pattern string) (found []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, glob))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(code, -1) {
			found = append(found, string(m[1]))
		}
	}
	return sorted(found)
}

// sorted returns the different ones of all, in order.
func sorted(all []string) []string { return slices.Compact(slices.Sorted(slices.Values(all))) }

// TestREADMELimits: the README has each limit of limits.go, and no other.
func TestREADMELimits(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `(Max[A-Za-z]+)` \\| ([^|]+) \\|")
	told := map[string]float64{}
	for _, m := range row.FindAllStringSubmatch(readme(t), -1) {
		told[m[1]] = quantity(t, m[2])
	}
	if held := limits(t); !maps.Equal(told, held) {
		t.Errorf("the README tells %v\nlimits.go holds %v", told, held)
	}
}

// limits are the constants of limits.go.
func limits(t *testing.T) map[string]float64 {
	t.Helper()
	tokens := token.NewFileSet()
	file, err := parser.ParseFile(tokens, filepath.Join(root, "limits.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	checker := types.Config{Importer: importer.ForCompiler(tokens, "source", nil)}
	pkg, err := checker.Check("relay", tokens, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]float64{}
	for _, name := range pkg.Scope().Names() {
		if c, ok := pkg.Scope().Lookup(name).(*types.Const); ok {
			held[name], _ = constant.Float64Val(constant.ToFloat(c.Val()))
		}
	}
	return held
}

// quantity reads a number with its unit: 50, 2,048 bytes, 8 KiB, 15 minutes,
// 30 days. Durations count in nanoseconds, as in Go.
func quantity(t *testing.T, text string) float64 {
	t.Helper()
	number, unit, _ := strings.Cut(strings.TrimSpace(text), " ")
	n, err := strconv.ParseFloat(strings.ReplaceAll(number, ",", ""), 64)
	factor, known := map[string]float64{
		"": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20,
		"seconds": float64(time.Second), "minutes": float64(time.Minute), "days": float64(24 * time.Hour),
	}[unit]
	if err != nil || !known {
		t.Errorf("%q is no quantity", text)
	}
	return n * factor
}
