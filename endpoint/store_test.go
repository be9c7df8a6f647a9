package endpoint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// process is what one relay process knows of endpoints.
type process struct {
	*endpoint.Registry
	store *endpoint.Store
	pool  *pgxpool.Pool
	t     *testing.T
}

// startProcess starts one on a database, which others may share.
func startProcess(t *testing.T, url string, o endpoint.StoreOptions, file ...relay.Endpoint) *process {
	t.Helper()
	pool, err := audit.Pool(t.Context(), url+"&role=relay_app") // with a relay's settings and rights
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	p := &process{pool: pool, t: t}
	if p.Registry, err = endpoint.New(file); err != nil {
		t.Fatal(err)
	}
	if o.Sealer == nil {
		if o.Sealer, err = endpoint.NewSealer(relaytest.SealingKey); err != nil {
			t.Fatal(err)
		}
	}
	o.Pool, o.Registry = pool, p.Registry
	p.store = endpoint.NewStore(o)
	if err := p.store.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.store.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return p
}

func (p *process) put(settings string) endpoint.Entry {
	p.t.Helper()
	entry, err := p.store.Put(p.t.Context(), []byte(settings), "test")
	if err != nil {
		p.t.Fatal(err)
	}
	return entry
}

func (p *process) set(what, key, reason string) {
	p.t.Helper()
	ep, _ := p.ByKey(key)
	if err := p.store.Set(p.t.Context(), endpoint.Change{What: what, Key: key, Name: ep.Name, URL: ep.URL, Reason: reason}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) exec(sql string, args ...any) {
	p.t.Helper()
	if _, err := p.pool.Exec(p.t.Context(), sql, args...); err != nil {
		p.t.Fatalf("%s: %v", sql, err)
	}
}

// soon waits until the process finds an endpoint as the test wants it.
func (p *process) soon(name, url string, is func(relay.Endpoint, error) bool) {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(relaytest.Patience); ; <-tick.C {
		ep, err := p.Find("", name, url)
		if is(ep, err) {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("still %+v, %v", ep, err)
		}
	}
}

func found(t *testing.T, p *process, name, url string) relay.Endpoint {
	t.Helper()
	ep, err := p.Find("", name, url)
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

const whole = `{
	"name": "orders", "url": "https://Shop.example/hooks?token=canary-query",
	"secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "headers": {"X-Api-Key": "canary-header"},
	"basic": {"user": "relay", "password": "canary-password"}, "content_type": "text/plain", "http2": true,
	"timeout": "20s", "rate": 2.5, "burst": 5, "concurrency": 4, "schedule": ["10s", "1m", "1d"], "max_attempts": 4,
	"success_codes": "200-204,409", "heed": true
}`

func TestWhatIsPutIsFoundInEveryProcess(t *testing.T) {
	url := testdb.New(t)
	one, two := startProcess(t, url, endpoint.StoreOptions{}), startProcess(t, url, endpoint.StoreOptions{})
	one.put(whole)
	for _, p := range []*process{one, two} { // the second one looks, because it does not know the name
		ep := found(t, p, "orders", "")
		secrets := []string{string(ep.Secrets[0]), ep.Header.Get("X-Api-Key"), ep.Header.Get("Authorization")}
		if want := []string{secret, "canary-header", "Basic cmVsYXk6Y2FuYXJ5LXBhc3N3b3Jk"}; !slices.Equal(secrets, want) {
			t.Errorf("opened %q", secrets)
		}
		ep.Secrets, ep.Header = nil, nil
		if got, want := fmt.Sprintf("%+v", ep), fmt.Sprintf("%+v", relay.Endpoint{
			Key: ep.Key, Name: "orders", URL: "https://shop.example/hooks?token=canary-query",
			Timeout: 20 * time.Second, Concurrency: 4, Rate: 2.5, Burst: 5, Schedule: []time.Duration{10 * time.Second, time.Minute, 24 * time.Hour},
			MaxAttempts: 4, SuccessCodes: []relay.CodeRange{{From: 200, To: 204}, {From: 409, To: 409}},
			ContentType: "text/plain", HTTP2: true, Heed: true,
		}); got != want {
			t.Errorf("found\n%s, want\n%s", got, want)
		}
	}
	if ep := found(t, two, "", "https://shop.example/hooks?other"); ep.Name != "orders" || ep.URL != "https://shop.example/hooks?other" {
		t.Errorf("by its URL: %+v", ep)
	}

	one.put(`{"name": "orders", "url": "https://new.example/"}`)
	two.soon("orders", "", func(ep relay.Endpoint, _ error) bool {
		return ep.URL == "https://new.example/" && ep.Rate == 0 && !ep.HTTP2
	})
	if ep := found(t, two, "", "https://shop.example/hooks"); ep.Name != "" {
		t.Errorf("the old URL is still that of %s", ep.Name)
	}
	two.exec("UPDATE relay.endpoint_settings SET url = 'https://sql.example/' WHERE name = 'orders'")
	one.soon("", "https://sql.example/?x", func(ep relay.Endpoint, _ error) bool { return ep.Name == "orders" })
	if err := two.store.Delete(t.Context(), found(t, two, "orders", "").Key, "test"); err != nil {
		t.Fatal(err)
	}
	one.soon("orders", "", func(_ relay.Endpoint, err error) bool { return err != nil })
	two.put(`{"name": "orders", "url": "https://again.example/"}`)
	if ep := found(t, one, "orders", ""); ep.URL != "https://again.example/" {
		t.Errorf("registered again: %+v", ep)
	}
}

func TestNoSecretStandsInTheTable(t *testing.T) {
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{})
	entry := p.put(`{"name": "orders", "url": "https://shop.example/?canary-1", "secrets": ["` + secret + `"],
		"headers": {"X-A": "canary-2"}, "bearer": "canary-3"}`)
	p.put(`{"name": "basic", "url": "https://basic.example/", "basic": {"user": "u", "password": "canary-4"}}`)
	var text string
	if err := p.pool.QueryRow(t.Context(), "SELECT string_agg(s::text, ' ') FROM relay.endpoint_settings s").Scan(&text); err != nil {
		t.Fatal(err)
	}
	shown, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	for _, written := range []string{text, string(shown), fmt.Sprintf("%v %+v %#v", entry, entry, entry)} {
		if strings.Contains(written, "canary") || strings.Contains(written, secret[6:]) {
			t.Errorf("shows a secret:\n%s", written)
		}
	}
	for _, want := range []string{`"secrets":["[hidden]"]`, `"X-A":"[hidden]"`, `"bearer":"[hidden]"`, `"url":"https://shop.example/?[hidden]"`} {
		if !strings.Contains(string(shown), want) {
			t.Errorf("does not show %s:\n%s", want, shown)
		}
	}
}

// What a person gets, changes and puts back has its secrets still.
func TestHiddenSecretsStay(t *testing.T) {
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{})
	entry := p.put(whole)
	before := found(t, p, "orders", "")
	shown, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(shown), `"burst":5`, `"burst":6`, 1)
	p.put(edited)
	after := found(t, p, "orders", "")
	if after.Burst != 6 || after.Secrets[0] != before.Secrets[0] || after.URL != before.URL ||
		after.Header.Get("X-Api-Key") != "canary-header" || after.Header.Get("Authorization") != before.Header.Get("Authorization") {
		t.Errorf("after get, edit and put: %+v %v %v", after, after.Header, after.Secrets)
	}
	if _, err := p.store.Put(t.Context(), []byte(edited), ""); !errors.Is(err, endpoint.ErrChanged) {
		t.Errorf("an edit of what has changed since: %v", err)
	}
	for _, settings := range []string{
		`{"name": "new", "url": "https://new.example/", "secrets": ["[hidden]"]}`,
		`{"name": "orders", "url": "https://new.example/", "secrets": ["[hidden]", "[hidden]"]}`,
		`{"name": "orders", "url": "https://new.example/", "bearer": "[hidden]"}`,
		`{"name": "orders", "url": "https://new.example/", "headers": {"X-Other": "[hidden]"}}`,
	} {
		if _, err := p.store.Put(t.Context(), []byte(settings), ""); err == nil || !strings.Contains(err.Error(), "write it out") {
			t.Errorf("%s: %v", settings, err)
		}
	}
}

