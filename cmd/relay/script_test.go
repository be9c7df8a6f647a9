package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// binaries is where the programs are that the tests of this package build. Their
// processes find it in the environment; only the test binary makes and removes it.
const binaries = "TEST_BINARIES"

func TestMain(m *testing.M) {
	testscript.Main(withBinaries{m}, map[string]func(){"relay": main})
}

type withBinaries struct{ tests *testing.M }

// Run runs the tests and removes what they built.
func (w withBinaries) Run() int {
	dir, err := os.MkdirTemp("", "relay-test-")
	if err == nil {
		err = os.Setenv(binaries, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	return w.tests.Run()
}

// buildBinary builds a program and returns its path.
func buildBinary(name string, args ...string) (string, error) {
	path := filepath.Join(os.Getenv(binaries), name)
	out, err := exec.Command("go", append([]string{"build", "-o", path}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return path, nil
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true})
}
