package endpoint_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
)

// requests are what a hostile or careless operator may ask, and what one fault of
// the answer says.
func requests() map[string]struct{ verb, body, fault string } {
	put := func(more string) string {
		return `{"name": "hostile", "url": "https://hostile.example/", ` + more + `}`
	}
	list := func(item string, n int) string { return "[" + strings.Repeat(item+",", n-1) + item + "]" }
	return map[string]struct{ verb, body, fault string }{
		"nothing":                           {"put", "", "the request must be a JSON object"},
		"a byte order mark":                 {"put", "\xef\xbb\xbf{}", "the request must be a JSON object"},
		"no UTF-8":                          {"put", "{\"name\": \"\xff\"}", "not UTF-8"},
		"nested 500,000 deep":               {"put", strings.Repeat("[", 500_000), "the request must be a JSON object"},
		"a field nested 400,000 deep":       {"put", put(`"template": ` + strings.Repeat("[", 400_000) + strings.Repeat("]", 400_000)), "no whole JSON object"},
		"a field in capitals":               {"put", put(`"Secrets": []`), "Secrets: relay knows no such field"},
		"a field with line breaks":          {"put", put(`"x\r\nNats-Service-Error-Code: 200": 1`), "relay knows no such field"},
		"a name that is half a pair":        {"put", `{"name": "\ud800", "url": "https://hostile.example/"}`, "name: holds a control character or invalid UTF-8"},
		"a name with a C1 control":          {"put", `{"name": "a\u009b", "url": "https://hostile.example/"}`, "name: holds a control character"},
		"a tenant with NUL":                 {"put", put(`"tenant": "a\u0000b"`), "tenant: is longer"},
		"a name of a megabyte":              {"put", `{"name": "` + strings.Repeat("n", 1_000_000) + `", "url": "https://hostile.example/"}`, "name: is longer than 256 bytes"},
		"a URL of a megabyte":               {"put", `{"name": "hostile", "url": "https://hostile.example/` + strings.Repeat("x", 1_000_000) + `"}`, "url: longer than 2048 bytes"},
		"33 secrets":                        {"put", put(`"secrets": ` + list(`"`+secret+`"`, 33)), "secrets: 33, "},
		"10,000 secrets":                    {"put", put(`"secrets": ` + list(`"`+secret+`"`, 10_000)), "want at most 32"},
		"a secret that is an object of two": {"put", put(`"secrets": [{"secret": "` + secret + `", "until": null, "unless": 1}]`), "secrets: each must be a text"},
		"a secret that is no secret":        {"put", put(`"secrets": [["` + secret + `"]]`), "secrets: each must be a text"},
		"a secret that is null":             {"put", put(`"secrets": [null]`), "secrets: "},
		"only secrets that end":             {"put", put(`"secrets": [{"secret": "` + secret + `", "until": "2999-01-01T00:00:00Z"}]`), "secrets: one at least must be without an end"},
		"headers by case alone":             {"put", put(`"headers": {"x-a": "1", "X-A": "2", "X-a": "3"}`), "are the same header"},
		"a header of relay's, in disguise":  {"put", put(`"headers": {"Webhook_Signature": "canary"}`), "headers: header Webhook_signature may not be set"},
		"a header with a line break":        {"put", put(`"headers": {"X": "canary\r\nY: 1"}`), "headers: header X: the value holds a line break"},
		"51 headers":                        {"put", put(`"headers": {` + strings.TrimSuffix(numbered(51), ",") + `}`), "headers: more than 50"},
		"20,000 headers":                    {"put", put(`"headers": {` + strings.TrimSuffix(numbered(20_000), ",") + `}`), "headers: more than 50"},
		"a bearer with a line break":        {"put", put(`"bearer": "canary\r\nX: 1"`), "headers: header Authorization: the value holds a line break"},
		"a user with a colon":               {"put", put(`"basic": {"user": "a:b", "password": "canary"}`), "basic.user: must be a name without a colon"},
		"basic with more":                   {"put", put(`"basic": {"user": "a", "password": "canary", "realm": "x"}`), "basic: must be {"},
		"a timeout of ages":                 {"put", put(`"timeout": "9999999d"`), "timeout: "},
		"a timeout below zero":              {"put", put(`"timeout": "-5s"`), "timeout: "},
		"a timeout without a unit":          {"put", put(`"timeout": 30`), "timeout: is not a duration"},
		"a rate that nothing holds":         {"put", put(`"rate": 1e999`), "rate: must be a number"},
		"a burst beyond 64 bits":            {"put", put(`"burst": 99999999999999999999`), "burst: must be a whole number"},
		"a concurrency of a fraction":       {"put", put(`"concurrency": 0.5`), "concurrency: must be a whole number"},
		"100 waits":                         {"put", put(`"schedule": ` + list(`"1s"`, 100)), "schedule: has 100 waits"},
		"100,000 waits":                     {"put", put(`"schedule": ` + list(`"1s"`, 100_000)), "schedule: has 100000 waits"},
		"a schedule of nulls":               {"put", put(`"schedule": [{}]`), "schedule: is not a duration"},
		"401 success codes":                 {"put", put(`"success_codes": ` + list("200", 401)), "success_codes: are 401 ranges"},
		"100,000 success codes":             {"put", put(`"success_codes": ` + list("200", 100_000)), "success_codes: are 100000 ranges"},
		"success codes nested":              {"put", put(`"success_codes": [[200]]`), "success_codes: must be status codes"},
		"success codes backwards":           {"put", put(`"success_codes": "299-200"`), "success_codes: must be status codes"},
		"HTTP 3":                            {"put", put(`"http2": "3"`), "http2: must be true or false"},
		"authorities of a megabyte":         {"put", put(`"ca": "` + strings.Repeat("x", 1_000_000) + `"`), "ca: "},
		"a key without its certificate":     {"put", put(`"key": "canary"`), "certificate: is missing"},
		"hidden, and nothing there":         {"put", put(`"bearer": "[hidden]"`), "bearer: [hidden] stands for a secret that is not there"},
		"a revision below zero":             {"put", put(`"revision": -1`), "revision: "},
		"a template, where there are none":  {"put", put(`"template": {"body": "canary"}`), "template: "},

		"get with a wildcard":           {"get", "*", "is not registered"},
		"get with SQL":                  {"get", "' OR '1'='1", "is not registered"},
		"get with NUL":                  {"get", "a\x00b", "is not registered"},
		"get what is no UTF-8":          {"get", "\xff\xfe", "is not registered"},
		"get a megabyte":                {"get", strings.Repeat("x", 1_000_000), "is not registered"},
		"get a URL inside":              {"get", "http://user:canary@169.254.169.254/?canary", "url: "},
		"delete everything":             {"delete", "%", "is not registered"},
		"delete with ESC":               {"delete", "\x1b[2J", "is not registered"},
		"delete a megabyte":             {"delete", strings.Repeat("x", 1_000_000), "is not registered"},
		"pause with a list":             {"pause", `{"endpoint": ["kept"]}`, "endpoint: must be a text"},
		"rotate without a secret":       {"rotate", `{"endpoint": "kept", "secret": ""}`, "secret"},
		"rotate for ages":               {"rotate", `{"endpoint": "kept", "overlap": "91d", "secret": "` + secret + `"}`, "overlap: "},
		"list from SQL":                 {"list", `{"after": "'; DROP TABLE relay.endpoint_settings; --", "limit": "1"}`, "limit: must be a whole number"},
		"list more than there can be":   {"list", `{"limit": 99999999999999999999}`, "limit: must be a whole number"},
		"list less than nothing":        {"list", `{"limit": -1}`, "limit: "},
		"try with a header of relay's":  {"try", `{"endpoint": "kept", "headers": {"Host": "canary"}}`, "headers: header Host may not be set"},
		"try with headers of all kinds": {"try", `{"endpoint": "kept", "headers": {"X": ["a"]}}`, "headers: must be an object of texts"},
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"X-%d": "1",`, i)
	}
	return b.String()
}

// M7: TestHostileRequests asks relay.endpoints what it must refuse: each is answered,
// with a reason in relay's own words that people can read, and none changes
// anything.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	must(t, r.Conn, "put", `{"name": "kept", "url": "https://kept.example/", "secrets": ["`+secret+`"], "headers": {"X-Key": "canary"}}`)
	state := func() (text string) {
		t.Helper()
		if err := r.DB.QueryRow(t.Context(), "SELECT string_agg(row_to_json(s)::text, E'\\n') FROM relay.endpoint_settings s WHERE name IS NOT NULL").Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := state()
	for name, c := range requests() {
		t.Run(name, func(t *testing.T) {
			code, text := answerOf(t, r.Conn, c.verb, c.body)
			var refusal endpoint.Refusal
			if err := json.Unmarshal([]byte(text), &refusal); err != nil || code == "" || code[0] != '4' {
				t.Fatalf("answered %q %.300s", code, text)
			}
			all := strings.Join(refusal.Faults, "\n")
			if !strings.Contains(all, c.fault) || len(text) > 20_000 || strings.Contains(text, "canary") || strings.Contains(text, secret[6:]) {
				t.Errorf("no %q in %d bytes: %.500s", c.fault, len(text), text)
			}
			for _, fault := range refusal.Faults {
				if !utf8.ValidString(fault) || strings.ContainsFunc(fault, unicode.IsControl) {
					t.Errorf("the fault %q is not for people", fault)
				}
			}
		})
	}
	for name, by := range map[string]string{"NUL": "a\x00b", "no UTF-8": "\xff\xfe", "ESC and a line break": "\x1b[2J\r\nX: 1", "30 KB": strings.Repeat("x", 30_000)} {
		t.Run("asked by "+name, func(t *testing.T) {
			m := &nats.Msg{Subject: endpoint.SubjectEndpoints + "pause", Data: []byte("https://paused.example/"), Header: nats.Header{endpoint.HeaderBy: {by}}}
			answer, err := r.Conn.RequestMsg(m, relaytest.Patience)
			if err != nil || answer.Header.Get("Nats-Service-Error-Code") != "" || !strings.Contains(string(answer.Data), `"held":"paused`) {
				t.Errorf("%v %s, %v", answer.Header, answer.Data, err)
			}
		})
	}
	if after := state(); after != before {
		t.Errorf("the table changed:\n%s\nwas:\n%s", after, before)
	}
	must(t, r.Conn, "get", "kept", `"url":"https://kept.example/"`)
}

// As many secrets as a request has room for can be registered and rotated, and no
// more: the first request would fail, and its event be dead.
func TestAnEndpointHasNoMoreSecretsThanSign(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	r.Receiver.Trust(relay.Secret(secret))
	full := strings.Repeat(`"`+secret+`",`, 31) + `"` + secret + `"`
	must(t, r.Conn, "put", `{"name": "orders", "url": "`+r.Receiver.URL+`", "secrets": [`+full+`]}`)
	r.RequireDelivered(r.Publish(map[string]any{"endpoint": "orders"}))
	if got := r.Receiver.Requests()[0].Header.Get("webhook-signature"); len(strings.Fields(got)) != 32 {
		t.Errorf("%d signatures", len(strings.Fields(got)))
	}
	code, text := answerOf(t, r.Conn, "rotate", `{"endpoint": "orders", "secret": "`+secret+`", "overlap": "1h"}`)
	if code != "400" || !strings.Contains(text, "secrets: 33, ") {
		t.Errorf("a 33rd: %s %s", code, text)
	}
	must(t, r.Conn, "rotate", `{"endpoint": "orders", "secret": "`+secret+`", "overlap": "0s"}`)
	r.RequireDelivered(r.Publish(map[string]any{"endpoint": "orders"}))
}
