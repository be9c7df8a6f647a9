package audit

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/relaywebhooks/relay/migrations"
)

func TestSchemaVersion(t *testing.T) {
	if latest := migrations.Latest(); latest != schemaVersion {
		t.Errorf("the migrations lead to version %d, this package asks for %d", latest, schemaVersion)
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "plain", "caf\xc3\xa9", "\xff\xfe", "a\x00b", strings.Repeat("é", 300)} {
		f.Add(s, 16)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(limit, 0)
		got := text(s, limit)
		if !utf8.ValidString(got) || strings.ContainsRune(got, 0) {
			t.Errorf("text(%q) = %q", s, got)
		}
		if utf8.ValidString(s) && !strings.ContainsRune(s, 0) && len(s) <= limit && got != s {
			t.Errorf("text(%q) = %q", s, got)
		}
		if p := plain(s, limit); len(p) > limit || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("plain(%q) = %q", s, p)
		}
	})
}

func TestJSONText(t *testing.T) {
	tests := map[string]string{
		``:                               ``,
		`nonsense`:                       ``,
		`{"a":1}`:                        `{"a":1}`,
		`{"a":"\u0041"}`:                 `{"a":"A"}`,
		`{"a\u0000":["\u0000",{"b":1}]}`: `{"a�":["�",{"b":1}]}`,
		`{"a":"\ud800"}`:                 `{"a":"�"}`,
		"{\"a\":\"\xff\"}":               `{"a":"�"}`,
		`{"n":12345678901234567890.5,"u":"\u00e9"}`: `{"n":12345678901234567890.5,"u":"é"}`,
	}
	for raw, want := range tests {
		if got := jsonText([]byte(raw)); got != want {
			t.Errorf("jsonText(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestHeaderJSON(t *testing.T) {
	got := headerJSON(http.Header{
		"X-Two": {"a", "b"}, "X-Odd": {"\x00\xff"}, "authorization": {"Bearer secret"}, "Set-Cookie": {"id=secret"},
		"X-Acme-Token": {"secret"}, "x-apikey": {"secret"},
	})
	want := `{"Set-Cookie":["[hidden]"],"X-Acme-Token":["[hidden]"],"X-Odd":["��"],"X-Two":["a","b"],"authorization":["[hidden]"],"x-apikey":["[hidden]"]}`
	if got != want || !json.Valid([]byte(got)) {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestShowURL(t *testing.T) {
	for raw, want := range map[string][2]string{
		"https://u:secret@h:1/p?q=secret#f": {"https://h:1/p", "h:1"},
		"https://h/p":                       {"https://h/p", "h"},
		"://\x00":                           {"://\uFFFD", ""},
	} {
		if u, host := showURL(raw); u != want[0] || host != want[1] {
			t.Errorf("showURL(%q) = %q, %q", raw, u, host)
		}
	}
}
