package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The sides of trust beside relay, which signs and looks at every address.
const (
	sideUnsigned        = "unsigned"
	sideUnguarded       = "unguarded"
	sideRedial          = "a connection each"
	sideRedialUnguarded = "a connection each, unguarded"
)

// secret is one of the Standard Webhooks specification.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // everybody knows it

// change is one of the source, for a relay that is only measured: there is no
// setting that switches the guard off, and none is to be.
type change struct{ file, old, new string }

var (
	noGuard = change{
		"delivery/guard.go", "func (g *guard) check(network, address string) error {\n",
		"func (g *guard) check(network, address string) error {\n\tif true {\n\t\treturn nil\n\t}\n",
	}
	redial = change{"delivery/transport.go", "DisableCompression:     true,\n", "DisableCompression: true, DisableKeepAlives: true,\n"}
)

func trustScenario() scenario {
	return scenario{
		name: "trust", title: "20,000 events at once, with and without a signature, and with and without the guard, default sync",
		run: trust, goals: []goal{
			atLeast("throughput against not signing", 0.95, ratio(sideRelay, sideUnsigned, throughput)),
			atLeast("throughput against a relay without the guard", 0.95, ratio(sideRelay, sideUnguarded, throughput)),
			atLeast("the same with a connection for each webhook", 0.95, ratio(sideRedial, sideRedialUnguarded, throughput)),
		},
	}
}

// trust measures what signing costs, and the look at every address that is
// dialled. relay keeps its connections, so that it dials seldom; the last two
// sides dial for every webhook.
func trust(ctx context.Context, m *machine) error {
	signed := []string{"signing.secrets=" + secret}
	sides := []struct {
		name    string
		set     []string
		changes []change
	}{
		{sideRelay, signed, nil},
		{sideUnsigned, nil, nil},
		{sideUnguarded, signed, []change{noGuard}},
		{sideRedial, signed, []change{redial}},
		{sideRedialUnguarded, signed, []change{noGuard, redial}},
	}
	var failed error
	for _, s := range sides {
		bin, err := m.variant(ctx, s.changes...)
		if err != nil {
			return err
		}
		failed = errors.Join(failed, m.as(ctx, s.name, options{side: sideRelay, sync: syncDefault, bin: bin, set: s.set}, m.burstFlags()))
	}
	return failed
}

// variant builds relay from this source with changes, once.
func (m *machine) variant(ctx context.Context, changes ...change) (string, error) {
	if len(changes) == 0 {
		return m.bin, nil
	}
	parts := []string{"relay"}
	for _, c := range changes {
		parts = append(parts, strings.TrimSuffix(filepath.Base(c.file), ".go"))
	}
	name := strings.Join(parts, "-")
	bin := filepath.Join(m.dir, name)
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	list, err := writeOverlay(bin, changes)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay="+list, "-o", bin, "./cmd/relay")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return bin, nil
}

// writeOverlay writes the changed files beside the binary, and the list of them
// that go build reads.
func writeOverlay(bin string, changes []change) (list string, err error) {
	replace := map[string]string{}
	for _, c := range changes {
		text, err := c.apply(".")
		if err != nil {
			return "", err
		}
		path, err := filepath.Abs(c.file)
		if err != nil {
			return "", err
		}
		replace[path] = bin + "-" + filepath.Base(c.file)
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list = bin + ".json"
	return list, os.WriteFile(list, text, 0o600)
}

// apply returns a file of the source with the change in it. What is replaced must
// stand there exactly once.
func (c change) apply(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, c.file))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), c.old); n != 1 {
		return "", fmt.Errorf("%s says %q %d times, want once: write the change anew", c.file, c.old, n)
	}
	return strings.Replace(string(text), c.old, c.new, 1), nil
}
