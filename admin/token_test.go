package admin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/admin"
)

// M3, M10: each token opens what its scopes name and nothing else, and the plain one
// everything.
func TestTokensHaveScopes(t *testing.T) {
	down := func(context.Context) error { return errors.New("db.internal:5432 refused") }
	o := admin.Options{Token: token, Checks: map[string]func(context.Context) error{"postgres": down}}
	shown := map[string]relay.Secret{"all": token, "none": "", "unknown": "rat_unknown"}
	for _, scopes := range [][]admin.Scope{
		{admin.ScopeMetrics}, {admin.ScopeReady}, {admin.ScopeProfiles}, {admin.ScopeMetrics, admin.ScopeReady},
	} {
		secret, hash := admin.NewToken()
		name := fmt.Sprint(scopes)
		shown[name] = secret
		o.Tokens = append(o.Tokens, admin.Token{Name: name, Hash: hash, Scopes: scopes})
		shown["hash of "+name] = relay.Secret(hash) // who sees the configuration has no token
	}
	url := serve(t, o)
	opens := func(name string, scope admin.Scope) bool {
		return name == "all" || strings.HasPrefix(name, "[") && strings.Contains(name, string(scope))
	}
	for name, secret := range shown {
		refused := 401
		if strings.HasPrefix(name, "[") {
			refused = 403
		}
		for page, scope := range map[string]admin.Scope{
			"/metrics": admin.ScopeMetrics, "/debug/pprof/": admin.ScopeProfiles, "/debug/pprof/heap": admin.ScopeProfiles,
		} {
			want := refused
			if opens(name, scope) {
				want = 200
			}
			if code, body := get(t, url+page, string(secret)); code != want {
				t.Errorf("%s with the token %q: %d, want %d: %.200s", page, name, code, want, body)
			}
		}
		code, r := ready(t, url, string(secret))
		if told := strings.Contains(r.Wrong[0].Error, "db.internal"); code != 503 || told != opens(name, admin.ScopeReady) {
			t.Errorf("/readyz with the token %q: %d %+v", name, code, r)
		}
		if code, _ := get(t, url+"/healthz", string(secret)); code != 200 {
			t.Errorf("/healthz with the token %q: %d", name, code)
		}
	}
	const refusals = 4 + 4*4 // pages but /healthz, asked for with the unknown token and with hashes
	if _, body := get(t, url+"/metrics", token); !strings.Contains(body, fmt.Sprintf("\nrelay_admin_refused_total %d\n", refusals)) {
		t.Errorf("%d requests were refused: %s", refusals, body[strings.Index(body, "relay_admin_refused"):][:100])
	}
}

// A hash alone is enough to open the server to a network, and to close it on
// loopback.
func TestHashedTokenIsAToken(t *testing.T) {
	_, hash := admin.NewToken()
	o := admin.Options{Address: "0.0.0.0:0", Tokens: []admin.Token{{Name: "a", Hash: hash, Scopes: []admin.Scope{"metrics"}}}}
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	o.Token = "short"
	if err := o.Validate(); err == nil {
		t.Error("a short token is hidden by a good one")
	}
}

func TestFaultyTokensAreRefused(t *testing.T) {
	secret, hash := admin.NewToken()
	scopes := []admin.Scope{admin.ScopeMetrics}
	err := admin.Options{Tokens: []admin.Token{
		{Name: "good", Hash: hash, Scopes: scopes},
		{Name: "token", Hash: admin.Hash(secret), Scopes: scopes},
		{Name: "short", Hash: "sha256:abcd", Scopes: scopes},
		{Name: "empty"},
		{Name: "twice", Hash: admin.Hash(strings.ToUpper(string(hash)[7:])), Scopes: scopes},
		{Name: "again", Hash: hash, Scopes: scopes},
		{Name: "typo", Hash: hash[:len(hash)-8] + "00000000", Scopes: []admin.Scope{"metrics", "everything"}},
	}}.Validate()
	if err == nil {
		t.Fatal("no fault was found")
	}
	want := []string{
		`"token": the hash must be sha256:`, `"short": the hash must be`, `"empty": the hash must be`, `"empty": it has no scope`,
		`"twice": the hash must be`, `"again": it is the same as "good"`, `"typo": there is no scope "everything"`,
	}
	for _, fault := range want {
		if !strings.Contains(err.Error(), fault) {
			t.Errorf("no fault %q", fault)
		}
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != len(want) {
		t.Errorf("%d faults, want %d:\n%v", got, len(want), err)
	}
	if strings.Contains(err.Error(), string(secret)) {
		t.Errorf("the error shows a token: %v", err)
	}
}

// S7: --set may bring secrets, which /debug/pprof/cmdline would show.
func TestCommandLineIsNotServed(t *testing.T) {
	url := serve(t, admin.Options{Token: token})
	for _, page := range []string{"/debug/pprof/cmdline", "/debug/pprof/cmdline/", "/debug/pprof//cmdline", "/debug/vars"} {
		if code, body := get(t, url+page, token); code != 404 && code != 301 && code != 307 || strings.Contains(body, "\x00") {
			t.Errorf("%s: %d %.100q", page, code, body)
		}
	}
}
