package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay"
)

// writeTemplate writes a template to a file.
func writeTemplate(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "chat.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAnEndpointOfTheConfigurationHasATemplate(t *testing.T) {
	for name, text := range map[string]string{
		"YAML": "body: |\n  {'text': payload.x}\nquery: {a: id}\n", "JSON": `{"body": "{'text': payload.x}", "query": {"a": "id"}}`,
	} {
		l := mustLoad(t, sources{file: file(t, "endpoints: {chat: {url: 'https://a.example/', template: '"+writeTemplate(t, text)+"'}}")})
		list, err := l.registered()
		if err != nil || len(list) != 1 || list[0].Shape == nil {
			t.Fatalf("%s: %v, %v", name, list, err)
		}
		w, err := list[0].Shape.Shape(relay.Webhook{ID: "evt_1", URL: "https://a.example/", Body: []byte(`{"x":"y"}`)})
		if err != nil || string(w.Body) != `{"text":"y"}` || w.URL != "https://a.example/?a=evt_1" {
			t.Errorf("%s: %s: %s, %v", name, w.URL, w.Body, err)
		}
	}
}

// They are all told at once, with the key and the place, and relay does not start.
func TestFaultsOfTemplates(t *testing.T) {
	for text, want := range map[string][]string{
		"body: |\n  {'text': payloda.x,\n   'more': 1 +}\n": {"body: line 2, column 13: Syntax error"},
		"body: payloda\nheaders: {Host: id}\n":              {"headers.Host: header Host may not be set"},
		"body: payloda\nheaders: {X-A: '1 + true'}\n":       {"body: line 1, column 1: undeclared reference to 'payloda'", "headers.X-A: line 1, column 3: found no matching overload"},
		"bdoy: payload\n":                     {"cannot be read: unmarshal errors: line 1: field bdoy not found"},
		"":                                    {"cannot be read: EOF"},
		"- a\n":                               {"cannot be read: "},
		"{}\n":                                {"it has no expression"},
		strings.Repeat("# comment\n", 20_000): {"has 200000 bytes, more than 131072"},
	} {
		name := writeTemplate(t, text)
		got := faultsOf(t, "endpoints: {a: {url: 'https://a.example', template: '"+name+"'}}", sources{})
		if len(got) != len(want) {
			t.Errorf("%.80s: %q, want %q", text, got, want)
			continue
		}
		for i := range want {
			if !strings.Contains(got[i], "endpoints.a.template = "+name) && len(name) < maxShown || !strings.Contains(got[i], want[i]) {
				t.Errorf("%.80s: %q, want %q", text, got[i], want[i])
			}
		}
	}
	got := faultsOf(t, "endpoints: {a: {url: 'https://a.example', template: nothing.yaml}}", sources{})
	if len(got) != 1 || !strings.Contains(got[0], "endpoints.a.template = nothing.yaml: open nothing.yaml: no such file") {
		t.Error(got)
	}
}

func TestATemplateIsTriedWithoutARelay(t *testing.T) {
	var out bytes.Buffer
	p := &program{stdout: &out}
	name := writeTemplate(t, "body: |\n  {'text': payload.x + ' & ' + event_type}\nheaders: {x-id: id}\nquery: {a: '1'}\n")
	if err := p.tryTemplate(name, relay.Webhook{EventType: "order.paid", Body: []byte(`{"x":"y"}`)}); err != nil {
		t.Fatal(err)
	}
	var got triedRequest
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPost || got.URL != "https://endpoint.example/?a=1" || got.ContentType != "application/json" ||
		got.Headers.Get("X-Id") != "msg_try" || got.Body != `{"text":"y & order.paid"}` {
		t.Errorf("%s", out.Bytes())
	}
	if err := p.tryTemplate(name, relay.Webhook{Body: []byte(`{"z":"hunter2"}`)}); err == nil || !strings.Contains(err.Error(), "there is no such key as x") {
		t.Error(err)
	}
	for text, want := range map[string]string{"body: payloda": "chat.yaml: body: line 1, column 1: undeclared", "headers: {Host: id, Te: id}": "headers.Te: header Te may not"} {
		err := p.tryTemplate(writeTemplate(t, text), relay.Webhook{})
		if _, ok := errors.AsType[usageError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
	}
	out.Reset()
	if err := p.tryTemplate(writeTemplate(t, `body: b"\xff"`), relay.Webhook{}); err != nil || !strings.Contains(out.String(), `"body_base64": "/w=="`) {
		t.Errorf("%s, %v", out.Bytes(), err)
	}
}

// A dry run is bounded as a webhook is, asked of a running relay or made here: its
// work and time, what it may make, and what it is given.
func TestADryRunIsBounded(t *testing.T) {
	config := file(t, "admin: {address: '127.0.0.1:0'}\n")
	r, _ := startApp(t, config)
	at := []string{"--set", "nats.url=" + r.Conn.ConnectedUrl()}
	must(t, nil, append([]string{"endpoint", "put", `{"template": {"body": "payload"}}`, "--name", "chat", "--url", r.Receiver.URL}, at...)...)
	long := filepath.Join(t.TempDir(), "long.json")
	if err := os.WriteFile(long, []byte(`{"list": [`+strings.TrimSuffix(strings.Repeat("0,", 20_000), ",")+`], "text": "`+strings.Repeat("a", 400_000)+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		`payload.list.all(a, payload.list.all(b, payload.list.all(c, c < 1)))`: "takes more work than a template may",
		`payload.list.map(a, payload.list.map(b, a + b))`:                      "takes more work than a template may",
		`payload.text.replace("a", payload.text)`:                              "makes more than 1 MiB of text",
		`"` + strings.Repeat("a", relay.MaxTemplate) + `"`:                     "its expressions have",
		`payload.text.matches("(a|aa)+$")`:                                     "undeclared reference to 'matches'",
	} {
		source, err := json.Marshal(map[string]string{"body": body})
		if err != nil {
			t.Fatal(err)
		}
		mustRefuse(t, []string{want}, append([]string{"endpoint", "try", "chat", "@" + long, "--template", string(source)}, at...)...)
		var said journal
		here := &program{stdin: strings.NewReader(""), stdout: io.Discard, stderr: &said}
		status := here.run([]string{"endpoint", "try", "--template", writeTemplate(t, string(source)), "--payload", long}, nil)
		if text := said.take(); status == 0 || !strings.Contains(text, want) {
			t.Errorf("here: status %d, no %q in %.500s", status, want, text)
		}
	}
	must(t, []string{`"body_cut": true`, `"body_bytes": 4400`}, append([]string{"endpoint", "try", "chat", "@" + long}, at...)...)
	if n := len(r.Receiver.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
	if err := os.WriteFile(long, make([]byte, relay.MaxBody+1), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, []string{"the payload has 1048577 bytes, more than the 1048576 of a webhook"},
		"endpoint", "try", "--template", writeTemplate(t, "body: payload"), "--payload", long)
}