func TestHeldAndReleased(t *testing.T) {
	const bare = "https://bare.example/hook"
	url := testdb.New(t)
	inFile := relay.Endpoint{Name: "file", URL: "https://file.example/"}
	one, two := startProcess(t, url, endpoint.StoreOptions{}, inFile), startProcess(t, url, endpoint.StoreOptions{}, inFile)
	one.put(`{"name": "orders", "url": "https://orders.example/"}`)
	two.soon("orders", "", func(_ relay.Endpoint, err error) bool { return err == nil })
	for _, c := range []struct{ name, url string }{{"orders", ""}, {"file", ""}, {"", bare + "?q=1"}} {
		key := found(t, two, c.name, c.url).Key
		steps := []struct {
			do, reason, held string
		}{
			{endpoint.Paused, "a deployment", "paused: a deployment"},
			{endpoint.Paused, "", "paused: no reason was given"},
			{endpoint.Disabled, "410 Gone", "disabled: 410 Gone"},
			{endpoint.Disabled, "another", "disabled: 410 Gone"},
			{endpoint.Resumed, "", "disabled: 410 Gone"},
			{endpoint.Enabled, "", ""},
		}
		for _, step := range steps {
			one.set(step.do, key, step.reason)
			if ep := found(t, one, c.name, c.url); ep.Held != step.held || ep.Key != key {
				t.Errorf("%s%s, %s: held %q, want %q", c.name, c.url, step.do, ep.Held, step.held)
			}
			two.soon(c.name, c.url, func(ep relay.Endpoint, _ error) bool { return ep.Held == step.held })
			if ep, ok := two.ByKey(key); !ok || ep.Held != step.held {
				t.Errorf("by key: %+v", ep)
			}
		}
		two.soon(c.name, c.url, func(ep relay.Endpoint, _ error) bool { return time.Since(ep.Released) < time.Minute })
	}
	one.exec("UPDATE relay.endpoint_settings SET paused_at = now(), pause_reason = 'by hand' WHERE name = 'orders'")
	two.soon("orders", "", func(ep relay.Endpoint, _ error) bool { return ep.Held == "paused: by hand" })
}

