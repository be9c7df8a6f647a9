package template_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/template"
)

// FuzzShape holds that no template and no payload make relay panic, hang or send
// what it must not: whatever comes out is within the limits of package relay and
// the same every time, and an error tells nothing of the webhook.
func FuzzShape(f *testing.F) {
	for _, body := range []string{
		`payload`, `{"text": payload.a + string(payload.n), ?"b": payload.?b}`, `payload.map(k, {k: payload[k]}).filter(m, m != {})`,
		`body.split(",").join("-").replace("a", "b").substring(1, 9)`, `[accepted, accepted + duration("1h"), accepted.getHours("UTC")]`,
		`[["x"]].map(a, [a, a]).exists(a, a in [a])`, `toJson(payload).truncate(100)`, `payload.all(i, i > 1 && i < 3.5) ? b"\xff" : "x"`,
		`{"body": "payload", "headers": {"X-A": "body", "X-B": "payload.n"}, "query": {"q": "body", "é ": "id"}}`,
		`{"headers": {"X-A": "string(payload)"}, "content_type": "text/html"}`,
	} {
		for _, payload := range []string{`{"a":"x","n":1}`, `[1,2,{"k":[null,true,1e9,18446744073709551615]}]`, `a,b,c`, "", `"` + "\r\nX: \xff" + `"`} {
			f.Add(body, payload)
		}
	}
	const marker = "hunter2"
	f.Fuzz(func(t *testing.T, source, payload string) {
		s, err := template.Parse([]byte(source))
		if err != nil {
			s = template.Source{Body: source}
		}
		begun := time.Now()
		shaper, err := template.Compile(s)
		if err != nil {
			if _, ok := errors.AsType[*template.Fault](err); !ok {
				t.Fatalf("%v is no fault", err)
			}
			return
		}
		w := event(payload)
		w.Tenant = marker
		shaped, err := shaper.Shape(w)
		again, errAgain := shaper.Shape(w)
		if took := time.Since(begun); took > mostTime {
			t.Errorf("took %v", took)
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "template: ") || len(err.Error()) > 1000 || errAgain == nil || err.Error() != errAgain.Error() {
				t.Errorf("the error is %v, and again %v", err, errAgain)
			}
			if strings.Contains(err.Error(), marker) && !strings.Contains(source, marker) {
				t.Errorf("the error tells of the webhook: %v", err)
			}
			return
		}
		if string(shaped.Body) != string(again.Body) || shaped.URL != again.URL {
			t.Errorf("%s %s\nand again %s %s", shaped.URL, shaped.Body, again.URL, again.Body)
		}
		requireSendable(t, shaped, s)
	})
}

func requireSendable(t *testing.T, w relay.Webhook, s template.Source) {
	t.Helper()
	if len(w.Body) > relay.MaxBody {
		t.Errorf("a body of %d bytes", len(w.Body))
	}
	if s.Body != "" && w.ContentType == "application/json" && s.ContentType == "" && !json.Valid(w.Body) {
		t.Errorf("no JSON: %q", w.Body)
	}
	if relay.CheckRequestHeader("X", w.ContentType) != nil {
		t.Errorf("the content type is %q", w.ContentType)
	}
	for name, values := range w.Header {
		for _, v := range values {
			if err := relay.CheckRequestHeader(name, v); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := relay.CheckURL(w.URL); err != nil {
		t.Errorf("%s: %v", w.URL, err)
	}
}
