package consumer_test

import "strings"

// furtherCases are in no list: what an attacker tries who has read the others.
func furtherCases() []producer {
	field := func(json string) string { return `{"url":"$URL",` + json + `}` }
	return []producer{
		{name: "every field null", body: `{"url":"$URL","endpoint":null,"method":null,"content_type":null,"event_type":null,"id":null,"tenant":null,"max_attempts":null,"scheduled_at":null,"expires_at":null,"idempotency_key":null,"metadata":null,"headers":null,"payload":null}`, want: sent("null").recorded("tenant", "", "idempotency_key", "", "metadata", "")},
		{name: "a url that is null", body: `{"url":null,"payload":1}`, want: dead("url: missing")},
		{name: "a payload and then a null one", body: field(`"payload":1,"payload":null`), want: dead("payload: stands there twice")},
		{name: "a field in another script's letters", body: `{"urＬ":"$URL"}`, want: dead("urＬ: relay knows no such field")},
		{name: "a field with a zero-width space", body: `{"url\u200b":"$URL"}`, want: dead("relay knows no such field")},
		{name: "a field with NUL behind", body: `{"url\u0000":"$URL"}`, want: dead("url�: relay knows no such field")},
		{name: "a field without a name", body: field(`"":1`), want: dead("relay knows no such field")},
		{name: "a byte order mark within", body: "{\xef\xbb\xbf" + `"url":"$URL"}`, want: dead("envelope: ")},
		{name: "a space that JSON does not know", body: "\u00a0" + `{"url":"$URL"}`, want: dead(notRead)},
		{name: "a megabyte of spaces before the end", body: `{"url":"$URL"` + strings.Repeat(" ", 1<<20-200) + `}`, want: sent("")},
		{name: "half a surrogate pair in the url", body: `{"url":"$URL/\ud800"}`, want: dead("url: control characters or invalid UTF-8")},
		{name: "half a surrogate pair in an idempotency key", body: field(`"idempotency_key":"\udfff"`), want: dead("idempotency_key: control characters or invalid UTF-8")},
		{name: "half a surrogate pair in a header", body: field(`"headers":{"X":"\ud800"}`), want: dead("headers.X: neither a string nor a list")},
		{name: "max_attempts 1e2", body: field(`"max_attempts":1e2`), want: dead("max_attempts: want")},
		{name: "max_attempts -0", body: field(`"max_attempts":-0`), want: dead("max_attempts: want")},
		{name: "max_attempts of a million digits", body: field(`"max_attempts":` + strings.Repeat("9", 1_000_000)), want: dead("max_attempts: want a whole number from 1 to 100, not 999")},
		{name: "a payload of a million digits", body: field(`"payload":` + strings.Repeat("9", 1_000_000)), want: sent(strings.Repeat("9", 1_000_000))},
		{name: "metadata with a number of 8,000 digits", body: field(`"metadata":{"a":` + strings.Repeat("9", 8_000) + `}`), want: sent("")},
		{name: "metadata with NUL in a name", body: field(`"metadata":{"\u0000":1}`), want: sent("").recorded("metadata", `{"�":1}`)},
		{name: "metadata with names that are one when NUL is gone", body: field(`"metadata":{"\u0000":1,"\ufffd":2}`), want: sent("").recorded("metadata", `{"�":2}`)},
		{name: "scheduled in the year 0", body: field(`"scheduled_at":"0000-01-01T00:00:00Z"`), want: sent("")},
		{name: "expired in the year 0", body: field(`"expires_at":"0000-01-01T00:00:00Z"`), want: dead("expired: not delivered by 0000-01-01T00:00:00Z")},
		{name: "a content type with UTF-8 in it", body: field(`"content_type":"text/plain; name=\"é\""`), want: sent("").with("Content-Type", `text/plain; name="é"`)},
		{name: "a content type whose parameter has two values", body: field(`"content_type":"text/plain;a=b;a=c"`), want: dead("content_type: want a media type")},
		{name: "headers within headers", body: field(`"headers":{"X":{"Y":"1"}}`), want: dead("headers.X: neither a string nor a list")},
		{name: "headers nested 5,000 deep", body: field(`"headers":{"X":` + strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000) + `}`), want: dead("headers.X: neither a string nor a list")},
		{name: "a header without values", body: field(`"headers":{"X":[]}`), want: sent("").with("X", "")},
		{name: "a header under two spellings that CGI cannot tell apart", body: field(`"headers":{"X-A":"1","X_A":"2"}`), want: sent("").with("X-A", "1", "X_A", "2")},

		{name: "the URL in capitals and in small letters: the capitals count", header: []string{"RELAY-URL", "$URL", "relay-url", "http://127.0.0.1:1/"}, body: "x", want: sent("x")},
		{name: "an empty URL and another", header: []string{"Relay-Url", "", "Relay-Url", "$URL"}, want: dead("Relay-Url: empty")},
		{name: "a URL with spaces and a tab before it, over the wire", block: block("Relay-Url:  \t $URL"), body: "x", want: sent("x")},
		{name: "a URL with a space behind it, over the wire", block: block("Relay-Url: $URL "), body: "x", want: dead("url: holds a space")},
		{name: "a URL in Latin-1", header: []string{"Relay-Url", "$URL/caf\xe9"}, want: dead("Relay-Url: control characters or invalid UTF-8")},
		{name: "a tenant in Latin-1", header: rawTo("Relay-Tenant", "caf\xe9"), want: dead("Relay-Tenant: control characters or invalid UTF-8")},
		{name: "an event type in Latin-1", header: rawTo("Relay-Event-Type", "caf\xe9"), want: dead("Relay-Event-Type: control characters or invalid UTF-8")},
		{name: "an empty tenant", header: rawTo("Relay-Tenant", ""), want: dead("Relay-Tenant: empty")},
		{name: "an empty id", header: rawTo("Relay-Id", ""), want: dead("Relay-Id: empty")},
		{name: "an empty request header", header: rawTo("Relay-Header-X", ""), want: sent("").with("X", "")},
		{name: "a request header with spaces around it, over the wire", block: block("Relay-Url: $URL", "Relay-Header-X:   a  "), want: sent("").with("X", "a")},
		{name: "a request header whose name is not ASCII", block: block("Relay-Url: $URL", "Relay-Header-X-\xe9: 1"), want: dead("not a valid HTTP header name")},
		{name: "only the prefix of relay's headers", header: rawTo("Relay-", "1"), want: dead("Relay-: relay knows no such header")},
		{name: "a prefix without its name", header: rawTo("Relay-Header", "1"), want: dead("Relay-Header: relay knows no such header")},
		{name: "an underscore in the prefix", header: []string{"Relay_Url", "$URL"}, body: "x", want: dead(notRead)},
		{name: "relay's own prefix without a name", header: rawTo("Relay-Meta", "1"), want: dead("Relay-Meta: relay knows no such header")},
		{name: "a folded header", block: "NATS/1.0\r\nRelay-Url: $URL\r\nRelay-Tenant: a\r\n b\r\n\r\n", body: "x", want: dead(notRead)},
		{name: "a bare CR in a field", block: block("Relay-Url: $URL", "Relay-Tenant: a\rb"), want: dead("Relay-Tenant: control characters")},
		{name: "a Content-Type that is NATS', not the webhook's", header: rawTo("Content-Type", "text/evil"), body: "x", want: sent("x").with("Content-Type", "application/json")},
		{name: "headers of the version before", block: "NATS/0.9\r\nRelay-Url: $URL\r\n\r\n", body: "x", want: dead(notRead)},

		{name: "a subject with a wildcard", subject: "orders.*", header: rawTo(), body: "x", want: sent("x")},
		{name: "a subject that ends in every subject", subject: "orders.>", header: rawTo(), body: "x", want: sent("x")},
		{name: "a tenant that is a wildcard", subject: "tenant.*", header: rawTo(), body: "x", want: sent("x").recorded("tenant", "*")},
		{name: "a tenant that is every tenant", subject: "tenant.>", header: rawTo(), body: "x", want: sent("x").recorded("tenant", ">")},
	}
}
