package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/signature"
)

// ownSecret signs for one endpoint of TestEverySettingReachesTheWire.
const ownSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

// registration is an endpoint with some settings, as each way to register it wants them.
type registration struct {
	name, url string
	file      string         // YAML, in braces
	json      map[string]any // what put takes
	tenant    string
}

// wire is a relay with settings that were registered one way or another.
type wire struct {
	*relaytest.Relay
	t     *testing.T
	hold  func(verb, name, reason string) // pauses, resumes, disables, enables
	files credentials
}

// Every setting of an endpoint can be written into the configuration file, put by
// the command line, and put by plain NATS, and does what it says to the requests
// that are made.
func TestEverySettingReachesTheWire(t *testing.T) {
	const base = "admin: {address: '127.0.0.1:0'}\npolicy: {schedule: [10ms, 10ms, 10ms, 10ms], jitter: 0}\nsealing: {keys: [" + string(relaytest.SealingKey) + "]}\n"
	config := file(t, base)
	r, log := startApp(t, config)
	url := r.Conn.ConnectedUrl()
	commands := func(args ...string) string {
		return must(t, nil, append(args, "--set", "nats.url="+url)...)
	}
	ask := func(verb string, request map[string]any) {
		t.Helper()
		body, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := r.Conn.Request(endpoint.SubjectEndpoints+verb, body, relaytest.Patience)
		if err != nil || answer.Header.Get("Nats-Service-Error-Code") != "" {
			t.Fatalf("%s %s: %v %s", verb, body, err, answer.Data)
		}
	}
	ways := []struct {
		name     string
		register func(all []registration)
		hold     func(verb, name, reason string)
	}{
		{"the command line", func(all []registration) {
			for _, s := range all {
				body, err := json.Marshal(s.json)
				if err != nil {
					t.Fatal(err)
				}
				args := []string{"endpoint", "put", string(body), "--name", s.name, "--url", s.url}
				if s.tenant != "" {
					args = append(args, "--tenant", s.tenant)
				}
				commands(args...)
			}
		}, func(verb, name, reason string) {
			args := []string{"endpoint", verb, name}
			if reason != "" {
				args = append(args, "--reason", reason)
			}
			commands(args...)
		}},
		{"NATS", func(all []registration) {
			for _, s := range all {
				s.json["name"], s.json["url"], s.json["tenant"] = s.name, s.url, s.tenant
				ask("put", s.json)
			}
		}, func(verb, name, reason string) { ask(verb, map[string]any{"endpoint": name, "reason": reason}) }},
		{"the file", func(all []registration) {
			var text strings.Builder
			text.WriteString(base + "endpoints:\n")
			for _, s := range all {
				fmt.Fprintf(&text, "  %s: {url: '%s', tenant: '%s', %s}\n", s.name, s.url, s.tenant, s.file)
			}
			if said := reload(t, r, log, config, text.String()); !strings.Contains(said, "configuration reloaded") {
				t.Fatal(said)
			}
		}, func(verb, name, reason string) {
			now, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			for line := range strings.Lines(string(now)) {
				if strings.HasPrefix(line, "  "+name+": {") {
					line, _, _ = strings.Cut(line, ", paused: ")
					line, _, _ = strings.Cut(line, ", disabled: ")
					line = strings.TrimSuffix(strings.TrimSpace(line), "}")
					switch verb {
					case "pause":
						line += ", paused: '" + reason + "'"
					case "disable":
						line += ", disabled: '" + reason + "'"
					}
					line = "  " + line + "}\n"
				}
				text.WriteString(line)
			}
			if said := reload(t, r, log, config, text.String()); !strings.Contains(said, "configuration reloaded") {
				t.Fatal(said)
			}
		}},
	}
	for i, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			w := &wire{Relay: r, t: t, hold: way.hold, files: writeCredentials(t, t.TempDir(), "relay itself")}
			w.walk(fmt.Sprintf("w%d-", i), way.register)
		})
	}
}

// seen is a request that a server of wire got.
type seen struct {
	*http.Request
	body []byte
}

// server answers as it is told, and tells what it got.
func (w *wire) server(start func(*httptest.Server), answer http.HandlerFunc) (url string, got chan seen, s *httptest.Server) {
	got = make(chan seen, 100)
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(to http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		got <- seen{q, body}
		answer(to, q)
	}))
	start(s)
	w.t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL, got, s
}

