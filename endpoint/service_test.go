package endpoint_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
)

// answerOf asks the service, and returns the answer's code, which is "" if all is well.
func answerOf(t *testing.T, conn *nats.Conn, verb, body string) (code, text string) {
	t.Helper()
	m := &nats.Msg{Subject: endpoint.SubjectEndpoints + verb, Data: []byte(body), Header: nats.Header{endpoint.HeaderBy: {"tester"}}}
	answer, err := conn.RequestMsg(m, relaytest.Patience)
	if err != nil {
		t.Fatalf("%s: %v", verb, err)
	}
	return answer.Header.Get("Nats-Service-Error-Code"), string(answer.Data)
}

// must asks for what is to succeed.
func must(t *testing.T, conn *nats.Conn, verb, body string, contains ...string) string {
	t.Helper()
	code, text := answerOf(t, conn, verb, body)
	if code != "" {
		t.Fatalf("%s %s: %s %s", verb, body, code, text)
	}
	for _, want := range contains {
		if !strings.Contains(text, want) {
			t.Errorf("%s %s: no %s in\n%s", verb, body, want, text)
		}
	}
	return text
}

func TestOperatorsChangeEndpointsWhileRelaysRun(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.Start(t, relaytest.Options{NATS: one.NATS, DatabaseURL: one.URL})
	two.Receiver.Trust(relaytest.Secret, secret)
	both := relaytest.NewReceiver(t)
	both.Trust(relaytest.Secret, secret)
	events, err := one.Conn.SubscribeSync("relay.events.endpoint.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Conn.Flush(); err != nil {
		t.Fatal(err)
	}
	told := func(what string) {
		t.Helper()
		m, err := events.NextMsg(relaytest.Patience)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var e struct{ Event, Endpoint, By string }
		if err := json.Unmarshal(m.Data, &e); err != nil || e.Event != "endpoint."+what || e.By != "tester" ||
			m.Subject != "relay.events.endpoint."+what+"."+e.Endpoint {
			t.Errorf("told %s %s, want %s", m.Subject, m.Data, what)
		}
	}

	must(t, one.Conn, "put", fmt.Sprintf(`{"name": "orders", "url": %q, "secrets": [%q], "headers": {"X-A": "one"}}`, both.URL, secret),
		`"name":"orders"`, `"X-A":"[hidden]"`, `"source":"database"`, `"updated_by":"tester"`)
	told("registered")
	for i := range 20 { // at once: whoever does not know the name yet looks it up
		one.Publish(map[string]any{"id": fmt.Sprint("first_", i), "endpoint": "orders"})
	}
	for range 20 {
		if req := both.Next(); req.Header.Get("X-A") != "one" {
			t.Errorf("sent %v", req.Header)
		}
	}
	must(t, one.Conn, "put", fmt.Sprintf(`{"name": "orders", "url": %q, "secrets": ["[hidden]"], "headers": {"X-A": "two"}}`, both.URL))
	told("changed")
	if !one.Eventually(func() bool { // every process sends with it, within a second
		one.Publish(map[string]any{"endpoint": "orders"})
		return both.Next().Header.Get("X-A") == "two"
	}) {
		t.Error("no process has heard of it")
	}
	must(t, one.Conn, "rotate", `{"endpoint": "orders", "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "overlap": "1h"}`,
		`"secrets":["[hidden]",{"secret":"[hidden]","until":"`)
	told("changed")
	must(t, one.Conn, "pause", `{"endpoint": "orders", "reason": "a deployment"}`, `"done":"paused"`, `"held":"paused: a deployment"`)
	told("paused")
	must(t, one.Conn, "list", `{"held": true}`, `"count":1`, `"held":"paused: a deployment"`)
	must(t, one.Conn, "disable", `{"endpoint": "`+both.URL+`?x=1", "reason": "gone"}`, `"name":"orders"`, `"held":"disabled: gone"`)
	told("disabled")
	must(t, one.Conn, "enable", "orders", `"held":"paused: a deployment"`)
	told("enabled")
	must(t, one.Conn, "resume", "orders", `"done":"resumed"`)
	told("resumed")
	must(t, one.Conn, "delete", "orders", `"done":"deleted"`)
	told("deleted")
	var w relaytest.Webhook
	if !one.Eventually(func() bool { // a process that has not heard of it yet sends
		w = one.RequireStatus(one.Publish(map[string]any{"endpoint": "orders"}), "delivered", "dead")
		return w.Status == "dead"
	}) {
		t.Fatal("what names a deleted endpoint is delivered")
	}
	if !strings.Contains(w.Reason, `no endpoint "orders" is registered, or no longer`) {
		t.Errorf("what names a deleted endpoint is dead because %q", w.Reason)
	}
}

