package consumer_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go/micro"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// TestHostileRequestsOfOperators asks relay.dead and relay.lanes what means nothing,
// or more than it should: each is answered in words for people, and no letter is
// moved.
func TestHostileRequestsOfOperators(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	r.Receiver.Always(relaytest.Status(http.StatusNotFound))
	r.RequireDead(r.Publish(map[string]any{"url": r.Receiver.URL, "id": "kept"}))
	texts := map[string]string{
		"nothing": "", "spaces": " \t\r\n", "a wildcard": "*", "every subject": ">", "a subject": "a.b", "NUL": "a\x00b", "ESC": "\x1b[2J", "no UTF-8": "\xff\xfe",
		"a line break": "a\nall", "a megabyte": strings.Repeat("x", 1_000_000), "SQL": "';DELETE", "a path": "../../all", "JSON": `{"endpoint":"all"}`,
		"a URL inside": "http://user:canary@169.254.169.254/?canary", "a URL that is none": "://", "a URL with a zone": "http://[fe80::1%25lo]/",
	}
	spans := map[string]string{
		"a number below zero": "-1", "backwards": "9-1", "a range without an end": "1-", "a number beyond 64 bits": "99999999999999999999", "two ranges": "1-1 1-1",
		"all and more": "all everything", "keep-expiry alone": "keep-expiry", "a number with a sign": "+1", "hexadecimal digits": "0x1", "digits of another script": "١",
		"beyond the last": "1000000-18446744073709551615", "the last number there is": "18446744073709551615",
	}
	ages := map[string]string{"no time": "x", "less than nothing": "-1h", "none": "0s", "ages": "9999999h", "a time without a unit": "5"}
	for _, subject := range []string{consumer.SubjectReplay, consumer.SubjectDrain, consumer.SubjectExpire, consumer.SubjectBury} {
		for name, text := range texts {
			t.Run(subject+" "+name, func(t *testing.T) { requireNothingDone(t, r, subject, text) })
		}
	}
	for name, text := range spans {
		t.Run(consumer.SubjectReplay+" "+name, func(t *testing.T) { requireNothingDone(t, r, consumer.SubjectReplay, text) })
	}
	for name, age := range ages {
		t.Run(consumer.SubjectExpire+" "+name, func(t *testing.T) { requireNothingDone(t, r, consumer.SubjectExpire, "nobody "+age) })
	}
	t.Run(consumer.SubjectJob+" NUL and ESC", func(t *testing.T) { requireNothingDone(t, r, consumer.SubjectJob, "\x00\x1b[2J") })

	if n := stored(t, r, consumer.StreamDead); n != 1 {
		t.Errorf("%d letters are left of one", n)
	}
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	if job := replay(t, r, "all"); job.Replayed != 1 { // it still works
		t.Errorf("%+v", job)
	}
	r.RequireDelivered("kept")
}

// requireNothingDone asks for what is to be refused, or to come to nothing.
func requireNothingDone(t *testing.T, r *relaytest.Relay, subject, text string) {
	t.Helper()
	m, err := r.Conn.Request(subject, []byte(text), relaytest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	switch code := m.Header.Get(micro.ErrorCodeHeader); code {
	case "400", "404":
		if said := string(m.Data); said == "" || len(said) > 500 || !utf8.ValidString(said) || strings.ContainsFunc(said, unicode.IsControl) || strings.Contains(said, "canary") {
			t.Errorf("refused with %d bytes: %.500q", len(said), said)
		}
	case "":
		var job consumer.Job
		if err := json.Unmarshal(m.Data, &job); err != nil || job.Replayed+job.Failed+job.Buried != 0 {
			t.Errorf("did %s, %v", m.Data, err)
		}
	default:
		t.Errorf("%s: %.500q", code, m.Data)
	}
}
