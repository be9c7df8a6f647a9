package consumer_test

import (
	"strconv"
	"strings"

	"github.com/relaywebhooks/relay"
)

// rawCases are messages whose body is the HTTP body.
func rawCases() []producer {
	x := func(n int) string { return strings.Repeat("x", n) }
	binary := "\x00\xff\xfe {{ \r\n\r\nPOST / HTTP/1.1\r\n\x1b[2J"
	// What nats.go writes around the URL, for a message of exactly 1 MiB.
	head := len("NATS/1.0\r\nRelay-Url: http://127.0.0.1:00000/case000\r\n\r\n")
	return []producer{
		{name: "E1 empty body", header: rawTo(), want: sent("").with("Content-Length", "0", "Content-Type", "application/json")},
		{name: "E9 binary", header: rawTo(), body: binary, want: sent(binary)},
		{name: "E9 braces of a template", header: rawTo(), body: "{{", want: sent("{{")},
		{name: "E9 invalid UTF-8", header: rawTo(), body: "\xc3\x28", want: sent("\xc3\x28")},
		{name: "E9 a byte order mark", header: rawTo(), body: "\xef\xbb\xbf{}", want: sent("\xef\xbb\xbf{}")},
		{name: "a body that is an envelope for another", header: rawTo(), body: `{"url":"http://127.0.0.1:1/","tenant":"x"}`, want: sent(`{"url":"http://127.0.0.1:1/","tenant":"x"}`).recorded("tenant", "")},
		{name: "E2 nearly 1 MiB", header: rawTo(), body: x(relay.MaxBody - head - 20), want: sent(x(relay.MaxBody - head - 20))},
		{name: "E2 more than 1 MiB", header: rawTo(), body: x(relay.MaxBody), want: refused("message size exceeds maximum allowed")},
		{name: "fields in small letters", header: []string{"relay-url", "$URL", "relay-tenant", "acme", "relay-header-x-shop", "17"}, body: "x", want: sent("x").with("X-Shop", "17").recorded("tenant", "acme")},
		{name: "E11 a field that stands there twice: the first counts", header: rawTo("Relay-Url", "http://127.0.0.1:1/", "Relay-Tenant", "a", "Relay-Tenant", "b"), want: sent("").recorded("tenant", "a")},
		{name: "E11 a request header that stands there twice has two values", header: rawTo("Relay-Header-X", "a", "Relay-Header-X", "b"), want: sent("").with("X", "a,b")},
		{name: "an empty URL", header: []string{"Relay-Url", ""}, body: `{"url":"$URL"}`, want: dead("Relay-Url: empty")},
		{name: "a URL and an endpoint", header: rawTo("Relay-Endpoint", "orders"), want: dead("a url or an endpoint, not both")},
		{name: "E7 an endpoint that is not registered", header: []string{"Relay-Endpoint", "shop"}, want: dead(`no endpoint "shop"`)},
		{name: "E8 an endpoint that climbs", header: []string{"Relay-Endpoint", "../../orders"}, want: dead("no endpoint")},
		{name: "an unknown field", header: rawTo("Relay-Retries", "3"), want: dead("Relay-Retries: relay knows no such header")},
		{name: "an unknown field with NUL and ESC in its name", block: block("Relay-Url: $URL", "relay-\x00\x1b[2j: 3"), want: dead("Relay-��[2j: relay knows no such header")},
		{name: "a field that only an envelope has", header: rawTo("Relay-Payload", "x"), want: dead("Relay-Payload: relay knows no such header")},
		{name: "an underscore instead of a hyphen", header: rawTo("Relay-Max_Attempts", "3"), want: sent("").recorded("max_attempts", "3")},
		{name: "a field beside an envelope", header: []string{"Relay-Tenant", "a"}, body: `{"url":"$URL"}`, want: dead("Relay-Tenant: belongs to the raw form")},
		{name: "a request header beside an envelope", header: []string{"Relay-Header-X", "a"}, body: `{"url":"$URL"}`, want: dead("Relay-Header-X: belongs to the raw form")},
		{name: "other headers beside both", header: rawTo("X-Own", "kept, not sent"), want: sent("").with("X-Own", "")},
		{name: "E4 id with a dot", header: rawTo("Relay-Id", "a.b"), want: dead("Relay-Id: want 1 to 256")},
		{name: "E5 id of 20 KiB", header: rawTo("Relay-Id", x(20<<10)), want: dead("Relay-Id: want 1 to 256")},
		{name: "E6 id with a space", header: rawTo("Relay-Id", "a b"), want: dead("Relay-Id: want 1 to 256")},
		{name: "E6 id in UTF-8", header: rawTo("Relay-Id", "é"), want: dead("Relay-Id: want 1 to 256")},
		{name: "E6 id in invalid UTF-8", header: rawTo("Relay-Id", "a\xff"), want: dead("Relay-Id: control characters or invalid UTF-8")},
		{name: "E6 id with NUL", block: block("Relay-Url: $URL", "Relay-Id: a\x00b"), want: dead("Relay-Id: control characters")},
		{name: "idempotency key in invalid UTF-8", header: rawTo("Relay-Idempotency-Key", "k\xff"), want: dead("Relay-Idempotency-Key: control characters or invalid UTF-8")},
		{name: "max attempts that are none", header: rawTo("Relay-Max-Attempts", "many"), want: dead("Relay-Max-Attempts: want a whole number")},
		{name: "E15 scheduled by garbage", header: rawTo("Relay-Scheduled-At", "@every 1s"), want: dead("Relay-Scheduled-At: want RFC 3339")},
		{name: "metadata that is none", header: rawTo("Relay-Metadata", "customer=c-42"), want: dead("Relay-Metadata: not a JSON object")},
		{name: "metadata with a quote from SQL", header: rawTo("Relay-Metadata", `{"a":"'; DROP TABLE relay.attempts; --"}`), want: sent("").recorded("metadata", `{"a":"'; DROP TABLE relay.attempts; --"}`)},
	}
}