// Every process answers: when one stops, the other does.
func TestEveryRelayAnswers(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.Start(t, relaytest.Options{NATS: one.NATS, DatabaseURL: one.URL})
	must(t, one.Conn, "put", `{"name": "orders", "url": "https://orders.example/"}`)
	two.Stop()
	for range 10 {
		must(t, one.Conn, "get", "orders", `"url":"https://orders.example/"`)
	}
}

func TestTheServiceRefuses(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{Endpoints: []relay.Endpoint{{Name: "file", URL: "https://file.example/", Rate: 3}}})
	must(t, r.Conn, "put", `{"name": "orders", "url": "https://orders.example/"}`)
	for _, c := range []struct {
		verb, body, code string
		faults           []string
	}{
		{"put", `{"name": "", "url": "x", "rate": -1, "colour": 1}`, "400", []string{"colour: ", "url: ", "name: ", "rate: "}},
		{"put", `{"name": "file", "url": "https://other.example/"}`, "409", []string{`name: "file" stands in the configuration file`}},
		{"put", `{"name": "orders", "url": "https://orders.example/", "revision": 1000}`, "409", []string{"revision: "}},
		{"put", `orders`, "400", []string{"the request must be a JSON object"}},
		{"get", `nobody`, "404", []string{`"nobody" is not registered`}},
		{"get", ``, "400", []string{"the request names no endpoint"}},
		{"get", `{"endpoint": 1, "name": "x"}`, "400", []string{"endpoint: must be a text", "name: relay knows no such field; there are endpoint, reason, tenant"}},
		{"get", `{"endpoint": "orders", "tenant": "acme"}`, "404", []string{`"orders" is not registered`}},
		{"get", `https://never.example/`, "404", []string{"is not registered"}},
		{"pause", `ftp://x.example/`, "400", []string{"url: scheme"}},
		{"delete", `file`, "409", []string{"stands in the configuration file"}},
		{"delete", `https://never.example/`, "404", []string{"is not registered"}},
		{"rotate", `{"endpoint": "orders", "secret": "canary", "overlap": "100d"}`, "400", []string{"secret: ", "overlap: "}},
		{"rotate", `{"endpoint": "file", "secret": "` + secret + `"}`, "409", []string{"stands in the configuration file"}},
		{"list", `{"limit": 0, "held": "yes"}`, "400", []string{"held: must be true or false", "limit: is 0"}},
		{"try", `{"endpoint": "orders", "template": {"body": "x"}}`, "400", []string{"template: "}},
	} {
		code, text := answerOf(t, r.Conn, c.verb, c.body)
		var refusal endpoint.Refusal
		if err := json.Unmarshal([]byte(text), &refusal); err != nil || code != c.code || len(refusal.Faults) != len(c.faults) {
			t.Errorf("%s %s: %s %s", c.verb, c.body, code, text)
			continue
		}
		for _, want := range c.faults {
			if !slices.ContainsFunc(refusal.Faults, func(f string) bool { return strings.Contains(f, want) }) {
				t.Errorf("%s %s: no fault %q in %q", c.verb, c.body, want, refusal.Faults)
			}
		}
		if strings.Contains(text, "canary") {
			t.Errorf("%s shows a secret: %s", c.verb, text)
		}
	}
	for _, tenant := range []string{"a", "b"} {
		must(t, r.Conn, "put", `{"name": "bills", "url": "https://bills.example/", "tenant": "`+tenant+`"}`)
	}
	for _, verb := range []string{"get", "pause", "delete", "try"} {
		code, text := answerOf(t, r.Conn, verb, `{"endpoint": "bills"}`)
		if code != "409" || !strings.Contains(text, `of several tenants`) || !strings.Contains(text, `tenant \"a\" (key `) {
			t.Errorf("%s of two tenants' endpoint: %s %s", verb, code, text)
		}
	}
	must(t, r.Conn, "pause", `{"endpoint": "bills", "tenant": "b"}`, `"tenant":"b"`)
	must(t, r.Conn, "get", `{"endpoint": "bills", "tenant": "a"}`, `"tenant":"a"`)
	for _, tenant := range []string{"a", "b"} {
		must(t, r.Conn, "delete", `{"endpoint": "bills", "tenant": "`+tenant+`"}`, `"tenant":"`+tenant+`"`)
	}
	must(t, r.Conn, "get", "file", `"rate":3`, `"source":"file"`)
	must(t, r.Conn, "pause", "file", `"held":"paused: no reason was given"`)
	must(t, r.Conn, "pause", "https://alone.example/x?token=canary", `"held":"paused: no reason was given"`)
	text := must(t, r.Conn, "list", "", `"count":3`, `"source":"file"`, `"source":"database"`, `"source":"url"`)
	if strings.Contains(text, "canary") {
		t.Errorf("a query is shown: %s", text)
	}
	first := must(t, r.Conn, "list", `{"limit": 2}`, `"name":"file"`, `"name":"orders"`, `"next":"`)
	var page endpoint.Listing
	if err := json.Unmarshal([]byte(first), &page); err != nil {
		t.Fatal(err)
	}
	must(t, r.Conn, "list", `{"after": "`+page.Next+`"}`, `"url":"https://alone.example/x"`)
}