func TestAnEndpointIsDisabledOnce(t *testing.T) {
	var told []string
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{OnChange: func(c endpoint.Change) {
		told = append(told, c.What+" "+c.Name+" "+c.Reason)
	}})
	key := p.put(`{"name": "orders", "url": "https://orders.example/"}`).State.Key
	for _, reason := range []string{"first", "second"} {
		if err := p.store.Disable(t.Context(), key, reason); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"registered orders ", "disabled orders first"}; !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
	if err := p.store.Disable(t.Context(), endpoint.Key("https://never.example/"), "x"); !errors.Is(err, endpoint.ErrUnknown) {
		t.Errorf("an endpoint that nobody has heard of: %v", err)
	}
	p.exec("INSERT INTO relay.endpoints (endpoint_key, url, host) VALUES ($1, 'https://called.example/', '')", endpoint.Key("https://called.example/"))
	if err := p.store.Disable(t.Context(), endpoint.Key("https://called.example/"), "x"); err != nil {
		t.Error(err)
	}
	if ep := found(t, p, "", "https://called.example/?x"); ep.Held != "disabled: x" {
		t.Errorf("an endpoint without a name: %+v", ep)
	}
}

// An endpoint that was paused by its URL stays so when it gets a name.
func TestAPauseOutlivesRegistration(t *testing.T) {
	const url = "https://shop.example/hook"
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{})
	if err := p.store.Set(t.Context(), endpoint.Change{What: endpoint.Paused, Key: endpoint.Key(url), URL: url, Reason: "wait"}); err != nil {
		t.Fatal(err)
	}
	p.put(`{"name": "shop", "url": "` + url + `"}`)
	if ep := found(t, p, "", url); ep.Name != "shop" || ep.Held != "paused: wait" {
		t.Errorf("%+v", ep)
	}
}

