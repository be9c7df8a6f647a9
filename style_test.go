package relay_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The house rules, held by a machine: a rule that none holds is a wish.
// CONTRIBUTING.md says them in words.

const module = "github.com/relaywebhooks/relay"

const (
	maxFileLines        = 400
	maxFunctionLines    = 60
	maxInterfaceMethods = 4
)

// doors says which folders may import a dependency; every other may not.
// Folders count with all that is below them.
var doors = map[string][]string{
	"github.com/nats-io/":     {"consumer", "endpoint", "embedded", "cmd/relay", "relaytest", "examples", "campaign", "bench"},
	"github.com/jackc/":       {"audit", "endpoint", "migrations", "embedded", "cmd/relay", "relaytest", "examples", "campaign", "bench"},
	"github.com/failsafe-go/": {"policy"},
	"cel.dev/":                {"template"},
	"github.com/knadh/koanf":  {"cmd/relay"},
	"github.com/alecthomas/":  {"cmd/relay"},
}

// wiring are the folders that may import relay's other packages. All others
// import the words in the root, and signature, alone.
var wiring = []string{"cmd/relay", "relaytest", "examples", "campaign", "bench"}

// standardOnly are the packages that import the standard library alone: the
// words of everyone, and what receivers import.
var standardOnly = []string{".", "signature"}

// source is one parsed file of relay.
type source struct {
	name   string // path from the root, with slashes
	file   *ast.File
	tokens *token.FileSet
}

func (s source) test() bool  { return strings.HasSuffix(s.name, "_test.go") }
func (s source) dir() string { return path.Dir(s.name) }

func (s source) in(folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool {
		return s.dir() == f || strings.HasPrefix(s.dir(), f+"/")
	})
}

// lines is the number of lines from the first to the last of n.
func (s source) lines(n ast.Node) int {
	return s.tokens.Position(n.End()).Line - s.tokens.Position(n.Pos()).Line + 1
}

func (s source) at(n ast.Node) token.Position { return s.tokens.Position(n.Pos()) }

// sources parses every Go file of the module; tools has modules of its own.
func sources(t *testing.T) []source {
	t.Helper()
	var found []source
	tokens := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (name == "tools" || name == "bin" || e.Name() == "testdata" || len(name) > 1 && name[0] == '.') {
			return filepath.SkipDir
		}
		if e.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(tokens, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		found = append(found, source{filepath.ToSlash(name), file, tokens})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestEveryPackageIsDocumentedOnce(t *testing.T) {
	documented := map[string][]string{}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		documented[s.dir()] = append(documented[s.dir()], "")
		if s.file.Doc != nil {
			documented[s.dir()][0] += path.Base(s.name) + " "
		}
	}
	for dir, in := range documented {
		name := path.Base(dir) + ".go "
		if dir == "." {
			name = "relay.go "
		}
		if in[0] != name && in[0] != "doc.go " && in[0] != "main.go " {
			t.Errorf("%s: package comment in [%s], want one, in %s, doc.go or main.go", dir, strings.TrimSpace(in[0]), name)
		}
	}
}

func TestWhoImportsWhom(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, spec := range s.file.Imports {
			target := strings.Trim(spec.Path.Value, `"`)
			if why := forbidden(s, target); why != "" {
				t.Errorf("%v: imports %s: %s", s.at(spec), target, why)
			}
		}
	}
}

// forbidden says why s may not import target, or "".
func forbidden(s source, target string) string {
	first, _, _ := strings.Cut(target, "/")
	if slices.Contains(standardOnly, s.dir()) && strings.Contains(first, ".") {
		return "this package keeps to the standard library"
	}
	for prefix, open := range doors {
		if strings.HasPrefix(target, prefix) && !s.in(open) {
			return "only " + strings.Join(open, ", ") + " may"
		}
	}
	own, ours := strings.CutPrefix(target, module+"/")
	if ours && own != "signature" && !s.in(wiring) {
		return "working packages meet in cmd/relay; define a small interface instead"
	}
	return ""
}

func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		if n := s.lines(s.file); n > maxFileLines {
			t.Errorf("%s has %d lines, want at most %d: does it still have one subject?", s.name, n, maxFileLines)
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Body != nil && s.lines(n.Body)-2 > maxFunctionLines {
					t.Errorf("%v: %s has %d lines, want at most %d", s.at(n), n.Name, s.lines(n.Body)-2, maxFunctionLines)
				}
			case *ast.InterfaceType:
				if n.Methods.NumFields() > maxInterfaceMethods {
					t.Errorf("%v: %d methods in an interface, want at most %d", s.at(n), n.Methods.NumFields(), maxInterfaceMethods)
				}
			}
			return true
		})
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%v: %s has no comment", s.at(name), name)
			}
		}
	}
}

// undocumented returns the exported names that d declares without a comment on
// them or on the group that they stand in.
func undocumented(d ast.Decl) (names []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if d.Doc == nil && spec.Doc == nil && spec.Name.IsExported() {
					names = append(names, spec.Name)
				}
			case *ast.ValueSpec:
				if d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					names = append(names, slices.DeleteFunc(spec.Names, func(n *ast.Ident) bool { return !n.IsExported() })...)
				}
			}
		}
	}
	return names
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	exported := false
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			exported = id.IsExported()
			return false
		}
		return true
	})
	return exported
}

// TestTestsNeitherSleepNorSkip: a test that sleeps is slow or flaky or both,
// and one that skips says nothing. In a synctest bubble time is not real.
func TestTestsNeitherSleepNorSkip(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch called(call) {
			case "synctest.Test":
				return false
			case "time.Sleep":
				t.Errorf("%v: sleeps; wait for what it waits for, or use testing/synctest", s.at(n))
			case "t.Skip", "t.Skipf", "t.SkipNow", "b.Skip", "tb.Skip":
				t.Errorf("%v: skips; let it run, or let it fail and say what is missing", s.at(n))
			}
			return true
		})
	}
}

// called returns "x.Name" for a call of that form, else "".
func called(call *ast.CallExpr) string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := selector.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return x.Name + "." + selector.Sel.Name
}

// T10: no certificate goes unchecked, not even in a test, from which it might be
// copied.
func TestCertificatesAreAlwaysChecked(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && strings.HasPrefix(id.Name, "InsecureSkip") {
				t.Errorf("%v: %s: trust the authority that signed it instead", s.at(n), id.Name)
			}
			return true
		})
	}
}

func TestNothingIsLeftForLater(t *testing.T) {
	marks := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X"}
	for _, s := range sources(t) {
		for _, group := range s.file.Comments {
			for _, mark := range marks {
				if strings.Contains(group.Text(), mark) {
					t.Errorf("%v: %s: do it, or open an issue", s.at(group), mark)
				}
			}
		}
	}
}
