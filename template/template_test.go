package template_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/template"
)

func ExampleCompile() {
	shaper, err := template.Compile(template.Source{
		Body:  `{"text": "Order " + string(payload.order) + " was paid: " + payload.?note.orValue("no note")}`,
		Query: map[string]string{"event": "event_type"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	shaped, err := shaper.Shape(relay.Webhook{
		URL: "https://chat.example/hook", EventType: "order.paid", Body: []byte(`{"order": 17}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(shaped.URL)
	fmt.Println(shaped.ContentType, string(shaped.Body))
	_, err = shaper.Shape(relay.Webhook{Body: []byte(`{"amount": 3}`)})
	fmt.Println(err)
	// Output:
	// https://chat.example/hook?event=order.paid
	// application/json {"text":"Order 17 was paid: no note"}
	// template: body: line 1, column 35: there is no such key as order; has() asks whether there is one, and .? goes on without
}

// compile fails the test if the template has a fault.
func compile(tb testing.TB, s template.Source) relay.Shaper {
	tb.Helper()
	shaper, err := template.Compile(s)
	if err != nil {
		tb.Fatal(err)
	}
	return shaper
}

// shape shapes a webhook with this payload by a body alone.
func shape(tb testing.TB, body, payload string) (relay.Webhook, error) {
	tb.Helper()
	return compile(tb, template.Source{Body: body}).Shape(event(payload))
}

func event(payload string) relay.Webhook {
	return relay.Webhook{
		Key: relay.NewKey(time.Date(2026, 11, 23, 8, 30, 0, 123456000, time.UTC), 7),
		ID:  "evt_1", Tenant: "acme", EventType: "order.paid", EndpointName: "orders",
		URL: "https://shop.example/hook", Method: http.MethodPost, ContentType: "application/json",
		Body: []byte(payload), Metadata: []byte(`{"shop": 7}`),
	}
}

func TestBodies(t *testing.T) {
	const jsonType, textType = "application/json", "text/plain; charset=utf-8"
	tests := []struct{ name, body, payload, want, mediaType string }{
		{"a map", `{"b": payload.x, "a": [1, 2.5, true, null]}`, `{"x":"y"}`, `{"a":[1,2.5,true,null],"b":"y"}`, jsonType},
		{"a string as it is", `"a \"" + payload.x`, `{"x":"<&>"}`, `a "<&>`, textType},
		{"bytes as they are", `b"\xff\x00"`, ``, "\xff\x00", "application/octet-stream"},
		{"a number", `payload.x + 1`, `{"x":41}`, `42`, jsonType},
		{"null", `null`, ``, `null`, jsonType},
		{"the whole payload, keys in order", `payload`, `{"z":1,"a":{"y":[],"b":{}}}`, `{"a":{"b":{},"y":[]},"z":1}`, jsonType},
		{"a key twice", `payload`, `{"a":1,"a":2}`, `{"a":2}`, jsonType},
		{"no body", `{"p": payload, "b": body}`, ``, `{"b":"","p":null}`, jsonType},
		{"no JSON", `{"p": payload, "b": body}`, `a,b;c`, `{"b":"a,b;c","p":null}`, jsonType},
		{"no UTF-8", `{"p": payload, "b": body}`, "a\xffb", `{"b":"a` + "\uFFFD" + `b","p":null}`, jsonType},
		{
			"what is known", `[id, event_type, tenant, endpoint, string(metadata.shop), string(accepted)]`, ``,
			`["evt_1","order.paid","acme","orders","7","2026-11-23T08:30:00.123456Z"]`, jsonType,
		},
		{
			"a moment and a duration", `{"t": accepted, "unix": int(accepted), "d": duration("90500ms")}`, ``,
			`{"d":"90.5s","t":"2026-11-23T08:30:00.123456Z","unix":1795422600}`, jsonType,
		},
		{
			"large whole numbers", `payload`, `[9007199254740993,-9223372036854775808,9223372036854775807,18446744073709551615]`,
			`[9007199254740993,-9223372036854775808,9223372036854775807,18446744073709551615]`, jsonType,
		},
		{
			"whole numbers beyond 64 bits", `{"p": payload, "t": body}`, `12345678901234567890123`,
			`{"p":1.2345678901234568e+22,"t":"12345678901234567890123"}`, jsonType,
		},
		{"fractions", `payload`, `[0.1,1.0,1e3,1.5e-9,-0.0,123456.789]`, `[0.1,1,1000,1.5e-09,-0,123456.789]`, jsonType},
		{"numbers of two kinds compared", `[payload.a > 1.5, payload.b == 2, payload.a < payload.b]`, `{"a":1,"b":2.0}`, `[false,true,true]`, jsonType},
		{
			"control characters in JSON", `{"x": payload.x}`, `{"x":"\u0000\u001f\n\t\\\"\u2028\u007f/"}`,
			`{"x":"\u0000\u001f\n\t\\\"\u2028\u007f/"}`, jsonType,
		},
		{"a default for what is not there", `payload.?a.?b.orValue("none")`, `{}`, `none`, textType},
		{"a key that may be left out", `{?"a": payload.?a, ?"b": payload.?b}`, `{"b":null}`, `{"b":null}`, jsonType},
		{"has", `has(payload.a) ? "yes" : "no"`, `{"b":1}`, `no`, textType},
		{
			"a list made of another", `payload.items.filter(i, i.n > 1).map(i, {"name": i.name})`,
			`{"items":[{"n":1,"name":"a"},{"n":2,"name":"b"}]}`, `[{"name":"b"}]`, jsonType,
		},
		{"a map is walked in order", `payload.map(k, k + string(payload[k]))`, `{"d":4,"b":2,"c":3,"a":1,"e":5}`, `["a1","b2","c3","d4","e5"]`, jsonType},
		{
			"a map of the template's own too", `{"d":4,"b":2,"c":3,"a":1,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10}.map(k, k)`, ``,
			`["a","b","c","d","e","f","g","h","i","j"]`, jsonType,
		},
		{"keys of several types", `{2: 0, "b": 0, 1: 0, "a": 0, true: 0}.map(k, string(k)).join(",")`, ``, `true,1,2,a,b`, textType},
		{"all, exists and exists_one", `[payload.all(x, x > 0), payload.exists(x, x > 2), payload.exists_one(x, x == 1)]`, `[1,2,3]`, `[true,true,true]`, jsonType},
		{
			"equal lists and maps", `[payload.a == payload.b, payload.a != [1], [1] in payload.c, "k" in payload.d]`,
			`{"a":[1,{"x":2}],"b":[1,{"x":2.0}],"c":[[1]],"d":{"k":1}}`, `[true,true,true,true]`, jsonType,
		},
		{"long lists", `[1,2,3,4,5,6,7,8,9,10,payload]`, `11`, `[1,2,3,4,5,6,7,8,9,10,11]`, jsonType},
		{"replace", `"a&b<c".replace("&", "&amp;").replace("<", "&lt;")`, ``, `a&amp;b&lt;c`, textType},
		{"replace nothing", `"héy".replace("", "-")`, ``, `-h-é-y-`, textType},
		{"split and join", `"a,b,c".split(",").join(" / ")`, ``, `a / b / c`, textType},
		{"letters", `"Straße".upperAscii() + "ÄBC".lowerAscii()`, ``, `STRAßEÄbc`, textType},
		{
			"parts of text", `["héllo".substring(1), "héllo".substring(1, 3), "héllo".truncate(2), "hi".truncate(9), "hi".substring(5), "".truncate(3), "hi".truncate(0)]`, ``,
			`["éllo","él","hé","hi","","",""]`, jsonType,
		},
		{"trim", `"  x ".trim()`, ``, `x`, textType},
		{"JSON within text", "\"```\" + toJson(payload) + \"```\"", `{"b":[1],"a":"\""}`, "```" + `{"a":"\"","b":[1]}` + "```", textType},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			shaped, err := shape(t, test.body, test.payload)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(shaped.Body); got != test.want || shaped.ContentType != test.mediaType {
				t.Errorf("the body is %s: %s\nwant %s: %s", shaped.ContentType, got, test.mediaType, test.want)
			}
			if shaped.ContentType == jsonType && !json.Valid(shaped.Body) {
				t.Error("the body is no JSON")
			}
		})
	}
}

func TestContentTypeCanBeSet(t *testing.T) {
	s := compile(t, template.Source{Body: `"<b>" + payload.x + "</b>"`, ContentType: "text/html; charset=utf-8"})
	shaped, err := s.Shape(event(`{"x":"y"}`))
	if err != nil || shaped.ContentType != "text/html; charset=utf-8" || string(shaped.Body) != "<b>y</b>" {
		t.Errorf("%s: %s, %v", shaped.ContentType, shaped.Body, err)
	}
}

func TestHeadersAndQuery(t *testing.T) {
	s := compile(t, template.Source{
		Headers: map[string]string{
			"X-Text": `payload.x`, "x-number": `payload.n`, "X-Truth": `true`, "X-When": `accepted`, "X-None": `null`, "X-Mine": `"new"`,
		},
		Query: map[string]string{"z": `1`, "a b": `payload.x + " &=%é"`, "none": `null`},
	})
	w := event(`{"x":"y","n":9007199254740993}`)
	w.Header = http.Header{"X-Mine": {"old", "older"}, "X-Theirs": {"stays"}}
	for _, test := range []struct{ url, want string }{
		{"https://shop.example/hook", "https://shop.example/hook?a+b=y+%26%3D%25%C3%A9&z=1"},
		{"https://shop.example/hook?k=v", "https://shop.example/hook?k=v&a+b=y+%26%3D%25%C3%A9&z=1"},
		{"https://shop.example/hook?", "https://shop.example/hook?a+b=y+%26%3D%25%C3%A9&z=1"},
	} {
		w.URL = test.url
		shaped, err := s.Shape(w)
		if err != nil {
			t.Fatal(err)
		}
		if shaped.URL != test.want {
			t.Errorf("%s became %s, want %s", test.url, shaped.URL, test.want)
		}
		want := http.Header{
			"X-Text": {"y"}, "X-Number": {"9007199254740993"}, "X-Truth": {"true"}, "X-When": {"2026-11-23T08:30:00.123456Z"},
			"X-Mine": {"new"}, "X-Theirs": {"stays"},
		}
		if fmt.Sprint(shaped.Header) != fmt.Sprint(want) {
			t.Errorf("the headers are %v, want %v", shaped.Header, want)
		}
		if string(shaped.Body) != string(w.Body) || shaped.ContentType != w.ContentType {
			t.Errorf("without a body expression the body became %s: %s", shaped.ContentType, shaped.Body)
		}
	}
	if len(w.Header["X-Mine"]) != 2 || len(w.Header) != 2 {
		t.Errorf("the webhook's own headers were changed: %v", w.Header)
	}
}

// The attempts of an event are shaped one by one, and must not differ; Go walks
// its maps in any order.
func TestEveryAttemptIsTheSame(t *testing.T) {
	s := compile(t, template.Source{
		Body:    `[payload, payload.map(k, k), {"z": 1, "y": 2, "x": payload}.map(k, k), payload.filter(k, payload[k] > 3)]`,
		Headers: map[string]string{"X-Keys": `payload.map(k, k).join("")`},
		Query:   map[string]string{"b": `1`, "a": `2`, "c": `3`},
	})
	w := event(`{"h":1,"g":2,"f":3,"e":4,"d":5,"c":6,"b":7,"a":8}`)
	first, err := s.Shape(w)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		again, err := s.Shape(w)
		if err != nil {
			t.Fatal(err)
		}
		if string(again.Body) != string(first.Body) || again.URL != first.URL || fmt.Sprint(again.Header) != fmt.Sprint(first.Header) {
			t.Fatalf("%s %v %s\nwas %s %v %s", again.URL, again.Header, again.Body, first.URL, first.Header, first.Body)
		}
	}
}

func TestFailures(t *testing.T) {
	const secret = "hunter2"
	payload := `{"s":"` + secret + `","n":1,"list":[1,2],"deep":{"` + secret + `":1}}`
	long := strings.Repeat("x", 9000)
	tests := []struct {
		name   string
		source template.Source
		want   string
	}{
		{"no such key", template.Source{Body: `{"a": payload.customer.name}`}, "body: line 1, column 23: there is no such key as customer; has()"},
		{"no such key, of the payload's choice", template.Source{Body: `payload[payload.s]`}, "body: line 1, column 8: there is no such key; has()"},
		{"a type that does not fit", template.Source{Body: "\n payload.s + 1"}, "body: line 2, column 12: an operator or a function gets a type that it does not know"},
		{"a text that is no number", template.Source{Body: `int(payload.s)`}, "body: line 1, column 4: cannot be evaluated: it gets a value that it cannot use"},
		{"a text that is no moment", template.Source{Body: `timestamp(payload.s)`}, "body: line 1, column 10: cannot be evaluated"},
		{"no such index", template.Source{Body: `payload.list[7]`}, "body: line 1, column 13: there is no such index in the list"},
		{"divided by zero", template.Source{Body: `1 / (payload.n - 1)`}, "divides by zero"},
		{"an overflow", template.Source{Body: `9223372036854775807 + payload.n`}, "a number is too large"},
		{"no number", template.Source{Body: `0.0 / 0.0`}, "body: infinity and NaN cannot be written as JSON"},
		{"a key that is no string", template.Source{Body: `{1: payload.s}`}, "body: a key of a map is no string"},
		{"an optional value", template.Source{Body: `payload.?s`}, "body: an optional value"},
		{"an optional value that is not there", template.Source{Body: `payload.?x.value()`}, "an optional value is not there"},
		{"a type", template.Source{Body: `type(payload)`}, "body: an optional value, a type"},
		{"a substring before the text", template.Source{Body: `payload.s.substring(-1)`}, "a position is less than 0"},
		{"a substring that ends before it begins", template.Source{Body: `payload.s.substring(2, 1)`}, "the second before the first"},
		{"join of numbers", template.Source{Body: `dyn([dyn("a"), dyn(1)]).join("")`}, "join needs a list of strings"},
		{"a header of two lines", template.Source{Headers: map[string]string{"X-A": `payload.s + "\r\nX-B: 1"`}}, "headers.X-A: cannot be sent as a header"},
		{"a header that is a map", template.Source{Headers: map[string]string{"X-A": `payload`}}, "headers.X-A: is neither a string nor a number"},
		{"headers that are too large", template.Source{Headers: map[string]string{"X-A": `"` + long + `"`}}, "headers: makes more than 50 headers or 8 KiB"},
		{"a URL that is too long", template.Source{Query: map[string]string{"a": `"` + long[:2040] + `"`}}, "query.a: makes a URL that is longer"},
		{"a URL that is too long once escaped", template.Source{Query: map[string]string{"a": `"` + strings.Repeat("é", 800) + `"`}}, "query: makes a URL that is longer"},
		{"a parameter that is a list", template.Source{Query: map[string]string{"a": `payload.list`}}, "query.a: is neither a string nor a number"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := event(payload)
			shaped, err := compile(t, test.source).Shape(w)
			if err == nil {
				t.Fatalf("shaped %s: %v: %s", shaped.URL, shaped.Header, shaped.Body)
			}
			if got := err.Error(); !strings.HasPrefix(got, "template: ") || !strings.Contains(got, test.want) || len(got) > 400 {
				t.Errorf("%v\nwant template: … %s", err, test.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells what is in the payload: %v", err)
			}
			if fault, ok := errors.AsType[*template.Fault](err); !ok || fault.Problem == "" {
				t.Errorf("%T is no *template.Fault", err)
			}
		})
	}
}

func TestCompileNamesEveryFault(t *testing.T) {
	_, err := template.Compile(template.Source{
		Body:        "{\n  'a': payloda.x,\n}",
		ContentType: "html",
		Headers:     map[string]string{"Webhook-Id": `id`, "x a": `id`, "Content-Type": `"x"`, "X-A": `id`, "x-a": `id`},
		Query:       map[string]string{"": `id`},
	})
	want := []string{
		"content_type: is not a media type", "headers.Webhook-Id: header Webhook-Id may not be set", "headers.x a: header name",
		"headers.Content-Type: header Content-Type may not be set", "headers.x-a: is there twice", "query.: the name must have",
	}
	requireFaults(t, err, want)

	_, err = template.Compile(template.Source{
		Body:    "{\n  'a': payloda.x,\n}",
		Headers: map[string]string{"X-A": `1 +`, "X-B": `"a" * 2`, "X-C": ``},
		Query:   map[string]string{"q": `body.matches("^(a+)+$")`, "m": `google.protobuf.Value{null_value: 0}`, "s": `"a" + 1`, "w": `@weighed(1)`},
	})
	requireFaults(t, err, []string{
		"body: line 2, column 8: undeclared reference to 'payloda'", "headers.X-A: line 1, column 4: Syntax error", "headers.X-B: line 1, column 5: found no matching overload",
		"headers.X-C: is empty", "query.q: line 1, column 13: undeclared reference to 'matches'", "query.m: makes a message", "query.s: line 1, column 5: found no matching overload",
		"query.w: line 1, column 1: Syntax error",
	})

	_, err = template.Compile(template.Source{})
	requireFaults(t, err, []string{"it has no expression"})
}

func requireFaults(t *testing.T, err error, want []string) {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%v: want %d faults", err, len(want))
	}
	for _, fault := range joined.Unwrap() {
		if _, ok := errors.AsType[*template.Fault](fault); !ok || len(fault.Error()) > 400 {
			t.Errorf("%T: %v", fault, fault)
		}
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), "template: "+text) {
			t.Errorf("no fault %q", text)
		}
	}
	if len(joined.Unwrap()) != len(want) {
		t.Errorf("%d faults, want %d:\n%v", len(joined.Unwrap()), len(want), err)
	}
}