// block are headers as they go over the wire.
func block(lines ...string) string {
	return "NATS/1.0\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// headerCases are about the headers of the request.
func headerCases() []producer {
	x := func(n int) string { return strings.Repeat("x", n) }
	cases := []producer{
		{name: "H1 a value with CR and LF", body: `{"url":"$URL","headers":{"X":"a\r\nX-Evil: 1"}}`, want: dead("header X: the value holds a line break")},
		{name: "H1 a value with LF", body: `{"url":"$URL","headers":{"X":"a\nb"}}`, want: dead("header X: the value holds a line break")},
		{name: "H1 a value with NUL", body: `{"url":"$URL","headers":{"X":"a\u0000b"}}`, want: dead("header X: the value holds")},
		{name: "H1 a value with DEL", body: `{"url":"$URL","headers":{"X":"a\u007fb"}}`, want: dead("header X: the value holds")},
		{name: "H1 a value with CR, over the wire", block: block("Relay-Url: $URL", "Relay-Header-X: a\rX-Evil: 1"), want: dead("header X: the value holds")},
		{name: "H2 a name with a space", body: `{"url":"$URL","headers":{"X Y":"a"}}`, want: dead("not a valid HTTP header name")},
		{name: "H2 a name with a space, over the wire", block: block("Relay-Url: $URL", "relay-header-x y: a"), want: dead("not a valid HTTP header name")},
		{name: "H2 a name with LF", body: `{"url":"$URL","headers":{"X\nY":"a"}}`, want: dead("not a valid HTTP header name")},
		{name: "H2 a name with a colon", body: `{"url":"$URL","headers":{"X:Y":"a"}}`, want: dead("not a valid HTTP header name")},
		{name: "H2 no name", body: `{"url":"$URL","headers":{"":"a"}}`, want: dead("not a valid HTTP header name")},
		{name: "H2 no name, over the wire", block: block("Relay-Url: $URL", "Relay-Header-: a"), want: dead("not a valid HTTP header name")},
		{name: "H2 a name of HTTP/2", body: `{"url":"$URL","headers":{":authority":"a"}}`, want: dead("not a valid HTTP header name")},
		{
			name:   "H7 credentials are sent and not recorded",
			header: rawTo("Relay-Header-Authorization", "Bearer t0p", "Relay-Header-Cookie", "a=t0p", "Relay-Header-X-Acme-Token", "t0p"),
			want: sent("").with("Authorization", "Bearer t0p", "Cookie", "a=t0p", "X-Acme-Token", "t0p").
				recorded("headers", `{"Authorization":["[hidden]"],"Cookie":["[hidden]"],"X-Acme-Token":["[hidden]"]}`),
		},
		{name: "H8 50 headers", header: rawTo(numbered(50)...), want: sent("").with("X-49", "1")},
		{name: "H8 51 headers", header: rawTo(numbered(51)...), want: dead("headers: 51, more than 50")},
		{name: "H8 8 KiB of headers", header: rawTo("Relay-Header-X", x(8<<10-1)), want: sent("").with("X", x(8<<10-1))},
		{name: "H8 8 KiB of headers and 1", header: rawTo("Relay-Header-X", x(8<<10)), want: dead("headers: 8193 bytes, more than 8192")},
		{name: "H10 User-Agent", header: rawTo("User-Agent", "evil"), want: sent("").with("User-Agent", "relay/dev", "Idempotency-Key", "")},
		{name: "a value in Latin-1", header: rawTo("Relay-Header-X", "caf\xe9"), want: sent("").with("X", "caf\xe9")},
		{name: "a value with a tab", header: rawTo("Relay-Header-X", "a\tb"), want: sent("").with("X", "a\tb")},
		{name: "a name in small letters", header: rawTo("relay-header-x-shop", "17"), want: sent("").with("X-Shop", "17")},
		{name: "Content-Encoding", header: rawTo("Relay-Header-Content-Encoding", "gzip"), body: "\x1f\x8b", want: sent("\x1f\x8b").with("Content-Encoding", "gzip")},
	}
	for _, name := range []string{
		"H3 Host", "H4 Content-Length", "H4 content_length", "H4 Transfer-Encoding", "H4 Trailer", "H4 TE", "H4 Upgrade", "H4 HTTP2-Settings",
		"H4 Expect", "H4 Connection", "H4 Keep-Alive", "H4 Proxy-Authorization", "H4 Proxy-Anything", "H5 webhook-id", "H5 WEBHOOK-SIGNATURE",
		"H5 Webhook_Timestamp", "H5 webhook.id", "H6 Idempotency-Key", "H6 X-Idempotency-Key", "H9 Accept-Encoding", "H10 User-Agent", "Content-Type",
	} {
		header := name[strings.LastIndex(name, " ")+1:]
		cases = append(cases, producer{name: name + " in an envelope", body: `{"url":"$URL","headers":{"` + header + `":"1"}}`, want: dead("may not be set: ")})
		cases = append(cases, producer{name: name + " as a NATS header", header: rawTo("Relay-Header-"+header, "1"), want: dead("may not be set: ")})
	}
	return cases
}

func numbered(n int) []string {
	var h []string
	for i := range n {
		h = append(h, "Relay-Header-X-"+strconv.Itoa(i), "1")
	}
	return h
}

// natsCases are about what NATS, or relay itself, reads in the headers of a
// message.
func natsCases() []producer {
	forged := rawTo("Relay-Meta-Key", "1-1", "Relay-Meta-Generation", "7", "Relay-Meta-Id", "stolen", "Relay-Meta-Lane", "1",
		"Relay-Meta-Bury", "because", "Relay-Meta-Replayed", "2020-01-01T00:00:00Z", "Relay-Meta-Letter", "abc", "Relay-Meta-Subject", "webhooks.due.x",
		"Relay-Meta-Reason", "forged", "Relay-Meta-Attempts", "99")
	cases := []producer{
		{name: "E10 5,000 headers", header: rawTo(many("X-%", 5000)...), body: "x", want: dead("message headers: ")},
		{name: "E10 63 KiB in one header", header: rawTo("X", strings.Repeat("x", 63<<10)), body: "x", want: dead("message headers: ")},
		{name: "E10 24 KiB of headers", header: rawTo("X-Own", strings.Repeat("x", 24<<10-80)), body: "x", want: sent("x")},
		{name: "E10 500 unknown fields", header: rawTo(many("Relay-%", 500)...), want: dead("relay knows no such header")},
		{name: "E12 Nats-Rollup", header: rawTo("Nats-Rollup", "all"), want: refused("rollup not permitted")},
		{name: "E12 Nats-Rollup of the subject", header: rawTo("Nats-Rollup", "sub"), want: refused("rollup not permitted")},
		{name: "E12 Nats-TTL", header: rawTo("Nats-TTL", "1s"), want: refused("TTL is disabled")},
		{name: "E12 Nats-Schedule", header: rawTo("Nats-Schedule", "@every 1s", "Nats-Schedule-Target", "webhooks.outbound"), want: refused("schedules is disabled")},
		{name: "E12 Nats-Incr", header: rawTo("Nats-Incr", "1"), want: refused("counter")},
		{name: "E12 Nats-Expected-Last-Sequence", header: rawTo("Nats-Expected-Last-Sequence", "999999"), want: refused("wrong last sequence")},
		{name: "E12 Nats-Expected-Stream", header: rawTo("Nats-Expected-Stream", "OTHER"), want: refused("expected stream does not match")},
		{name: "E12 nats-rollup in small letters", header: rawTo("nats-rollup", "all"), body: "x", want: sent("x")},
		{name: "E12 Nats-Marker-Reason", header: rawTo("Nats-Marker-Reason", "Purge"), body: "x", want: sent("x")},
		{name: "E12 KV-Operation", header: rawTo("KV-Operation", "PURGE"), body: "x", want: sent("x")},
		{name: "E13 forged headers of relay's own", header: forged, body: "x", want: sent("x").recorded("generation", "0")},
		{name: "E13 forged headers beside an envelope", header: forged[2:], body: `{"url":"$URL"}`, want: sent("").recorded("generation", "0")},
		{name: "E13 forged headers on what dies", header: forged[2:], body: "x", want: dead(notRead).recorded("generation", "0", "attempts", "0")},
		{name: "E13 a forged header that relay does not know", header: rawTo("Relay-Meta-Color", "red"), body: "x", want: sent("x")},
		{name: "a line without a colon", block: "NATS/1.0\r\nRelay-Url $URL\r\n\r\n", body: "x", want: dead(notRead)},
		{name: "headers that do not end", block: "NATS/1.0\r\nRelay-Url: $URL\r\n", body: "x", want: dead(notRead)},
		{name: "headers without their first line", block: "Relay-Url: $URL\r\n\r\n", body: "x", want: dead(notRead)},
		{name: "unreadable headers beside an envelope", block: "NATS/1.0\r\nbroken\r\n\r\n", body: `{"url":"$URL"}`, want: sent("")},
		{name: "a space before the name", block: block(" Relay-Url: $URL"), body: "x", want: dead(notRead)},
		{name: "a header without a name", block: block("Relay-Url: $URL", ": x"), body: "x", want: sent("x")},
		{name: "trace headers", header: rawTo("traceparent", "00-ab-cd-01", "Tracestate", "a=b", "BAGGAGE", "k=v"), want: sent("").with("Traceparent", "00-ab-cd-01", "Tracestate", "a=b", "Baggage", "k=v")},
		{name: "a trace header with a control character", block: block("Relay-Url: $URL", "traceparent: a\x01b"), want: sent("").with("Traceparent", "")},
		{name: "a baggage of 9 KiB", header: rawTo("baggage", strings.Repeat("x", 9<<10)), want: sent("").with("Baggage", "")},
		{name: "a subject of many tokens", subject: strings.Repeat("a.", 200) + "b", header: rawTo(), body: "x", want: sent("x")},
		{name: "a subject with control characters", subject: "a\x01b\x1b", block: block("X: 1"), body: "x", want: dead(notRead)},
		{name: "a subject in invalid UTF-8", subject: "a\xff", block: block("X: 1"), body: "x", want: dead(notRead)},
	}
	for _, status := range []string{"100", "404 No Messages", "408 Request Timeout", "409 Consumer Deleted", "423 Nats-Pin-Id mismatch", "503"} {
		cases = append(cases, producer{
			name: "a message like the server's answer " + status, block: strings.Replace(block("Relay-Url: $URL"), "NATS/1.0", "NATS/1.0 "+status, 1), want: sent(""),
		})
	}
	return cases
}

// many are headers with a number for % in their names.
func many(name string, n int) []string {
	var h []string
	for i := range n {
		h = append(h, strings.Replace(name, "%", strconv.Itoa(i), 1), "1")
	}
	return h
}
