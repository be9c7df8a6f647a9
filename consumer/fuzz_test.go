package consumer

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
)

// FuzzDecode holds that no message makes relay panic, that every message is
// either refused with a reason or within its bounds, and that an event which
// waits somewhere is the same when it comes back.
func FuzzDecode(f *testing.F) {
	f.Add("", "", "", "", `{"url":"https://example.com/","payload":{"a":1},"headers":{"X":["1"]}}`)
	f.Add("Relay-Url", "https://example.com/", "Relay-Header-X", "1", "body")
	f.Add("Relay-Metadata", "{}", "Relay-Id", "a", `{"url":"https://example.com/","scheduled_at":"2026-11-24T12:00:00Z"}`)
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2, body string) {
		h := nats.Header{name1: {value1}}
		h[name2] = append(h[name2], value2)
		w, err := decodeTest(h, body)
		if w.ID == "" || w.ExpiresAt.IsZero() {
			t.Errorf("id %q, expires %v", w.ID, w.ExpiresAt)
		}
		again, sameErr := decodeTest(h, body)
		if diff := cmp.Diff(w, again); diff != "" || (err == nil) != (sameErr == nil) || err != nil && err.Error() != sameErr.Error() {
			t.Errorf("read once more it is another: %v, %v, %s", err, sameErr, diff)
		}
		if err != nil {
			checkRefused(t, w, err)
			return
		}
		checkRead(t, w, body)
		out := copyOf(subjectDue+"abc", h, []byte(body), meta{key: testKey, id: w.ID, subject: SubjectOutbound})
		m := readMeta(out.Subject, out.Header)
		back, err := decode(m, out.Header, out.Data)
		back.ExpiresAt = expiry(m, back, relay.Endpoint{}, 72*time.Hour)
		if diff := cmp.Diff(w, back); diff != "" || err != nil {
			t.Errorf("what waited comes back as another: %v, %s", err, diff)
		}
	})
}

func checkRefused(t *testing.T, w relay.Webhook, err error) {
	t.Helper()
	if reason := invalidReason(err); len(reason) > maxReason+len("…") || strings.ContainsAny(reason, "\r\n\x00") || !utf8.ValidString(reason) {
		t.Errorf("the reason %q is not fit for a header", reason)
	}
	if _, bad := relay.CheckURL(w.URL); w.URL != "" && bad != nil && strings.ContainsAny(w.URL, "?#") {
		t.Errorf("a refused URL keeps its query: %q", w.URL)
	}
}

// checkRead holds a webhook that was read without a fault to what the other
// packages, Postgres and HTTP may rely on.
func checkRead(t *testing.T, w relay.Webhook, body string) {
	t.Helper()
	if len(w.URL) > relay.MaxURL || len(w.Metadata) > relay.MaxMetadata || w.MaxAttempts > relay.MaxMaxAttempts || !idPattern.MatchString(w.ID) {
		t.Errorf("out of bounds: %+v", w)
	}
	for _, s := range []string{w.Tenant, w.EventType, w.EndpointName, w.ContentType, w.IdempotencyKey} {
		if len(s) > relay.MaxName || !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			t.Errorf("no name: %q", s)
		}
	}
	if !bytes.Contains([]byte(body), w.Body) || !bytes.Contains([]byte(body), w.Metadata) && !strings.HasPrefix(string(w.Metadata), "{") {
		t.Errorf("the body %q is not from %q", w.Body, body)
	}
	for _, h := range []http.Header{w.Header, w.Trace} {
		for name, values := range h {
			for _, v := range values {
				if err := relay.CheckRequestHeader(name, v); err != nil || len(v) > relay.MaxHeaderBytes {
					t.Errorf("header %q: %q: %v", name, v, err)
				}
			}
		}
	}
}