func (w *wire) plain(answer http.HandlerFunc) (url string, got chan seen) {
	url, got, _ = w.server((*httptest.Server).Start, answer)
	return url, got
}

func (w *wire) next(got chan seen) seen {
	w.t.Helper()
	select {
	case s := <-got:
		return s
	case <-time.After(relaytest.Patience):
		w.t.Fatal("no request")
		return seen{}
	}
}

// reason waits until an event waits for a reason that begins so.
func (w *wire) reason(id, begin string) {
	w.t.Helper()
	if !w.Eventually(func() bool {
		ws := w.Webhooks(id)
		return len(ws) == 1 && ws[0].Status == "pending" && strings.HasPrefix(ws[0].Reason, begin)
	}) {
		w.t.Errorf("no reason %q: %+v", begin, w.Webhooks(id))
	}
}

func status(code int) http.HandlerFunc {
	return func(to http.ResponseWriter, _ *http.Request) { to.WriteHeader(code) }
}

// walk registers an endpoint for each few settings, and calls all of them.
func (w *wire) walk(prefix string, register func([]registration)) {
	t := w.t
	secure, gotSecure, server := w.server(func(s *httptest.Server) {
		s.EnableHTTP2, s.TLS = true, &tls.Config{ClientAuth: tls.RequireAnyClientCert}
		s.StartTLS()
	}, status(http.StatusOK))
	writePEM(t, w.files.ca, "CERTIFICATE", server.Certificate().Raw)
	pem := map[string]any{}
	for field, name := range map[string]string{"ca": w.files.ca, "certificate": w.files.certificate, "key": w.files.key} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		pem[field] = string(text)
	}
	pem["http2"], pem["secrets"], pem["content_type"] = true, []string{ownSecret}, "text/csv"
	pem["headers"], pem["basic"] = map[string]string{"X-Shop": "7"}, map[string]string{"user": "relay", "password": "pass:word"}

	conflict, gotConflict := w.plain(status(http.StatusConflict))
	hang := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(hang) })
	defer letGo()
	hanging, _ := w.plain(func(_ http.ResponseWriter, q *http.Request) {
		select {
		case <-hang:
		case <-q.Context().Done():
		}
	})
	failing, gotFailing := w.plain(status(http.StatusInternalServerError))
	busy, gotBusy := w.plain(func(http.ResponseWriter, *http.Request) { <-hang })
	well, gotWell := w.plain(status(http.StatusOK))
	aborting, gotAborting := w.plain(func(to http.ResponseWriter, _ *http.Request) {
		to.Header().Set("webhook-delivery", "abort-message")
		to.WriteHeader(http.StatusInternalServerError)
	})
	form := filepath.Join(t.TempDir(), "form.yaml")
	if err := os.WriteFile(form, []byte(`body: '{"text": payload.n}'`), 0o600); err != nil {
		t.Fatal(err)
	}
	named := func(name string) string { return prefix + name }
	register([]registration{
		{
			named("all"), secure + "/hook?token=t0ken", fmt.Sprintf("http2: true, secrets: [%s], content_type: text/csv, headers: {X-Shop: '7'}, basic: 'relay:pass:word', "+
				"ca: %s, certificate: %s, key: %s", ownSecret, w.files.ca, w.files.certificate, w.files.key), pem, "",
		},
		{named("codes"), conflict, "bearer: t0ken, success_codes: 409", map[string]any{"bearer": "t0ken", "success_codes": "409"}, ""},
		{named("timeout"), hanging, "timeout: 300ms, max_attempts: 1", map[string]any{"timeout": "300ms", "max_attempts": 1}, ""},
		{named("attempts"), failing + "/attempts", "max_attempts: 2", map[string]any{"max_attempts": 2}, ""},
		{named("schedule"), failing + "/schedule", "schedule: [10ms, 1h]", map[string]any{"schedule": []string{"10ms", "1h"}}, ""},
		{named("rate"), well + "/rate", "rate: 0.001, burst: 2", map[string]any{"rate": 0.001, "burst": 2}, ""},
		{named("busy"), busy, "concurrency: 1", map[string]any{"concurrency": 1}, ""},
		{named("heed"), aborting, "heed: true", map[string]any{"heed": true}, ""},
		{named("form"), well + "/form", "template: " + form, map[string]any{"template": map[string]string{"body": `{"text": payload.n}`}}, ""},
		{named("mine"), well + "/mine", "concurrency: 2", map[string]any{"concurrency": 2}, "acme"},
		{named("held"), well + "/held", "concurrency: 2", map[string]any{"concurrency": 2}, ""},
	})
	publish := func(name string) string {
		return w.Publish(map[string]any{"endpoint": named(name), "payload": map[string]any{"n": 1}})
	}

	w.RequireDelivered(publish("all"))
	one := w.next(gotSecure)
	one.Header.Del("Accept-Encoding")
	if got, want := fmt.Sprintf("%d %s %s %s %s %s", one.ProtoMajor, one.RequestURI, one.Header["Content-Type"], one.Header["X-Shop"], one.Header["Authorization"],
		one.TLS.PeerCertificates[0].Subject.CommonName), "2 /hook?token=t0ken [text/csv] [7] [Basic cmVsYXk6cGFzczp3b3Jk] relay itself"; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
	if err := signature.Verify(one.Header, one.body, ownSecret); err != nil {
		t.Errorf("it is not signed with the endpoint's own secret: %v", err)
	}

	w.RequireDelivered(publish("codes"))
	if got := w.next(gotConflict).Header.Get("Authorization"); got != "Bearer t0ken" {
		t.Errorf("Authorization is %q", got)
	}
	id := publish("timeout")
	w.RequireDead(id)
	if as := w.Attempts(id); len(as) != 1 || as[0].Class != "timeout" {
		t.Errorf("attempts %+v", as)
	}
	w.RequireDead(publish("attempts"))
	id = publish("schedule")
	w.reason(id, "attempt 2 of 3: 500")
	if len(gotFailing) != 4 {
		t.Errorf("%d requests that fail, want 2 and 2", len(gotFailing))
	}
	w.RequireDelivered(publish("rate"))
	w.RequireDelivered(publish("rate"))
	w.reason(publish("rate"), "rate limited")
	publish("busy")
	w.next(gotBusy)
	w.reason(publish("busy"), "endpoint busy")
	id = publish("heed")
	if ws := w.RequireDead(id); ws.Attempts != 1 || len(gotAborting) != 1 {
		t.Errorf("recorded %+v", ws)
	}
	for range 2 {
		w.next(gotWell) // of rate
	}
	w.RequireDelivered(publish("form"))
	if got := string(w.next(gotWell).body); got != `{"text":1}` {
		t.Errorf("the body is %s", got)
	}
	w.tenant(named("mine"), gotWell)
	w.holds(named("held"), gotWell)
}