func TestParse(t *testing.T) {
	s, err := template.Parse([]byte(` {"body": "payload", "content_type": "a/b", "headers": {"X-A": "id"}, "query": {"q": "id"}} `))
	if err != nil || s.Body != "payload" || s.ContentType != "a/b" || s.Headers["X-A"] != "id" || s.Query["q"] != "id" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, text := range []string{``, `[]`, `{"body": 1}`, `{"bdoy": "x"}`, `{"body": "x"} {}`, `{"headers": ["x"]}`, `{"body": "x"`} {
		if s, err := template.Parse([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "template: it cannot be read: ") {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
	}
}

func BenchmarkShape(b *testing.B) {
	payload := `{"order":{"id":9007199254740993,"customer":{"name":"Ada Lovelace","email":"ada@example.com"},"items":[` +
		strings.TrimSuffix(strings.Repeat(`{"sku":"AB-1234","title":"A thing of some kind","quantity":2,"price":19.95},`, 12), ",") + `]}}`
	b.Logf("a payload of %d bytes", len(payload))
	shaper := compile(b, template.Source{Body: `{
		"text": "Order " + string(payload.order.id) + " by " + payload.order.customer.name,
		"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "*New order*\n" + payload.order.items.map(i, string(i.quantity) + " × " + i.title).join("\n")}}]
	}`})
	w := event(payload)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := shaper.Shape(w); err != nil {
			b.Fatal(err)
		}
	}
}
