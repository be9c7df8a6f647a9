package endpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever a request says: there are settings or there are faults; settings come
// back from the table as they went in, are looked at without a panic, and are shown
// without a secret.
func FuzzSettings(f *testing.F) {
	for _, raw := range []string{
		`{"name":"a","url":"https://a.example/?q=1","secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",{"secret":"x","until":"2026-11-24T12:00:00Z"}],"headers":{"X":"y"}}`,
		`{"name":"a","url":"https://a.example/","basic":{"user":"u","password":"p"},"content_type":"text/csv","http2":true,"ca":"x","certificate":"y","key":"z"}`,
		`{"tenant":"t","name":"a","timeout":"9s","rate":1e3,"burst":5,"schedule":["1s","2d"],"success_codes":[200,"202-204"],"heed":true,"template":{"a":[1]}}`,
		`{"name":"a","name":"b","colour":1,"timeout":9,"secrets":[{"secret":""}],"headers":[],"revision":-1,"query":"x"}`,
		`{"bearer":"\ud800","http2":"2","success_codes":null,"schedule":[null]} {}`,
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := readSettings(raw)
		if err != nil {
			if text := err.Error(); text == "" || !utf8.ValidString(text) || len(text) > 20_000 {
				t.Errorf("%d bytes: %.200q", len(text), text)
			}
			return
		}
		stored, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("%q cannot be written: %v", raw, err)
		}
		back, err := readStored(stored)
		if err != nil {
			t.Fatalf("%s cannot be read again: %v", stored, err)
		}
		if again, err := json.Marshal(back); err != nil || !bytes.Equal(again, stored) {
			t.Errorf("%s came back as %s, %v", stored, again, err)
		}
		_ = check(s.endpoint())
		shown := s.shown()
		_ = shown.secrets(func(field string, value *secret) error {
			if *value != hidden {
				t.Errorf("%s is shown", field)
			}
			return nil
		})
	})
}

func TestARequestOfFaultsIsNotReadToItsEnd(t *testing.T) {
	var raw bytes.Buffer
	raw.WriteString("{")
	for i := range 50_000 {
		fmt.Fprintf(&raw, `"f%d":1,`, i)
	}
	raw.WriteString(`"name":"a"}`)
	_, err := readSettings(raw.Bytes())
	if err == nil || len(err.Error()) > 20_000 || !strings.HasSuffix(err.Error(), "relay has not looked further") {
		t.Errorf("%d bytes of faults", len(fmt.Sprint(err)))
	}
}
