package consumer_test

import (
	"strings"

	"github.com/relaywebhooks/relay"
)

// urlCases are URLs that are refused when they are read, and spellings of those
// that are sent.
func urlCases() []producer {
	long := func(n int) string { return strings.Repeat("x", n) }
	// The receiver's own address has 30 bytes, or a few more.
	cases := []producer{
		{name: "U14 2,048 bytes or a few less", body: `{"url":"$URL/` + long(relay.MaxURL-40) + `"}`, want: sent("").to("/" + long(relay.MaxURL-40))},
		{name: "U14 64 KiB", body: `{"url":"$URL/` + long(64<<10) + `"}`, want: dead("more than 2048")},
		{name: "U14 2,048 bytes once escaped", body: `{"url":"$URL/` + strings.Repeat("é", 900) + `"}`, want: dead("longer than 2048 bytes once escaped")},
		{name: "U15 NUL and CR LF, escaped", body: `{"url":"$URL/%00%0d%0aX-Evil:%201"}`, want: sent("").to("/%00%0d%0aX-Evil:%201")},
		{name: "escapes keep their spelling", body: `{"url":"$URL/a%2Fb/../c//d%2f"}`, want: sent("").to("/a%2Fb/../c//d%2f")},
		{name: "a query keeps its spelling, and is not recorded", body: `{"url":"$URL?q=a+b&x=%zz&token=t0p"}`, want: sent("").to("?q=a+b&x=%zz&token=t0p").recorded("url", "$URL")},
		{name: "a query that is empty", body: `{"url":"$URL?"}`, want: sent("").to("?")},
		{name: "a path in UTF-8 is escaped", body: `{"url":"$URL/é{x}"}`, want: sent("").to("/%C3%A9%7Bx%7D")},
		{name: "scheme and host in capitals", body: `{"url":"HTTP://$HOST$PATH/A"}`, want: sent("").to("/A")},
		{name: "U11 spaces around it, in an envelope", body: `{"url":" $URL "}`, want: dead("url: holds a space")},
		{name: "U11 spaces around it, in a header: they are not part of it", header: []string{"Relay-Url", "  $URL"}, want: sent("")},
		{name: "U13 port 0", body: `{"url":"http://127.0.0.1:0/"}`, want: dead("url: the port is not between 1 and 65535")},
		{name: "U13 port 65536", body: `{"url":"http://127.0.0.1:65536/"}`, want: dead("url: the port is not between 1 and 65535")},
		{name: "U13 port 99999", body: `{"url":"http://127.0.0.1:99999/"}`, want: dead("url: the port is not between 1 and 65535")},
	}
	for _, c := range [][3]string{ // name, URL, and what stands in the record
		{"U1 file", "file:///etc/passwd", "file:///etc/passwd"},
		{"U2 gopher", "gopher://127.0.0.1:70/_x", "gopher://127.0.0.1:70/_x"},
		{"U3 unix", "unix:///var/run/docker.sock", "unix:///var/run/docker.sock"},
		{"U3 http+unix", "http+unix://%2Fvar%2Frun%2Fdocker.sock/x", "http+unix://%2Fvar%2Frun%2Fdocker.sock/x"},
		{"U4 javascript", "javascript:alert(1)", "javascript:alert(1)"},
		{"data", "data:text/plain,x", "data:text/plain,x"},
		{"ws", "ws://127.0.0.1/", "ws://127.0.0.1/"},
		{"U5 no scheme", "//host/", "//host/"},
		{"U6 no scheme and no slashes", "host/path", "host/path"},
		{"a path only", "/path", "/path"},
		{"U7 no slashes", "http:127.0.0.1", "http:127.0.0.1"},
		{"one slash", "http:/127.0.0.1/", "http:/127.0.0.1/"},
		{"three slashes", "http:///127.0.0.1/", "http:///127.0.0.1/"},
		{"backslashes", `http:\\127.0.0.1\`, `http:\\127.0.0.1\`},
		{"no host", "http://:80/", "http://:80/"},
		{"U9 a password", "http://user:s3cret@127.0.0.1:1/?s3cret", "http://[hidden]@127.0.0.1:1/"},
		{"U9 a user name", "http://s3cret@127.0.0.1:1/", "http://[hidden]@127.0.0.1:1/"},
		{"U9 a password with ?", "http://user:s3c?ret@127.0.0.1:1/", "http://[hidden]"},
		{"U9 a password with #", "http://user:s3c#ret@127.0.0.1:1/", "http://[hidden]"},
		{"U9 a password with /", "http://user:s3c/ret@127.0.0.1:1/", "http://[hidden]@127.0.0.1:1/"},
		{"U9 a password without a scheme", "user:s3cret@127.0.0.1:1/", "[hidden]@127.0.0.1:1/"},
		{"U11 a backslash before @", `http://127.0.0.1\@example.com/`, "http://[hidden]@example.com/"},
		{"U11 a space in the host", "http://exa mple.com/", "http://exa mple.com/"},
		{"U12 a fragment", "http://127.0.0.1:1/#frag", "http://127.0.0.1:1/"},
		{"a query with a fragment", "http://127.0.0.1:1/?t0p#frag", "http://127.0.0.1:1/"},
		{"U17 a homograph", "http://exаmple.com/", "http://exаmple.com/"},
		{"U17 an umlaut", "http://exämple.com/", "http://exämple.com/"},
		{"A34 full-width digits", "http://①②⑦.⓪.⓪.①/", "http://①②⑦.⓪.⓪.①/"},
		{"A34 full-width dots", "http://127。0。0。1/", "http://127。0。0。1/"},
		{"an escaped host", "http://%31%32%37.0.0.1/", "http://%31%32%37.0.0.1/"},
		{"a port that is a word", "http://127.0.0.1:http/", "http://127.0.0.1:http/"},
		{"a port below 0", "http://127.0.0.1:-1/", "http://127.0.0.1:-1/"},
		{"two ports", "http://127.0.0.1:1:2/", "http://127.0.0.1:1:2/"},
		{"a bad escape", "http://127.0.0.1:1/%zz", "http://127.0.0.1:1/%zz"},
		{"A28 a zone", "http://[fe80::1%25eth0]/", "http://[fe80::1%25eth0]/"},
		{"A28 a mapped address with a zone", "http://[::ffff:127.0.0.1%25lo]/", "http://[::ffff:127.0.0.1%25lo]/"},
		{"half a bracket", "http://[::1/", "http://[::1/"},
		{"IPv4 in brackets", "http://[127.0.0.1]/", "http://[127.0.0.1]/"},
		{"an empty label", "http://a..b/", "http://a..b/"},
		{"a host of 254 bytes", "http://" + strings.Repeat("abc.", 63) + "ab/", "http://" + strings.Repeat("abc.", 63) + "ab/"},
		{"a label of 64 bytes", "http://" + long(64) + ".com/", "http://" + long(64) + ".com/"},
		{"a comma in the host", "http://a,b/", "http://a,b/"},
	} {
		cases = append(cases, producer{name: c[0], header: []string{"Relay-Url", c[1]}, want: dead("url: ").recorded("url", c[2])})
	}
	for _, c := range [][2]string{{"U11 a tab", `\t`}, {"U11 CR LF", `\r\n`}, {"NUL", `\u0000`}} {
		cases = append(cases, producer{name: c[0] + " in the host", body: `{"url":"http://exa` + c[1] + `mple.com/"}`, want: dead("url: control characters")})
	}
	return cases
}