// shouting is a template as another package compiles it.
type shouting struct{}

func (shouting) Shape(w relay.Webhook) (relay.Webhook, error) {
	w.Body = []byte(strings.ToUpper(string(w.Body)))
	w.Header = http.Header{"X-Shaped": {"yes"}}
	return w, nil
}

func TestTryShowsTheRequestAndSendsNothing(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{Store: endpoint.StoreOptions{
		Compile: func(template []byte) (relay.Shaper, error) {
			if !strings.Contains(string(template), "shout") {
				return nil, fmt.Errorf("body: knows no such word")
			}
			return shouting{}, nil
		},
	}})
	must(t, r.Conn, "put", `{"name": "chat", "url": "`+r.Receiver.URL+`/?token=canary", "template": {"body": "shout"}}`)
	text := must(t, r.Conn, "try", `{"endpoint": "chat", "payload": {"hello": "world"}, "event_type": "greeting"}`,
		`"body":"{\"HELLO\": \"WORLD\"}"`, `"X-Shaped":["yes"]`, `"method":"POST"`, `"url":"`+r.Receiver.URL+`/"`)
	if strings.Contains(text, "canary") {
		t.Errorf("shows the query: %s", text)
	}
	if code, text := answerOf(t, r.Conn, "try", `{"endpoint": "chat", "template": {"body": "whisper"}}`); code != "400" || !strings.Contains(text, "template: body: knows no such word") {
		t.Errorf("%s %s", code, text)
	}
	if n := len(r.Receiver.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
	// What is long is shown in part, in an answer that fits into one message.
	for payload, shown := range map[string]int{strings.Repeat("a", 100<<10): 100<<10 + 2, strings.Repeat("<", 900<<10): 128 << 10} {
		var tried endpoint.Tried
		text := must(t, r.Conn, "try", `{"endpoint": "chat", "payload": "`+payload+`"}`)
		if err := json.Unmarshal([]byte(text), &tried); err != nil || len(tried.Body) != shown || tried.BodyBytes != len(payload)+2 || tried.BodyCut != (shown < tried.BodyBytes) {
			t.Errorf("%v: %d bytes are shown of %d", err, len(tried.Body), tried.BodyBytes)
		}
	}
	code, text := answerOf(t, r.Conn, "put", `{"name": "chat", "url": "`+r.Receiver.URL+`", "template": {"body": "whisper"}}`)
	if code != "400" || !strings.Contains(text, "template: body: knows no such word") {
		t.Errorf("%s %s", code, text)
	}
}