// FuzzMeta holds that whatever stands in relay's own headers is read without a
// panic and within what Postgres can hold, and that a copy of a copy says the
// same.
func FuzzMeta(f *testing.F) {
	f.Add(subjectDue+"abc", "1795461003021431-38", "2", "evt", "webhooks.outbound.acme", "2026-11-24T12:00:00Z", "1", "because", "abc")
	f.Add(subjectDue+"abc", "-1--1", "-7", "", "", "9999-12-31T23:59:59Z", "", "", "")
	f.Add(SubjectOutbound, "1-1", "7", "stolen", "webhooks.due.x", "", "1", "", "")
	f.Fuzz(func(t *testing.T, subject, key, generation, id, from, replayed, lane, bury, letter string) {
		h := nats.Header{
			metaKey: {key}, metaGeneration: {generation}, metaID: {id}, metaSubject: {from}, metaReplayed: {replayed}, metaLane: {lane},
			metaBury: {bury}, metaLetter: {letter}, "X-Own": {key},
		}
		m := readMeta(subject, h)
		if strings.HasPrefix(subject, SubjectOutbound) {
			if diff := cmp.Diff(meta{subject: subject}, m, cmp.AllowUnexported(meta{})); diff != "" {
				t.Errorf("%s believes a producer: %s", subject, diff)
			}
			return
		}
		if m.generation < 0 || m.generation > 1<<31-1 || int64(m.key.Seq) < 0 || m.key.Time.Year() > 9999 {
			t.Errorf("out of bounds: %+v", m)
		}
		if m.key.Seq == 0 {
			return // it gets a key of its own
		}
		m.replayed = m.replayed.UTC().Truncate(time.Second)
		out := copyOf(subject, h, nil, m)
		if out.Header.Get("X-Own") != key {
			t.Errorf("the producer's header is %q", out.Header)
		}
		if diff := cmp.Diff(m, readMeta(subject, out.Header), cmp.AllowUnexported(meta{})); diff != "" {
			t.Errorf("what was written is not what is read: %s", diff)
		}
	})
}

// FuzzRaw holds the raw form to the same: its fields are headers, of any number,
// under any capitals, as any client may write them.
func FuzzRaw(f *testing.F) {
	f.Add("Relay-Url: https://example.com/\nRelay-Header-X-A: 1\nrelay-header-x-a: 2\nRelay-Metadata: {}", []byte("body"))
	f.Add("relay-URL: https://example.com/\nRelay-Scheduled-At: 2026-11-24T12:00:00Z\nRelay-Max-Attempts: 07\nTraceparent: x", []byte{})
	f.Add("Relay-Endpoint: orders\nRelay-Url: https://a\nRelay-Header-: x\nRelay-Header-Host: x\nRelay-Meta-Key: 1-1\nNats-Msg-Id: a b", []byte("{}"))
	f.Add("Relay-Url: https://example.com/\nRelay-Id: \xff\nRelay-Content-Type: text/plain; charset=\"\nRelay-Tenant: \x00\nStatus: 100", []byte("\x00\xff"))
	f.Fuzz(func(t *testing.T, block string, body []byte) {
		h := nats.Header{}
		for line := range strings.SplitSeq(block, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			h[name] = append(h[name], value)
		}
		w, err := decodeTest(h, string(body))
		if w.ID == "" || w.ExpiresAt.IsZero() {
			t.Errorf("id %q, expires %v", w.ID, w.ExpiresAt)
		}
		if err != nil {
			checkRefused(t, w, err)
			return
		}
		checkRead(t, w, string(body))
		out := copyOf(subjectDue+"abc", h, body, meta{key: testKey, id: w.ID, subject: SubjectOutbound})
		m := readMeta(out.Subject, out.Header)
		back, err := decode(m, out.Header, out.Data)
		back.ExpiresAt = expiry(m, back, relay.Endpoint{}, 72*time.Hour)
		w.Again, back.Again = false, false
		if diff := cmp.Diff(w, back, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Errorf("what waited comes back as another: %v, %s", err, diff)
		}
	})
}
