package consumer_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/relaywebhooks/relay"
)

const notRead = "neither an envelope"

// envelopeCases are messages that are, or should be, one JSON object.
func envelopeCases() []producer {
	const begin = `{"url":"$URL","payload":`
	full := `{"url":"$URL","payload":"` // filled to the limit below
	room := relay.MaxBody - len(strings.ReplaceAll(full, "$URL", "http://127.0.0.1:00000/case000")) - 2 - len(pubHeader)
	long := strings.Repeat("x", room-200)
	return []producer{
		{name: "no payload", body: `{"url":"$URL"}`, want: sent("")},
		{name: "payload null", body: begin + `null}`, want: sent("null")},
		{name: "payload with its spaces and its own spelling", body: begin + " [1,\n 2e0,\t\"\\u0041\"] }", want: sent("[1,\n 2e0,\t\"\\u0041\"]")},
		{name: "payload with a template", body: begin + `"{{.x}}"}`, want: sent(`"{{.x}}"`)},
		{name: "payload with NUL and half a surrogate pair, escaped", body: begin + `"\u0000\ud800"}`, want: sent(`"\u0000\ud800"`)},
		{name: "payload in invalid UTF-8", body: begin + "\"\xff\xfe\"}", want: sent("\"\xff\xfe\"")},
		{name: "payload with a number that nothing holds", body: begin + `1e400000}`, want: sent("1e400000")},
		{name: "payload with keys twice", body: begin + `{"a":1,"a":2}}`, want: sent(`{"a":1,"a":2}`)},
		{name: "payload of nearly 1 MiB", body: begin + `"` + long + `"}`, want: sent(`"` + long + `"`)},
		{name: "payload nested 9,000 deep", body: begin + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}", want: sent(strings.Repeat("[", 9000) + strings.Repeat("]", 9000))},
		{name: "payload nested 500,000 deep", body: begin + strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000) + "}", want: dead("envelope: field payload")},
		{name: "payload that is an envelope", body: begin + `{"url":"http://127.0.0.1:1/"}}`, want: sent(`{"url":"http://127.0.0.1:1/"}`)},
		{name: "payload twice", body: `{"url":"$URL","payload":1,"payload":2}`, want: dead("payload: stands there twice")},
		{name: "payload that is no JSON", body: begin + `{{}}`, want: dead("envelope: ")},
		{name: "E1 nothing at all", body: "", want: dead(notRead)},
		{name: "spaces only", body: " \r\n\t", want: dead(notRead)},
		{name: "E9 text", body: "hello", want: dead(notRead)},
		{name: "E9 braces of a template", body: "{{", want: dead("envelope: ")},
		{name: "E9 a byte order mark before the envelope", body: "\xef\xbb\xbf" + begin + "1}", want: dead("byte order mark")},
		{name: "UTF-16", body: "\xff\xfe{\x00\"\x00", want: dead("UTF-16")},
		{name: "gzip", body: "\x1f\x8b\x08\x00\x00", want: dead("gzip")},
		{name: "E9 invalid UTF-8", body: "\xc3\x28", want: dead(notRead)},
		{name: "a list", body: `[{"url":"$URL"}]`, want: dead(notRead)},
		{name: "a string that holds an envelope", body: `"{\"url\":\"$URL\"}"`, want: dead(notRead)},
		{name: "null", body: "null", want: dead(notRead)},
		{name: "an empty object", body: "{}", want: dead("url: missing")},
		{name: "two envelopes", body: `{"url":"$URL"}` + "\n" + `{"url":"$URL"}`, want: dead("something follows")},
		{name: "NUL after the envelope", body: `{"url":"$URL"}` + "\x00", want: dead("something follows")},
		{name: "cut off in a field", body: `{"url":"$URL","payl`, want: dead("envelope: ")},
		{name: "cut off in the payload", body: begin + `{"a":`, want: dead("envelope: field payload")},
		{name: "single quotes", body: `{'url':'$URL'}`, want: dead("envelope: ")},
		{name: "a comma too many", body: `{"url":"$URL",}`, want: dead("envelope: ")},
		{name: "a comment", body: `{"url":"$URL" /* here */}`, want: dead("envelope: ")},
		{name: "NaN", body: begin + `NaN}`, want: dead("envelope: field payload")},
		{name: "an unknown field", body: `{"url":"$URL","retries":3}`, want: dead("retries: relay knows no such field")},
		{name: "a field in capitals", body: `{"URL":"$URL"}`, want: dead("did you mean url?")},
		{name: "a field in camel case", body: `{"url":"$URL","maxAttempts":3}`, want: dead("did you mean max_attempts?")},
		{name: "a field with escapes in its name", body: `{"\u0075rl":"$URL"}`, want: sent("")},
		{name: "a field with ESC in its name", body: `{"url":"$URL","\u001b[2J":1}`, want: dead("�[2J: relay knows no such field")},
		{name: "a field that stands there twice", body: `{"url":"$URL","tenant":"a","tenant":"a"}`, want: dead("tenant: stands there twice")},
		{name: "a field that stands there twice, once with escapes", body: `{"url":"$URL","tenant":"a","t\u0065nant":"b"}`, want: dead("tenant: stands there twice")},
		{name: "fields that are null", body: `{"url":"$URL","tenant":null,"id":null,"max_attempts":null,"headers":null,"metadata":null,"scheduled_at":null}`, want: sent("").recorded("tenant", "", "metadata", "")},
		{name: "170,000 unknown fields", body: `{"url":"$URL"` + strings.Repeat(`,"a":1`, 170_000) + `}`, want: dead("a: relay knows no such field")},
		{name: "an unknown field with a name of 1 MB", body: `{"url":"$URL","` + strings.Repeat("é", 500_000) + `":1}`, want: dead("é…: relay knows no such field")},
		{name: "every fault is named", body: `{"url":"file:///x","id":"a.b","tenant":7,"method":"BREW"}`, want: dead(`file`)},
	}
}