func TestPutNamesEveryFault(t *testing.T) {
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{Longest: time.Minute}, relay.Endpoint{Name: "file", URL: "https://file.example/"})
	p.put(`{"name": "other", "url": "https://taken.example/"}`)
	tests := map[string][]string{
		`[]`: {"the request must be a JSON object"},
		`{`:  {"the request is no whole JSON object"},
		`{"name": "a", "url": "https://a.example/"} {}`:                                 {"something follows"},
		`{"name": "a", "name": "b", "url": "https://a.example/"}`:                       {"name: stands there twice"},
		`{"name": "other2", "url": "https://taken.example/?q"}`:                         {"url: https://taken.example/ is the URL of another"},
		`{"name": "file", "url": "https://a.example/"}`:                                 {`name: "file" stands in the configuration file`},
		`{"name": "a", "url": "https://a.example/", "revision": 7}`:                     {"revision: the endpoint has been changed meanwhile"},
		`{"name": "a", "url": "https://a.example/", "template": {"body": "x"}}`:         {"template: this relay has no templates"},
		`{"name": "a", "url": "https://a.example/", "query": "x"}`:                      {"query: relay knows no such field; there are basic, bearer, burst, ca,"},
		`{"name": "a", "url": "https://a.example/", "http": "2"}`:                       {"http: relay knows no such field; there are basic, "},
		`{"name": "a", "url": "https://a.example/", "headers": {"x-a": "", "X-A": ""}}`: {"headers: X-A and x-a are the same header"},
		`{"name": 1, "url": 2, "secrets": "` + secret + `", "headers": ["a"], "basic": "x", "bearer": 5, "timeout": 30, "rate": "fast",
			"burst": 1.5, "concurrency": "4", "schedule": "1m", "max_attempts": 101, "success_codes": "2xx", "http2": "2", "heed": "yes", "colour": "red"}`: {
			"name: must be a text", "url: must be a text", "secrets: must be a list", "headers: must be an object", "basic: must be {",
			"bearer: must be a text", "timeout: is not a duration", "rate: must be a number", "burst: must be a whole number",
			"concurrency: must be a whole number", "schedule: must be a list", "max_attempts: is 101", "success_codes: must be status codes",
			"http2: must be true or false", "heed: must be true or false", "colour: relay knows no such field",
		},
		`{"name": "n\n", "tenant": "t\n", "url": "ftp://a.example/", "secrets": ["whsec_c2hvcnQ=", {"secret": "` + secret + `", "until": "2026-01-01T00:00:00Z"}],
			"headers": {"Host": "x", "Authorization": "canary"}, "basic": {"user": "", "password": "canary"}, "bearer": "canary", "content_type": "json",
			"timeout": "2m", "rate": -1, "burst": -1, "concurrency": -1, "schedule": ["1000d"], "ca": "canary"}`: {
			"name: holds a control", "tenant: is longer", `url: scheme "ftp"`, "secrets: number 1: ", "headers: header Host", "basic: only one of",
			"basic.user: must be", "content_type: is", "timeout: 2m is more than the 1m", "rate: is -1", "burst: is -1", "concurrency: is -1",
			"schedule: wait 1", "ca: is not PEM", "url: does not begin with https",
		},
	}
	for settings, want := range tests {
		_, err := p.store.Put(t.Context(), []byte(settings), "")
		if err == nil {
			t.Errorf("took %s", settings)
			continue
		}
		for _, fault := range want {
			if !strings.Contains(err.Error(), fault) {
				t.Errorf("%s\nhas no fault %q", settings, fault)
			}
		}
		if n := strings.Count(err.Error(), "\n") + 1; n != len(want) {
			t.Errorf("%s\nhas %d faults, want %d:\n%v", settings, n, len(want), err)
		}
		if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), secret[6:]) {
			t.Errorf("a fault shows a secret: %v", err)
		}
	}
}

// Nothing is sent with half of its settings: where a secret cannot be opened, the
// events wait.
func TestAnEndpointThatCannotBeReadIsHeld(t *testing.T) {
	url := testdb.New(t)
	p := startProcess(t, url, endpoint.StoreOptions{})
	p.put(whole)
	other, err := endpoint.NewSealer(endpoint.NewSealingKey())
	if err != nil {
		t.Fatal(err)
	}
	stranger := startProcess(t, url, endpoint.StoreOptions{Sealer: other})
	if ep := found(t, stranger, "orders", ""); !strings.HasPrefix(ep.Held, "faulty: ") || len(ep.Secrets) > 0 {
		t.Errorf("without the key: %+v", ep)
	}
	if ep := found(t, stranger, "", "https://shop.example/hooks"); !strings.HasPrefix(ep.Held, "faulty: ") {
		t.Errorf("by its URL: %+v", ep)
	}
	for _, broken := range []string{`settings || '{"colour": "red"}'`, `'[]'`, `settings || '{"bearer": "plain"}'`, `settings || '{"rate": -1}'`} {
		p.exec("UPDATE relay.endpoint_settings SET settings = " + broken)
		p.soon("orders", "", func(ep relay.Endpoint, _ error) bool { return strings.HasPrefix(ep.Held, "faulty: ") })
		p.put(whole)
		if ep := found(t, p, "orders", ""); ep.Held != "" {
			t.Errorf("put again after %s: %+v", broken, ep)
		}
	}
	without := startProcess(t, url, endpoint.StoreOptions{Sealer: &endpoint.Sealer{}})
	if _, err := without.store.Put(t.Context(), []byte(`{"name": "new", "url": "https://new.example/", "bearer": "x"}`), ""); !errors.Is(err, endpoint.ErrNoSealingKey) {
		t.Errorf("without a key: %v", err)
	}
	without.put(`{"name": "open", "url": "https://open.example/"}`)
}