// tenant publishes as the tenant of an endpoint, and as nobody.
func (w *wire) tenant(name string, got chan seen) {
	w.t.Helper()
	id := name + "-of-acme"
	w.PublishMsg(&nats.Msg{Subject: "webhooks.outbound.tenant.acme", Data: fmt.Appendf(nil, `{"endpoint": %q, "id": %q}`, name, id)})
	w.RequireDelivered(id)
	if at := w.next(got).RequestURI; at != "/mine" {
		w.t.Errorf("sent to %s", at)
	}
	w.RequireDead(w.Publish(map[string]any{"endpoint": name}))
}

// holds pauses and disables an endpoint, and lets it go: then what was kept is sent.
func (w *wire) holds(name string, got chan seen) {
	w.t.Helper()
	for verb, end := range map[string]string{"pause": "resume", "disable": "enable"} {
		w.hold(verb, name, "they move house")
		id := w.Publish(map[string]any{"endpoint": name})
		w.reason(id, "held: "+verb)
		if ws := w.Webhooks(id); len(ws) != 1 || !strings.HasSuffix(ws[0].Reason, ": they move house") || ws[0].Place != string(relay.Parked) {
			w.t.Errorf("recorded %+v", ws)
		}
		if len(got) > 0 {
			w.t.Errorf("%s: it was called", verb)
		}
		w.hold(end, name, "")
		w.RequireDelivered(id)
		w.next(got)
	}
}
