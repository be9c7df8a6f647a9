package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/admin"
)

const token = "0123456789abcdef0123456789abcdef"

// serve runs a server on loopback and returns its base URL. The server has ended
// when the test has.
func serve(t *testing.T, o admin.Options) string {
	t.Helper()
	return "http://" + serveAt(t, "127.0.0.1:0", o)
}

func serveAt(t *testing.T, address string, o admin.Options) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	o.Listener = l
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- admin.New(o).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return l.Addr().String()
}

// get asks for a page, with a token unless it is empty.
func get(t *testing.T, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return do(t, req)
}

func do(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestHealthAnswersWhileEverythingElseIsDown(t *testing.T) {
	down := func(context.Context) error { return errors.New("connection refused") }
	url := serve(t, admin.Options{Checks: map[string]func(context.Context) error{"postgres": down}})
	if code, body := get(t, url+"/healthz", ""); code != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
}

type readiness struct {
	Ready bool
	Wrong []struct{ Check, Error string }
}

func ready(t *testing.T, url, token string) (int, readiness) {
	t.Helper()
	code, body := get(t, url+"/readyz", token)
	var r readiness
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return code, r
}

func TestReadySaysEverythingThatIsWrong(t *testing.T) {
	var broken bool
	checks := map[string]func(context.Context) error{
		"postgres": func(context.Context) error {
			if broken {
				return errors.New("schema is 3, want 5")
			}
			return nil
		},
		"nats": func(ctx context.Context) error {
			if !broken {
				return nil
			}
			<-ctx.Done() // a server that does not answer
			return ctx.Err()
		},
		"fine": func(context.Context) error { return nil },
	}
	url := serve(t, admin.Options{Checks: checks, CheckTimeout: 20 * time.Millisecond})

	code, got := ready(t, url, "")
	if want := (readiness{Ready: true, Wrong: []struct{ Check, Error string }{}}); code != 200 || !cmp.Equal(want, got) {
		t.Errorf("ready: %d %+v", code, got)
	}
	broken = true
	wantReady := func(want map[string]string) {
		t.Helper()
		_, body := get(t, url+"/metrics", "")
		for check, value := range want {
			if line := "\nrelay_ready{check=\"" + check + "\"} " + value + "\n"; !strings.Contains(body, line) {
				t.Errorf("no line %q", line)
			}
		}
	}
	wantReady(map[string]string{"postgres": "0", "nats": "0", "fine": "1"})
	code, got = ready(t, url, "")
	if code != 503 || got.Ready || len(got.Wrong) != 2 {
		t.Fatalf("broken: %d %+v", code, got)
	}
	if w := got.Wrong[0]; w.Check != "nats" || !strings.Contains(w.Error, "no answer within 20ms") {
		t.Errorf("first fault: %+v", w)
	}
	broken = false
	wantReady(map[string]string{"postgres": "1", "nats": "1", "fine": "1"})
	if w := got.Wrong[1]; w.Check != "postgres" || !strings.Contains(w.Error, "schema is 3, want 5") {
		t.Errorf("second fault: %+v", w)
	}
}

func TestTokenIsAskedFor(t *testing.T) { // M2
	down := func(context.Context) error { return errors.New("db.internal:5432 refused") }
	url := serve(t, admin.Options{Token: token, Checks: map[string]func(context.Context) error{"postgres": down}})
	for _, wrong := range []string{"", "x", token[:31], token + "0", strings.ToUpper(token)} {
		for _, page := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap"} {
			if code, _ := get(t, url+page, wrong); code != 401 {
				t.Errorf("%s with token %q: %d", page, wrong, code)
			}
		}
		if code, _ := get(t, url+"/healthz", wrong); code != 200 {
			t.Errorf("/healthz with token %q: %d", wrong, code)
		}
		if code, r := ready(t, url, wrong); code != 503 || r.Wrong[0].Check != "postgres" || r.Wrong[0].Error != "" {
			t.Errorf("/readyz with token %q: %d %+v", wrong, code, r)
		}
	}
	if code, body := get(t, url+"/metrics", token); code != 200 || !strings.Contains(body, "relay_build_info") {
		t.Errorf("/metrics with the token: %d", code)
	}
	if code, _ := get(t, url+"/debug/pprof/heap", token); code != 200 {
		t.Errorf("pprof with the token: %d", code)
	}
	if _, r := ready(t, url, token); !strings.Contains(r.Wrong[0].Error, "db.internal") {
		t.Errorf("/readyz with the token: %+v", r)
	}
}

func TestProfilesAreServedOnLoopbackOnly(t *testing.T) { // S7
	url := serve(t, admin.Options{})
	if code, _ := get(t, url+"/debug/pprof/heap", ""); code != 200 {
		t.Errorf("on loopback: %d", code)
	}
	_, port, err := net.SplitHostPort(serveAt(t, "0.0.0.0:0", admin.Options{Token: token}))
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := get(t, "http://127.0.0.1:"+port+"/debug/pprof/heap", token); code != 404 {
		t.Errorf("on all interfaces: %d", code)
	}
	if code, _ := get(t, "http://127.0.0.1:"+port+"/metrics", token); code != 200 {
		t.Errorf("metrics on all interfaces: %d", code)
	}
}

func TestOpenServerIsRefused(t *testing.T) { // M1
	for _, tc := range []struct {
		address string
		token   relay.Secret
		want    string // in the error; "" if accepted
	}{
		{address: ""},
		{address: "127.0.0.1:0"},
		{address: "[::1]:0"},
		{address: "localhost:0"},
		{address: "[::ffff:127.0.0.1]:0"},
		{address: ":0", want: "token is required"},
		{address: "0.0.0.0:0", want: "token is required"},
		{address: "[::]:0", want: "token is required"},
		{address: "192.0.2.1:0", want: "token is required"},
		{address: "relay.internal:0", want: "token is required"},
		{address: "0.0.0.0:0", token: "short", want: "has 5 bytes"},
		{address: "0.0.0.0:0", token: token},
		{address: "8422", want: "not host:port"},
	} {
		err := admin.Options{Address: tc.address, Token: tc.token}.Validate()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%q: %v, want %q", tc.address, err, tc.want)
		}
		if err != nil && tc.token != "" && strings.Contains(err.Error(), string(tc.token)) {
			t.Errorf("%q: the error shows the token: %v", tc.address, err)
		}
	}
	if err := admin.New(admin.Options{Address: "0.0.0.0:0"}).Run(t.Context()); err == nil {
		t.Error("Run opened a server without a token")
	}
}

// A page on evil.example whose name resolves to 127.0.0.1 sends its own name.
func TestReboundNameIsRefused(t *testing.T) {
	url := serve(t, admin.Options{})
	for host, want := range map[string]int{
		"evil.example": 421, "evil.example:8422": 421, "192.0.2.1": 421,
		"localhost": 200, "localhost:8422": 200, "127.0.0.1": 200, "[::1]:8422": 200, "[::1]": 200,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if code, _ := do(t, req); code != want {
			t.Errorf("Host %s: %d, want %d", host, code, want)
		}
	}
}

func TestOnlyGetIsServed(t *testing.T) { // M4
	url := serve(t, admin.Options{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := do(t, req); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", code)
	}
}

func TestRunReportsATakenAddress(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = admin.New(admin.Options{Address: l.Addr().String()}).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "admin: listen") {
		t.Errorf("Run: %v", err)
	}
}
