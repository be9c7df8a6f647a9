package consumer

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
)

var (
	acceptedAt = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	testKey    = relay.Key{Time: acceptedAt, Seq: 7}
)

func decodeTest(h nats.Header, body string) (relay.Webhook, error) {
	m := meta{key: testKey, subject: SubjectOutbound}
	w, err := decode(m, h, []byte(body))
	w.ExpiresAt = expiry(m, w, relay.Endpoint{}, 72*time.Hour)
	return w, err
}

func TestDecodeEnvelope(t *testing.T) {
	got, err := decodeTest(nats.Header{"traceparent": {"00-abc"}}, `{
		"url": "https://example.com/hook?a=1", "payload": {"n":  1, "x": "<é>"}, "method": "PUT",
		"headers": {"X-One": "1", "X-Many": ["a", "b"]}, "content_type": "application/cloudevents+json",
		"event_type": "order.paid", "id": "evt_1", "max_attempts": 3, "tenant": "acme",
		"scheduled_at": "2026-11-24T12:00:00+01:00", "expires_at": "2026-11-30T00:00:00Z",
		"idempotency_key": "order 17", "metadata": {"source": "shop"}}`)
	if err != nil {
		t.Fatal(err)
	}
	want := relay.Webhook{
		Key: testKey, ID: "evt_1", Tenant: "acme", EventType: "order.paid", URL: "https://example.com/hook?a=1",
		Method: "PUT", ContentType: "application/cloudevents+json",
		Header: http.Header{"X-One": {"1"}, "X-Many": {"a", "b"}}, Trace: http.Header{"Traceparent": {"00-abc"}},
		Body: []byte(`{"n":  1, "x": "<é>"}`), MaxAttempts: 3,
		ScheduledAt: time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC), ExpiresAt: time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC),
		IdempotencyKey: "order 17", Metadata: []byte(`{"source": "shop"}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got", diff)
	}
}

func TestDecodeRaw(t *testing.T) {
	body := "\x00\xff {{ not JSON"
	got, err := decodeTest(nats.Header{
		"relay-url": {"http://example.com/"}, "Relay-Content-Type": {"application/octet-stream"}, "Relay-Max-Attempts": {"9"},
		"Relay-Header-X-Many": {"a", "b"}, "Relay-Event-Type": {"blob"}, "Relay-Metadata": {`{"a":1}`},
		"Nats-Msg-Id": {"order-17"}, "Relay-Meta-Generation": {"99"}, "X-Own": {"kept in the letter, not sent"},
	}, body)
	if err != nil {
		t.Fatal(err)
	}
	want := relay.Webhook{
		Key: testKey, ID: "order-17", EventType: "blob", URL: "http://example.com/", Method: "POST",
		ContentType: "application/octet-stream", Header: http.Header{"X-Many": {"a", "b"}}, Body: []byte(body),
		MaxAttempts: 9, ExpiresAt: acceptedAt.Add(72 * time.Hour), Metadata: []byte(`{"a":1}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got", diff)
	}
}

func TestWebhookIDComesFrom(t *testing.T) {
	const envelope = `{"url":"https://example.com/"%s}`
	for name, c := range map[string]struct {
		header nats.Header
		field  string
		want   string
	}{
		"the envelope before all":   {nats.Header{"Relay-Id": {"b"}, "Nats-Msg-Id": {"c"}}, `,"id":"a"`, "a"},
		"Relay-Id of a dead letter": {nats.Header{"Relay-Id": {"b"}, "Nats-Msg-Id": {"c"}}, "", "b"},
		"Nats-Msg-Id where it fits": {nats.Header{"Nats-Msg-Id": {"c"}}, "", "c"},
		"the key where it does not": {nats.Header{"Nats-Msg-Id": {"c.d"}}, "", "evt_" + testKey.String()},
		"the key where nothing is":  {nil, "", "evt_" + testKey.String()},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := decodeTest(c.header, strings.Replace(envelope, "%s", c.field, 1))
			if err != nil || w.ID != c.want {
				t.Errorf("id %q, error %v; want %q", w.ID, err, c.want)
			}
		})
	}
}

