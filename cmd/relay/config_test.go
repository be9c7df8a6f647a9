package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/admin"
)

const example = "../../relay.example.yaml"

// same compares configurations.
func same(a, b Config) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}))
}

// file writes a configuration file.
func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func mustLoad(t *testing.T, from sources) loaded {
	t.Helper()
	l, err := load(from)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDefaultIsValid(t *testing.T) {
	l := mustLoad(t, sources{})
	if d := same(l.Config, Default()); d != "" {
		t.Error(d)
	}
}

// The example holds every key, with its default.
func TestExampleIsTheDefault(t *testing.T) {
	l := mustLoad(t, sources{file: example})
	if d := same(Default(), l.Config); d != "" {
		t.Errorf("the example differs from the defaults:\n%s", d)
	}
	for _, s := range (named{}).keys() {
		if l.origin(s.key()) == originDefault {
			t.Errorf("the example does not show %s", s.key())
		}
	}
}

// The example's registered endpoint stands in a comment; as configuration it is
// valid, and holds every key that an endpoint has.
func TestExampleShowsAnEndpoint(t *testing.T) {
	b, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "\n# endpoints:\n")
	if !ok {
		t.Fatal("no endpoint in the example")
	}
	section, _, _ := strings.Cut(rest, "\n\n")
	var text strings.Builder
	text.WriteString("endpoints:\n")
	for line := range strings.Lines(section + "\n") {
		text.WriteString(strings.TrimPrefix(line, "# "))
	}
	l := mustLoad(t, sources{file: file(t, text.String())})
	for _, s := range settings(l.Config) {
		if s.path[0] == "endpoints" && l.origin(s.key()) == originDefault {
			t.Errorf("the example does not show %s", s.key())
		}
	}
}

// So is its token.
func TestExampleShowsAToken(t *testing.T) {
	b, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "\n  # tokens:\n")
	if !ok {
		t.Fatal("no token in the example")
	}
	section, _, _ := strings.Cut(rest, "\n\n")
	var text strings.Builder
	text.WriteString("admin:\n  tokens:\n")
	for line := range strings.Lines(section + "\n") {
		text.WriteString(strings.Replace(line, "# ", "", 1))
	}
	want := map[string]TokenConfig{"prometheus": {Hash: "sha256:" + hash, Scopes: []admin.Scope{admin.ScopeMetrics}}}
	if d := cmp.Diff(want, mustLoad(t, sources{file: file(t, text.String())}).Admin.Tokens); d != "" {
		t.Error(d)
	}
}

func TestTokens(t *testing.T) {
	name := file(t, "admin:\n  address: 0.0.0.0:8422\n  tokens:\n    prom.eu: {hash: 'sha256:"+strings.ToUpper(hash)+"', scopes: metrics}\n")
	l := mustLoad(t, sources{
		file: name, environ: []string{"RELAY_ADMIN_TOKENS_PROM_EU_SCOPES=metrics,ready"},
		set: []string{"admin.tokens.x.hash=sha256:" + strings.Repeat("0", 64), "admin.tokens.x.scopes=profiles"},
	})
	want := []admin.Token{
		{Name: "prom.eu", Hash: "sha256:" + hash, Scopes: []admin.Scope{admin.ScopeMetrics, admin.ScopeReady}},
		{Name: "x", Hash: admin.Hash("sha256:" + strings.Repeat("0", 64)), Scopes: []admin.Scope{admin.ScopeProfiles}},
	}
	if d := cmp.Diff(want, l.adminOptions().Tokens); d != "" {
		t.Error(d)
	}
	for key, origin := range map[string]string{
		"admin.tokens.prom.eu.hash": name + ":4", "admin.tokens.prom.eu.scopes": "RELAY_ADMIN_TOKENS_PROM_EU_SCOPES", "admin.tokens.x.hash": "--set",
	} {
		if got := l.origin(key); got != origin {
			t.Errorf("%s comes from %s, want %s", key, got, origin)
		}
	}
	var out bytes.Buffer
	if err := (&configCommand{}).Run(&program{stdout: &out, sources: sources{file: name}}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "admin.tokens.prom.eu.hash") || !strings.Contains(out.String(), hash) {
		t.Errorf("relay config does not show a token's hash:\n%s", out.String())
	}
}