// Of two secrets the old one signs for the overlap only, and no change of the table
// is needed when it ends.
func TestRotate(t *testing.T) {
	const second = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{Poll: 10 * time.Millisecond})
	key := p.put(`{"name": "orders", "url": "https://shop.example/", "secrets": ["` + secret + `"]}`).State.Key
	rotate := func(next relay.Secret, overlap time.Duration) {
		t.Helper()
		if _, err := p.store.Rotate(t.Context(), key, next, overlap, "test"); err != nil {
			t.Fatal(err)
		}
	}
	has := func(want ...relay.Secret) {
		t.Helper()
		p.soon("orders", "", func(ep relay.Endpoint, _ error) bool { return slices.Equal(ep.Secrets, want) })
	}
	rotate(second, time.Hour)
	has(second, secret)
	rotate(secret, 2*time.Second)
	has(secret, second, secret)
	has(secret)
	rotate(second, 0)
	has(second)
	if _, err := p.store.Rotate(t.Context(), key, "whsec_c2hvcnQ=", time.Hour, ""); err == nil || !strings.Contains(err.Error(), "secrets: number 1") {
		t.Errorf("a secret that is none: %v", err)
	}
	other := p.put(`{"name": "plain", "url": "https://plain.example/"}`).State.Key
	if _, err := p.store.Rotate(t.Context(), other, second, time.Hour, ""); err == nil || !strings.Contains(err.Error(), "signing.secrets") {
		t.Errorf("an endpoint without secrets of its own: %v", err)
	}
}

// File and table do not know of each other: where both have a URL, the file's
// endpoint gets what is sent to it, and the other one has it when that is gone.
func TestTheFileGoesBeforeTheTable(t *testing.T) {
	const url = "https://shop.example/hook"
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{})
	p.put(`{"name": "table", "url": "` + url + `"}`)
	p.put(`{"name": "moves", "url": "https://moves.example/"}`)
	replace := func(file ...relay.Endpoint) {
		t.Helper()
		if err := p.Replace(file); err != nil {
			t.Fatal(err)
		}
	}
	requireOwner := func(url, name string) {
		t.Helper()
		if ep := found(t, p, "", url); ep.Name != name {
			t.Errorf("%s is that of %q, want %q", url, ep.Name, name)
		}
	}
	replace(relay.Endpoint{Name: "file", URL: url}, relay.Endpoint{Name: "moves", URL: "https://file.example/", Rate: 7})
	requireOwner(url, "file")
	requireOwner("https://file.example/", "moves")
	requireOwner("https://moves.example/", "")
	if ep := found(t, p, "moves", ""); ep.Rate != 7 {
		t.Errorf("the table's settings go before the file's: %+v", ep)
	}
	found(t, p, "table", "")
	p.put(`{"name": "table", "url": "` + url + `?again"}`)
	requireOwner(url, "file")
	replace()
	requireOwner(url, "table")
	requireOwner("https://moves.example/", "moves")
	requireOwner("https://file.example/", "")
	if all := p.All(); len(all) != 2 {
		t.Errorf("%d endpoints", len(all))
	}
}

// The file can hold an endpoint too, and the table as well: it is let go when
// neither does any longer.
func TestTheFileHolds(t *testing.T) {
	held := relay.Endpoint{Name: "file", URL: "https://file.example/", Held: "paused in the configuration file: they move"}
	free := relay.Endpoint{Name: "file", URL: "https://file.example/"}
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{}, held)
	key := found(t, p, "file", "").Key
	requireHeld := func(want string, released bool) {
		t.Helper()
		ep := found(t, p, "file", "")
		entry, err := p.store.Get(t.Context(), key)
		if err != nil || ep.Held != want || entry.State.Held != want || ep.Released.IsZero() == released {
			t.Errorf("held %q, shown %q, released %v, want %q: %v", ep.Held, entry.State.Held, ep.Released, want, err)
		}
	}
	replace := func(ep relay.Endpoint) {
		t.Helper()
		if err := p.Replace([]relay.Endpoint{ep}); err != nil {
			t.Fatal(err)
		}
	}
	requireHeld(held.Held, false)
	replace(free)
	requireHeld("", true)
	replace(held)
	requireHeld(held.Held, true)
	p.set(endpoint.Disabled, key, "gone")
	requireHeld("disabled: gone", true)
	p.set(endpoint.Enabled, key, "")
	requireHeld(held.Held, true)
	replace(free)
	requireHeld("", true)
	replace(held)
	replace(free)
	let := found(t, p, "file", "").Released
	p.set(endpoint.Paused, key, "")
	p.set(endpoint.Resumed, key, "")
	requireHeld("", true)
	if again := found(t, p, "file", "").Released; again.Before(let) {
		t.Errorf("released at %v, and then at %v", let, again)
	}
	replace(free)
	if again := found(t, p, "file", "").Released; again.Before(let) {
		t.Errorf("forgot that it was released: %v", again)
	}
}