func TestDecodeNamesEveryFault(t *testing.T) {
	_, err := decodeTest(nil, `{"url": "ftp://example.com/", "id": "a.b", "max_attempts": 0, "timeuot": 3,
		"headers": {"Host": "x", "Transfer-Encoding": "chunked", "X": 1}, "scheduled_at": "tomorrow", "metadata": [], "method": "BREW",
		"tenant": "a", "tenant": "b", "maxattempts": 3}`)
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{
		"url: ", "id: want 1 to 256", "max_attempts: want a whole number from 1 to 100, not 0", "timeuot: relay knows no such field",
		"header Host", "header Transfer-Encoding", "headers.X: neither a string nor a list", "scheduled_at: want RFC 3339",
		"metadata: not a JSON object", "method: want one of", "tenant: stands there twice", "did you mean max_attempts?",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the faults do not say %q:\n%v", want, err)
		}
	}
}

func TestDecodeFaults(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	many := nats.Header{"Relay-Url": {"https://example.com/"}}
	for i := range 51 {
		many["Relay-Header-X-"+string(rune('A'+i/26))+string(rune('a'+i%26))] = []string{"1"}
	}
	for name, c := range map[string]struct {
		header nats.Header
		body   string
		want   string
	}{
		"empty":                       {nil, "", "neither an envelope"},
		"no JSON":                     {nil, "hello", "neither an envelope"},
		"a list":                      {nil, "[1]", "neither an envelope"},
		"cut off":                     {nil, `{"url":"https://example.com/"`, "envelope"},
		"cut off in a field":          {nil, `{"url":"https://exam`, "field url"},
		"something behind":            {nil, `{"url":"https://example.com/"} {}`, "something follows"},
		"no url":                      {nil, `{"payload":1}`, "url: missing"},
		"null url":                    {nil, `{"url":null}`, "url: missing"},
		"url and endpoint":            {nil, `{"url":"https://example.com/","endpoint":"shop"}`, "not both"},
		"url of a wrong type":         {nil, `{"url":7}`, "url: not a string"},
		"url too long":                {nil, `{"url":"https://example.com/` + long(2048) + `"}`, "more than 2048"},
		"scheme file":                 {nil, `{"url":"file:///etc/passwd"}`, "url: "},
		"NUL in tenant":               {nil, `{"url":"https://example.com/","tenant":"a\u0000"}`, "control characters"},
		"empty tenant":                {nil, `{"url":"https://example.com/","tenant":""}`, "tenant: empty"},
		"id of 257":                   {nil, `{"url":"https://example.com/","id":"` + long(257) + `"}`, "id: want 1 to 256"},
		"max_attempts 101":            {nil, `{"url":"https://example.com/","max_attempts":101}`, "from 1 to 100"},
		"max_attempts 1e1":            {nil, `{"url":"https://example.com/","max_attempts":1e1}`, "from 1 to 100"},
		"scheduled 31 days ahead":     {nil, `{"url":"https://example.com/","scheduled_at":"2026-12-24T12:00:01Z"}`, "30 days"},
		"scheduled in the year 9999":  {nil, `{"url":"https://example.com/","scheduled_at":"9999-12-31T23:59:59Z"}`, "30 days"},
		"expires before scheduled":    {nil, `{"url":"https://example.com/","scheduled_at":"2026-11-25T00:00:00Z","expires_at":"2026-11-24T00:00:00Z"}`, "not after"},
		"metadata too large":          {nil, `{"url":"https://example.com/","metadata":{"a":"` + long(8200) + `"}}`, "more than 8192"},
		"raw field on an envelope":    {nats.Header{"Relay-Tenant": {"a"}}, `{"url":"https://example.com/"}`, "belongs to the raw form"},
		"unknown raw header":          {nats.Header{"Relay-Url": {"https://example.com/"}, "Relay-Color": {"red"}}, "", "Relay-Color: relay knows no such header"},
		"raw payload":                 {nats.Header{"Relay-Url": {"https://example.com/"}, "Relay-Payload": {"red"}}, "", "no such header"},
		"51 request headers":          {many, "", "51, more than 50"},
		"webhook-id set by hand":      {nats.Header{"Relay-Url": {"https://example.com/"}, "Relay-Header-Webhook-Id": {"x"}}, "", "header Webhook-Id"},
		"Idempotency-Key as a header": {nats.Header{"Relay-Url": {"https://example.com/"}, "Relay-Header-Idempotency-Key": {"x"}}, "", "header Idempotency-Key"},
		"64 KiB of headers":           {nats.Header{"Relay-Url": {"https://example.com/"}, "X": {long(64 << 10)}}, "", "message headers"},
		"headers too large":           {nats.Header{"Relay-Url": {"https://example.com/"}, "Relay-Header-X": {long(9000)}}, "", "more than 8192"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeTest(c.header, c.body)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v; want %q", err, c.want)
			}
		})
	}
}