// The lines that relay token prints are configuration, and let its token in.
func TestTokenCommand(t *testing.T) {
	for _, args := range [][]string{{"--scope", "metrics"}, {"--scope", "ready,profiles", "--name", "a: b"}, {"--scope", "ready", "--scope", "profiles"}} {
		var out, errs bytes.Buffer
		if status := (&program{stdout: &out, stderr: &errs}).run(append([]string{"token"}, args...), nil); status != 0 {
			t.Fatalf("%v: %d: %s", args, status, &errs)
		}
		token, text, _ := strings.Cut(out.String(), "\n")
		l := mustLoad(t, sources{file: file(t, text), set: []string{"admin.address=0.0.0.0:1"}})
		page := "/metrics"
		if !strings.Contains(args[1], "metrics") {
			page = "/readyz"
		}
		req := httptest.NewRequest(http.MethodGet, page, nil)
		req.Header.Set("Authorization", "Bearer "+token)
		answer := httptest.NewRecorder()
		o := l.adminOptions()
		o.Checks = map[string]func(context.Context) error{"a": func(context.Context) error { return errors.New("told") }}
		admin.New(o).Handler().ServeHTTP(answer, req)
		if body := answer.Body.String(); !strings.Contains(body, "relay_ready") && !strings.Contains(body, "told") {
			t.Errorf("%v: %s with the token: %d %s", args, page, answer.Code, body)
		}
		if strings.Contains(text, token) || !strings.HasPrefix(token, "rat_") {
			t.Errorf("%v printed the token %q and %q", args, token, text)
		}
	}
	for _, args := range [][]string{{"token"}, {"token", "--scope", "all"}} {
		if status := (&program{stdout: io.Discard, stderr: io.Discard}).run(args, nil); status != exitUsage {
			t.Errorf("%v: status %d", args, status)
		}
	}
}

func TestLaterLayersWin(t *testing.T) {
	name := file(t, `
delivery:
  timeout: 11s
  connect_timeout: 2s
  ports: [80]
policy: {rate: 3}
log: {level: debug}
`)
	l := mustLoad(t, sources{
		file:    name,
		environ: []string{"RELAY_DELIVERY_TIMEOUT=12s", "RELAY_POLICY_SCHEDULE= 1s, 2m ,1d", "RELAY_DELIVERY_HTTPS_ONLY=true", "HOME=/"},
		set:     []string{"delivery.timeout=13s", "delivery.allow=10.0.0.0/8,fd00::/8", "log.level=warn"},
	})
	want := Default()
	want.Delivery.Timeout, want.Delivery.ConnectTimeout = 13*time.Second, 2*time.Second
	want.Delivery.Ports, want.Delivery.HTTPSOnly = []int{80}, true
	want.Policy.Rate, want.Log.Level = 3, "warn"
	want.Policy.Schedule = []time.Duration{time.Second, 2 * time.Minute, 24 * time.Hour}
	want.Delivery.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	if d := same(want, l.Config); d != "" {
		t.Error(d)
	}
	for key, origin := range map[string]string{
		"delivery.timeout": "--set", "delivery.connect_timeout": name + ":4", "delivery.ports": name + ":5",
		"policy.rate": name + ":6", "policy.schedule": "RELAY_POLICY_SCHEDULE", "log.level": "--set",
		"log.format": "default", "delivery.https_only": "RELAY_DELIVERY_HTTPS_ONLY",
	} {
		if got := l.origin(key); got != origin {
			t.Errorf("%s comes from %s, want %s", key, got, origin)
		}
	}
}

func TestFileIsNamedByTheEnvironment(t *testing.T) {
	name, other := file(t, "replay: {rate: 7}"), file(t, "replay: {rate: 8}")
	environ := []string{"RELAY_CONFIG=" + name}
	if l := mustLoad(t, sources{environ: environ}); l.Replay.Rate != 7 {
		t.Errorf("rate %d", l.Replay.Rate)
	}
	if l := mustLoad(t, sources{environ: environ, file: other}); l.Replay.Rate != 8 {
		t.Errorf("--config does not win: rate %d", l.Replay.Rate)
	}
}

// The variables of tests are not the configuration's, and neither are others'.
func TestOtherVariablesAreLeftAlone(t *testing.T) {
	mustLoad(t, sources{environ: []string{"RELAY_TEST_POSTGRES_URL=x", "RELAYS=1", "relay_log_level=x", "PATH=/"}})
}

