package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever stands in a file, a variable and a flag: there is a configuration or
// there are faults, each with its reason, and what relay config shows can be set
// again to the same effect.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example, "RELAY_DELIVERY_TIMEOUT=5s", "policy.schedule=1s,2s")
	f.Add([]byte("nats: {port: 1, tls: }\nendpoints: {a: {url: 'http://x', headers: {A/B.c: d}}}"), "RELAY_ENDPOINTS_A_RATE=1e3", "endpoints.a.b.url=http://y")
	f.Add([]byte("a: &x [*x, {? [b] : c}]\n1: {<<: *x}"), "RELAY_", "endpoints..=")
	f.Add([]byte("endpoints: {? 1 : {url: 2001-01-01, 2: .inf}}"), "RELAY_NATS_URL=a@b:c@d", "=\x00")
	f.Fuzz(func(t *testing.T, text []byte, variable, flag string) {
		name := filepath.Join(t.TempDir(), "relay.yaml")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := load(sources{file: name, environ: []string{variable}, set: []string{flag}})
		if err != nil {
			checkFaults(t, err)
			return
		}
		checkShown(t, l)
	})
}

func checkFaults(t *testing.T, err error) {
	t.Helper()
	faults, ok := errors.AsType[Faults](err)
	if !ok || len(faults) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	for _, f := range faults {
		if f.Problem == "" || f.Origin == "" && f.Key == "" && !strings.Contains(f.Problem, "file cannot be read") {
			t.Errorf("a fault that does not help: %#v", f)
		}
	}
}

func checkShown(t *testing.T, l loaded) {
	t.Helper()
	var set []string
	for _, s := range l.shown() {
		if !s.secret() && !strings.Contains(text(s.value), "[hidden]") && !strings.Contains(text(s.value), "xxxxx") {
			set = append(set, s.key()+"="+text(s.value))
		}
	}
	again, err := load(sources{set: set})
	if err != nil {
		return // a name that no flag can carry, or a secret that something needs
	}
	for _, s := range settings(again.Config) {
		for _, before := range settings(l.Config) {
			if before.key() == s.key() && !s.secret() && text(before.value) != text(s.value) && again.origin(s.key()) == originSet {
				t.Errorf("%s was %q, is %q", s.key(), text(before.value), text(s.value))
			}
		}
	}
	var out bytes.Buffer
	if err := l.showJSON(&program{stdout: &out}); err != nil {
		t.Error(err)
	}
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"30s", "1d12h", "2d", "0", "-1s", "99999d", "9223372036s", "1.5h", "0d0s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDuration(s)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("%q is %d", s, d)
		}
		if again, err := parseDuration(formatDuration(d)); err != nil || again != d {
			t.Errorf("%q: %v is written %s and read %v, %v", s, d, formatDuration(d), again, err)
		}
	})
}