func TestDecodeAccepts(t *testing.T) {
	for name, c := range map[string]struct {
		header nats.Header
		body   string
		want   string // the HTTP body
	}{
		"no payload":             {nil, `{"url":"https://example.com/"}`, ""},
		"payload null":           {nil, `{"url":"https://example.com/","payload":null}`, "null"},
		"payload a string":       {nil, `{"url":"https://example.com/","payload":"a\u0000{{x}}"}`, `"a\u0000{{x}}"`},
		"payload with its space": {nil, "{\"url\":\"https://example.com/\",\"payload\": [1,\n 2 ] }", "[1,\n 2 ]"},
		"payload 1e400":          {nil, `{"url":"https://example.com/","payload":1e400}`, "1e400"},
		"scheduled in the past":  {nil, `{"url":"https://example.com/","scheduled_at":"1999-01-01T00:00:00Z"}`, ""},
		"empty raw body":         {nats.Header{"Relay-Url": {"https://example.com/"}}, "", ""},
		"the first of two":       {nats.Header{"Relay-Url": {"https://example.com/", "https://other.example/"}}, "x", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := decodeTest(c.header, c.body)
			if err != nil || string(w.Body) != c.want || !strings.HasPrefix(w.URL, "https://example.com") {
				t.Errorf("body %q of %s, error %v; want %q", w.Body, w.URL, err, c.want)
			}
		})
	}
}

// A producer may write what it likes into relay's own headers: they count only
// where producers may not publish.
func TestForgedMetaHeadersAreIgnored(t *testing.T) {
	forged := nats.Header{metaKey: {"1-1"}, metaGeneration: {"7"}, metaID: {"stolen"}, metaLane: {"1"}, metaReplayed: {"2026-01-01T00:00:00Z"}}
	for _, subject := range []string{SubjectOutbound, SubjectOutbound + ".acme"} {
		if diff := cmp.Diff(meta{subject: subject}, readMeta(subject, forged), cmp.AllowUnexported(meta{})); diff != "" {
			t.Errorf("%s believes a producer: %s", subject, diff)
		}
	}
	if m := readMeta(subjectDue+"abc", forged); m.key.Seq != 1 || m.generation != 7 || m.id != "stolen" || !m.fromLane {
		t.Errorf("relay does not believe itself: %+v", m)
	}
}

func TestCopyKeepsTheProducersHeadersAndBody(t *testing.T) {
	h := nats.Header{
		"X-Many": {"a", "b"}, "x-lower": {"c"}, "Relay-Url": {"https://example.com/"}, "Nats-Msg-Id": {"m"}, "nats-rollup": {"all"},
		"Relay-Meta-Lane": {"1"}, "Nats-Expected-Stream": {"X"},
	}
	out := copyOf("webhooks.due.abc", h, []byte("\x00{{x}}"), meta{key: testKey, generation: 2, id: "evt", subject: "webhooks.outbound.x"})
	want := nats.Header{
		"X-Many": {"a", "b"}, "x-lower": {"c"}, "Relay-Url": {"https://example.com/"}, metaKey: {testKey.String()},
		metaGeneration: {"2"}, metaID: {"evt"}, metaSubject: {"webhooks.outbound.x"},
	}
	if diff := cmp.Diff(want, out.Header); diff != "" {
		t.Error("-want +got", diff)
	}
	again := readMeta(out.Subject, out.Header)
	if diff := cmp.Diff(meta{key: testKey, generation: 2, id: "evt", subject: "webhooks.outbound.x", copied: true}, again, cmp.AllowUnexported(meta{})); diff != "" {
		t.Error("what was written is not what is read", diff)
	}
}