func TestEndpoints(t *testing.T) {
	name := file(t, `
endpoints:
  acme.com:
    url: https://acme.com/hooks?token=t0p
    secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]
    headers: {X-Api.Key: k, Authorization: Bearer b}
    schedule: [10s, 1m]
    success_codes: [200, 202-204]
`)
	l := mustLoad(t, sources{
		file:    name,
		environ: []string{"RELAY_ENDPOINTS_ACME_COM_TIMEOUT=9s"},
		set:     []string{"endpoints.acme.com.headers.X-More=m", "endpoints.b.url=http://b.example"},
	})
	want := map[string]EndpointConfig{
		"acme.com": {
			URL:          "https://acme.com/hooks?token=t0p",
			Secrets:      []relay.Secret{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
			Headers:      map[string]relay.Secret{"X-Api.Key": "k", "Authorization": "Bearer b", "X-More": "m"},
			Timeout:      9 * time.Second,
			Schedule:     []time.Duration{10 * time.Second, time.Minute},
			SuccessCodes: codeRanges{{From: 200, To: 200}, {From: 202, To: 204}},
		},
		"b": {URL: "http://b.example"},
	}
	if d := cmp.Diff(want, l.Endpoints); d != "" {
		t.Error(d)
	}
	for key, origin := range map[string]string{
		"endpoints.acme.com.url": name + ":4", "endpoints.acme.com.headers.X-Api.Key": name + ":6",
		"endpoints.acme.com.timeout": "RELAY_ENDPOINTS_ACME_COM_TIMEOUT", "endpoints.b.url": "--set",
	} {
		if got := l.origin(key); got != origin {
			t.Errorf("%s comes from %s, want %s", key, got, origin)
		}
	}
}

// Two endpoints whose variables have one name cannot be told apart.
func TestAmbiguousVariable(t *testing.T) {
	name := file(t, "endpoints: {a-b: {url: 'http://a'}, a.b: {url: 'http://b'}}")
	_, err := load(sources{file: name, environ: []string{"RELAY_ENDPOINTS_A_B_TIMEOUT=1s"}})
	if err == nil || !strings.Contains(err.Error(), "could mean endpoints.a-b.timeout or endpoints.a.b.timeout") {
		t.Error(err)
	}
}

// What bounds the tags of Config name can be read, and defaults are within them.
func TestEverySettingHasAName(t *testing.T) {
	seen := map[string]string{}
	for _, s := range (named{endpoints: []string{"acme"}, tenants: []string{"acme"}, tokens: []string{"prometheus"}}).keys() {
		if slices.Contains(s.path, "") {
			t.Errorf("a field of %s has no koanf tag", strings.Join(s.path, "."))
		}
		if other, ok := seen[variable(s.key())]; ok && s.path[0] != "endpoints" {
			t.Errorf("%s and %s have one variable", s.key(), other)
		}
		seen[variable(s.key())] = s.key()
		if found, ok := find(split(s.key())); !ok || found.key() != s.key() {
			t.Errorf("%s is not found by its name", s.key())
		}
	}
}

func TestMissingFile(t *testing.T) {
	_, err := load(sources{file: "no/such.yaml"})
	if fs, ok := errors.AsType[Faults](err); !ok || !strings.Contains(fs.Error(), "no/such.yaml: no such file") {
		t.Error(err)
	}
}

// The password of the proxy is shown nowhere, also not where it is wrong.
func TestProxyIsRedacted(t *testing.T) {
	l, err := load(sources{set: []string{"delivery.proxy=http://relay:s3cret@proxy.internal:3128", "delivery.proxy_resolves=true"}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := l.showJSON(&program{stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if o := l.deliveryOptions(nil); string(o.Proxy) != "http://relay:s3cret@proxy.internal:3128" || !o.ProxyResolves {
		t.Errorf("package delivery is given %+v", o)
	}
	for _, shown := range []string{out.String(), fmt.Sprintf("%v %+v %s", l.Config, l.Config, l.Delivery.Proxy), fmt.Sprintf("%+v", l.deliveryOptions(nil))} {
		if strings.Contains(shown, "s3cret") {
			t.Errorf("shown: %s", shown)
		}
	}
	for _, set := range []string{
		"delivery.proxy=ftp://relay:s3cret@proxy.internal", "delivery.proxy=http://relay:s3cret@", "delivery.proxy=http://relay:s3cret@proxy:port",
		"delivery.proxy=relay:s3cret@proxy.internal", "delivery.proxy=socks5://relay:s3cret" + strings.Repeat("x", 300) + "@p", "delivery.proxy=http://p/%zzs3cret",
	} {
		_, err := load(sources{set: []string{set}})
		if err == nil || !strings.Contains(err.Error(), "delivery.proxy") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", set, err)
		}
	}
	if _, err := load(sources{set: []string{"delivery.proxy_resolves=true"}}); err == nil || !strings.Contains(err.Error(), "needs delivery.proxy") {
		t.Error(err)
	}
}