// pubHeader is how nats.go writes a message that has no headers of its own.
const pubHeader = ""

// fieldCases are envelopes with one field that is not as it should be, or only
// just.
func fieldCases() []producer {
	field := func(json string) string { return `{"url":"$URL",` + json + `}` }
	ahead := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	x := func(n int) string { return strings.Repeat("x", n) }
	sql := `'; DROP TABLE relay.webhooks; --`
	return append([]producer{
		{name: "E3 no id", body: `{"url":"$URL"}`, want: sent("")},
		{name: "E3 no id, a Nats-Msg-Id that fits", header: []string{"Nats-Msg-Id", "order-17"}, body: `{"url":"$URL"}`, want: sent("").recorded("webhook_id", "order-17")},
		{name: "E3 no id, a Nats-Msg-Id that does not fit", header: []string{"Nats-Msg-Id", "order 17"}, body: `{"url":"$URL"}`, want: sent("")},
		{name: "E4 id with a dot", body: field(`"id":"a.b"`), want: dead(`id: want 1 to 256`)},
		{name: "E5 id of 64 KiB", body: field(`"id":"` + x(64<<10) + `"`), want: dead(`id: want 1 to 256`)},
		{name: "id of 257 bytes", body: field(`"id":"` + x(257) + `"`), want: dead(`id: want 1 to 256`)},
		{name: "id of 256 bytes", body: field(`"id":"` + x(256) + `"`), want: sent("").with("webhook-id", x(256))},
		{name: "E6 id with CR and LF", body: field(`"id":"a\r\nX-Evil: 1"`), want: dead("id: control characters")},
		{name: "E6 id with NUL", body: field(`"id":"a\u0000"`), want: dead("id: control characters")},
		{name: "E6 id with a space", body: field(`"id":"a b"`), want: dead("id: want 1 to 256")},
		{name: "E6 id in UTF-8", body: field(`"id":"é"`), want: dead("id: want 1 to 256")},
		{name: "E6 id in invalid UTF-8", body: field("\"id\":\"a\xff\""), want: dead("id: control characters or invalid UTF-8")},
		{name: "id that is empty", body: field(`"id":""`), want: dead("id: empty")},
		{name: "id that is a number", body: field(`"id":17`), want: dead("id: not a string")},
		{name: "id that climbs", body: field(`"id":"../../x"`), want: dead("id: want 1 to 256")},
		{name: "Relay-Id beside an envelope, as a dead letter has it", header: []string{"Relay-Id", "kept"}, body: `{"url":"$URL"}`, want: sent("").recorded("webhook_id", "kept")},
		{name: "Relay-Id beside an envelope that does not fit", header: []string{"Relay-Id", "a.b"}, body: `{"url":"$URL"}`, want: dead("Relay-Id: want 1 to 256")},
		{name: "E7 an endpoint that is not registered", body: `{"endpoint":"shop"}`, want: dead(`no endpoint "shop" is registered`)},
		{name: "E8 an endpoint that climbs", body: `{"endpoint":"../../orders"}`, want: dead(`no endpoint "../../orders"`)},
		{name: "E8 an endpoint with SQL", body: `{"endpoint":"` + sql + `"}`, want: dead("no endpoint").recorded("endpoint_name", sql)},
		{name: "E8 an endpoint that is a number", body: `{"endpoint":9223372036854775808}`, want: dead("endpoint: not a string")},
		{name: "an endpoint in other capitals", body: `{"endpoint":"Orders"}`, want: dead(`no endpoint "Orders"`)},
		{name: "an endpoint of 257 bytes", body: `{"endpoint":"` + x(257) + `"}`, want: dead("endpoint: 257 bytes")},
		{name: "an endpoint and a url", body: field(`"endpoint":"orders"`), want: dead("a url or an endpoint, not both")},
		{name: "tenant with SQL", body: field(`"tenant":"` + sql + `"`), want: sent("").recorded("tenant", sql)},
		{name: "tenant with NUL", body: field(`"tenant":"a\u0000b"`), want: dead("tenant: control characters")},
		{name: "tenant with half a surrogate pair", body: field(`"tenant":"a\ud800"`), want: dead("tenant: control characters or invalid UTF-8")},
		{name: "tenant in other scripts", body: field(`"tenant":"Ծ Ñandú 株式会社 🐢"`), want: sent("").recorded("tenant", "Ծ Ñandú 株式会社 🐢")},
		{name: "tenant that is empty", body: field(`"tenant":""`), want: dead("tenant: empty")},
		{name: "tenant of 256 bytes", body: field(`"tenant":"` + x(256) + `"`), want: sent("").recorded("tenant", x(256))},
		{name: "tenant of 257 bytes", body: field(`"tenant":"` + x(257) + `"`), want: dead("tenant: 257 bytes, more than 256")},
		{name: "event type with ESC", body: field(`"event_type":"\u001b[31mred"`), want: dead("event_type: control characters")},
		{name: "event type with C1 control characters", body: field(`"event_type":"a\u009bb"`), want: dead("event_type: control characters")},
		{name: "event type that is an object", body: field(`"event_type":{}`), want: dead("event_type: not a string")},
		{name: "method in small letters", body: field(`"method":"post"`), want: dead(`method: want one of POST PUT PATCH DELETE GET, not "post"`)},
		{name: "method CONNECT", body: field(`"method":"CONNECT"`), want: dead("method: want one of")},
		{name: "method that splits the request", body: field(`"method":"POST / HTTP/1.1\r\nX: 1"`), want: dead("method: control characters")},
		{name: "method GET with a body", body: field(`"method":"GET","payload":{"a":1}`), want: sent(`{"a":1}`).by("GET")},
		{name: "method DELETE without one", body: field(`"method":"DELETE"`), want: sent("").by("DELETE")},
		{name: "content type with parameters", body: field(`"content_type":"text/plain; charset=\"utf-8\""`), want: sent("").with("Content-Type", `text/plain; charset="utf-8"`)},
		{name: "E16 content type that splits the header", body: field(`"content_type":"text/plain\r\nX-Evil: 1"`), want: dead("content_type: control characters")},
		{name: "content type that is none", body: field(`"content_type":"json"`), want: dead("content_type: want a media type")},
		{name: "max_attempts 0", body: field(`"max_attempts":0`), want: dead("max_attempts: want a whole number from 1 to 100, not 0")},
		{name: "max_attempts 100", body: field(`"max_attempts":100`), want: sent("").recorded("max_attempts", "100")},
		{name: "max_attempts 101", body: field(`"max_attempts":101`), want: dead("max_attempts: want")},
		{name: "max_attempts -1", body: field(`"max_attempts":-1`), want: dead("max_attempts: want")},
		{name: "max_attempts beyond 64 bits", body: field(`"max_attempts":99999999999999999999`), want: dead("max_attempts: want")},
		{name: "max_attempts 3.0", body: field(`"max_attempts":3.0`), want: dead("max_attempts: want")},
		{name: "max_attempts in quotes", body: field(`"max_attempts":"3"`), want: dead("max_attempts: want")},
		{name: "max_attempts true", body: field(`"max_attempts":true`), want: dead("max_attempts: want")},
		{name: "E15 scheduled in the past", body: field(`"scheduled_at":"1999-12-31T23:59:59Z"`), want: sent("")},
		{name: "E15 scheduled at the zero time of Go", body: field(`"scheduled_at":"0001-01-01T00:00:00Z"`), want: sent("").recorded("scheduled_at", "")},
		{name: "E15 scheduled in the year 9999", body: field(`"scheduled_at":"9999-12-31T23:59:59Z"`), want: dead("scheduled_at: more than 30 days ahead")},
		{name: "E15 scheduled by garbage", body: field(`"scheduled_at":"tomorrow"`), want: dead("scheduled_at: want RFC 3339")},
		{name: "E15 scheduled by Unix seconds", body: field(`"scheduled_at":1900000000`), want: dead("scheduled_at: not a string")},
		{name: "E15 scheduled without a zone", body: field(`"scheduled_at":"2026-01-31T08:00:00"`), want: dead("scheduled_at: want RFC 3339")},
		{name: "E15 scheduled on the 30th of February", body: field(`"scheduled_at":"2026-02-30T08:00:00Z"`), want: dead("scheduled_at: want RFC 3339")},
		{name: "E15 scheduled in a leap second", body: field(`"scheduled_at":"2016-12-31T23:59:60Z"`), want: dead("scheduled_at: want RFC 3339")},
		{name: "E15 scheduled with an offset of 99 hours", body: field(`"scheduled_at":"2026-01-31T08:00:00+99:00"`), want: dead("scheduled_at: want RFC 3339")},
		{name: "scheduled in two seconds", body: field(fmt.Sprintf(`"scheduled_at":%q`, ahead(2*time.Second))), want: sent("")},
		{name: "expired long ago", body: field(`"expires_at":"1999-12-31T23:59:59Z"`), want: dead("expired: not delivered by 1999-12-31T23:59:59Z")},
		{name: "expires at the zero time of Go", body: field(`"expires_at":"0001-01-01T00:00:00Z"`), want: sent("")},
		{name: "expires in the year 9999", body: field(`"expires_at":"9999-12-31T23:59:59Z"`), want: dead("expires_at: more than 90 days ahead")},
		{name: "expires before it is scheduled", body: field(fmt.Sprintf(`"scheduled_at":%q,"expires_at":%q`, ahead(2*time.Hour), ahead(time.Hour))), want: dead("expires_at: not after scheduled_at")},
		{name: "idempotency key that is empty", body: field(`"idempotency_key":""`), want: dead("idempotency_key: empty")},
		{name: "idempotency key of 257 bytes", body: field(`"idempotency_key":"` + x(257) + `"`), want: dead("idempotency_key: 257 bytes")},
		{name: "idempotency key in invalid UTF-8", body: field("\"idempotency_key\":\"k\xff\""), want: dead("idempotency_key: control characters or invalid UTF-8")},
		{name: "idempotency key with a line break", body: field(`"idempotency_key":"k\n"`), want: dead("idempotency_key: control characters")},
		{name: "metadata that is a list", body: field(`"metadata":[1]`), want: dead("metadata: not a JSON object")},
		{name: "metadata of 8 KiB", body: field(`"metadata":{"a":"` + x(8192-8) + `"}`), want: sent("")},
		{name: "metadata of 8 KiB and 1", body: field(`"metadata":{"a":"` + x(8192-7) + `"}`), want: dead("metadata: 8193 bytes, more than 8192")},
		{name: "metadata with NUL and half a surrogate pair", body: field(`"metadata":{"a":"\u0000\ud800"}`), want: sent("").recorded("metadata", `{"a":"��"}`)},
		{name: "metadata in invalid UTF-8", body: field("\"metadata\":{\"a\":\"\xff\"}"), want: dead("metadata: invalid UTF-8")},
		{name: "metadata nested 4,000 deep", body: field(`"metadata":{"a":` + strings.Repeat("[", 4000) + strings.Repeat("]", 4000) + `}`), want: sent("")},
		{name: "metadata with a number that Postgres does not hold", body: field(`"metadata":{"a":[{"b":1e999999}]}`), want: dead("metadata: a number with an exponent")},
		{name: "metadata with a number that Postgres writes out", body: field(`"metadata":{"a":-1E+0131071}`), want: dead("metadata: a number with an exponent")},
		{name: "metadata with a number too small", body: field(`"metadata":{"a":1e-20000}`), want: dead("metadata: a number with an exponent")},
		{name: "metadata with keys twice", body: field(`"metadata":{"a":1,"a":2}`), want: sent("").recorded("metadata", `{"a":2}`)},
	}, headerFieldCases(field)...)
}

