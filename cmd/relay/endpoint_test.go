package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/relaytest"
)

func TestEndpointsFromTheCommandLine(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options{Endpoints: []relay.Endpoint{{Name: "file", URL: "https://file.example/"}}})
	file := filepath.Join(t.TempDir(), "orders.json")
	settings := `{"url": "https://elsewhere.example/", "secrets": ["` + string(relaytest.Secret) + `"], "rate": 100}`
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, []string{`"name": "orders"`, `"[hidden]"`, `"rate": 100`}, set(r, "endpoint", "put", "@"+file, "--name", "orders", "--url", r.Receiver.URL)...)
	got := must(t, []string{r.Receiver.URL, `"updated_by": "`}, set(r, "endpoint", "get", "orders")...)
	must(t, []string{`"rate": 50`}, set(r, "endpoint", "put", strings.Replace(got, `"rate": 100`, `"rate": 50`, 1))...)
	mustRefuse(t, []string{"relay: revision: the endpoint has been changed meanwhile: get it again\n"},
		set(r, "endpoint", "put", strings.Replace(got, `"rate": 100`, `"rate": 51`, 1))...)
	mustRefuse(t, []string{"relay: colour: ", "\ntimeout: ", "\nurl: ", "\nname: is missing\n"},
		set(r, "endpoint", "put", `{"colour": "red", "timeout": 3}`)...)

	must(t, []string{"orders is paused; its events wait: paused: a deployment\n"}, set(r, "endpoint", "pause", "orders", "--reason", "a deployment")...)
	must(t, []string{"orders", "file", "paused: a deployment", "HELD"}, set(r, "endpoint", "list")...)
	if out := must(t, []string{`"name":"orders"`}, set(r, "endpoint", "list", "--held", "--json")...); strings.Contains(out, "file") {
		t.Error(out)
	}
	must(t, []string{"orders is resumed\n"}, set(r, "endpoint", "resume", "orders")...)
	must(t, []string{"https://alone.example/hook is disabled; its events wait: disabled: gone\n"},
		set(r, "endpoint", "disable", "https://alone.example/hook?q", "--reason", "gone")...)
	must(t, []string{"https://alone.example/hook is enabled\n"}, set(r, "endpoint", "enable", "https://alone.example/hook")...)

	next := strings.TrimSpace(must(t, []string{"whsec_"}, set(r, "endpoint", "rotate", "orders", "--overlap", "1h")...))
	r.Receiver.Trust(relay.Secret(next))
	r.RequireDelivered(r.Publish(map[string]any{"endpoint": "orders"}))
	must(t, []string{`"whsk_`, "whpk_"}[1:], set(r, "endpoint", "rotate", "orders", "--ed25519")...)
	if said := mustRefuse(t, []string{"@file or -"}, set(r, "endpoint", "rotate", "orders", "--secret", next)...); strings.Contains(said, next) {
		t.Errorf("shows a secret: %s", said)
	}
	tried := must(t, []string{`"method": "POST"`}, set(r, "endpoint", "try", "orders", `{"n": 1}`)...)
	var request struct{ Body string }
	if err := json.Unmarshal([]byte(tried), &request); err != nil || request.Body != `{"n":1}` && request.Body != `{"n": 1}` {
		t.Errorf("%s, %v", tried, err)
	}
	// Its secrets go to another server only where somebody says so.
	elsewhere := relaytest.NewReceiver(t)
	got = must(t, nil, set(r, "endpoint", "get", "orders")...)
	moved := strings.Replace(got, r.Receiver.URL, elsewhere.URL, 1)
	mustRefuse(t, []string{"secrets: [hidden] was meant for " + r.Receiver.URL + " and does not go along to " + elsewhere.URL + ": ", "--move-credentials"},
		set(r, "endpoint", "put", moved)...)
	must(t, []string{`"credentials_moved_from": "` + r.Receiver.URL + `"`, `"credentials_moved_by": "`}, set(r, "endpoint", "put", "--move-credentials", moved)...)
	elsewhere.Trust(relay.Secret(next))
	r.RequireDelivered(r.Publish(map[string]any{"endpoint": "orders"}))
	if n := len(elsewhere.Requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
	must(t, []string{"orders is deleted\n"}, set(r, "endpoint", "delete", "orders")...)
	mustRefuse(t, []string{`"orders" is not registered`}, set(r, "endpoint", "get", "orders")...)
}

// mustRefuse runs a command that is asked wrongly, and returns what it says.
func mustRefuse(t *testing.T, want []string, args ...string) string {
	t.Helper()
	var said journal
	p := &program{stdin: strings.NewReader(""), stdout: io.Discard, stderr: &said}
	status, text := p.run(args, nil), said.take()
	if status != exitUsage {
		t.Errorf("status %d\n%s", status, text)
	}
	for _, part := range want {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	return text
}