// headerFieldCases are about the field headers, in JSON.
func headerFieldCases(field func(string) string) []producer {
	return []producer{
		{name: "headers that are a list", body: field(`"headers":["X: 1"]`), want: dead("headers: not a JSON object")},
		{name: "headers with a number", body: field(`"headers":{"X":1}`), want: dead("headers.X: neither a string nor a list")},
		{name: "headers with null", body: field(`"headers":{"X":null}`), want: dead("headers.X: neither a string nor a list")},
		{name: "headers with null in a list", body: field(`"headers":{"X":["a",null]}`), want: dead("headers.X: neither a string nor a list")},
		{name: "headers in invalid UTF-8", body: field("\"headers\":{\"X\":\"caf\xe9\"}"), want: dead("headers.X: neither a string nor a list of strings, in UTF-8")},
		{name: "headers in UTF-8", body: field(`"headers":{"X":"café"}`), want: sent("").with("X", "café")},
		{name: "headers with an empty value", body: field(`"headers":{"X":""}`), want: sent("").with("X", "")},
		{name: "headers with several values", body: field(`"headers":{"X":["a","b"]}`), want: sent("").with("X", "a,b")},
		{name: "E11 a header that stands there twice", body: field(`"headers":{"X":"a","X":"b"}`), want: dead("headers.X: stands there twice")},
		{name: "E11 a header that stands there twice in other capitals", body: field(`"headers":{"X-A":"a","x-a":"b"}`), want: dead("headers.x-a: stands there twice")},
		{name: "60,000 headers with spaces in their names", body: field(`"headers":{` + manyHeaders("a b%d", 60_000) + `}`), want: dead("not a valid HTTP header name")},
		{name: "60,000 headers", body: field(`"headers":{` + manyHeaders("X-%d", 60_000) + `}`), want: dead("headers: 60000, more than 50").recorded("headers", "{}")},
		{name: "200,000 values of one header", body: field(`"headers":{"X":[""` + strings.Repeat(`,""`, 199_999) + `]}`), want: dead("headers: 200000, more than 50").recorded("headers", "{}")},
	}
}

func manyHeaders(name string, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `%q:""`, fmt.Sprintf(name, i))
	}
	return b.String()
}
