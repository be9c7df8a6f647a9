// Package hostile has receivers that behave as none should: they answer too
// slowly, too much, or what is not HTTP.
package hostile

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

// Answer is what a receiver does once it has read the whole request.
type Answer struct {
	Name  string // of the case
	Serve func(c net.Conn)

	// Class is the class of the failure that a sender should find, "" for none,
	// because what came counts as an answer, and Any for whichever it is.
	Class string
	// Status is the code of the answer, also where it fails further on; 0 if
	// there is none.
	Status int
}

// Any is a Class that may be any, or none.
const Any = "any"

// OK and Chunked are the beginnings of answers.
const (
	OK      = "HTTP/1.1 200 OK\r\n"
	Chunked = OK + "Transfer-Encoding: chunked\r\n\r\n"
)

// Answers returns them all.
func Answers() []Answer {
	return slices.Concat(slow(), endless(), invalid(), sizes(), odd(), interim(), loaded(), retryAfters())
}

// slow takes longer than anybody waits.
func slow() []Answer {
	return []Answer{
		{"R1 never answers", UntilClosed, "timeout", 0},
		{"R1 slow status line", func(c net.Conn) { Drip(c, "HTTP/1.1 200 ") }, "timeout", 0},
		{"R1 slow headers", func(c net.Conn) { Write(c, OK); Drip(c, "X-Y: z\r\n") }, "timeout", 0},
		{"R1 slow continues", func(c net.Conn) { Drip(c, "HTTP/1.1 100 Continue\r\n\r\n") }, "timeout", 0},
		{"R1 slow body", func(c net.Conn) { Write(c, OK+"\r\n"); Drip(c, "x") }, "timeout", 200},
		{"R15 answer after the deadline", func(c net.Conn) {
			UntilClosed(c)
			Write(c, OK+"Content-Length: 0\r\n\r\n")
		}, "timeout", 0},
	}
}

// endless does not stop by itself.
func endless() []Answer {
	return []Answer{
		{"R1 endless headers", func(c net.Conn) { Write(c, OK); Forever(c, "X-Y: z\r\n") }, "protocol", 0},
		{"R1 endless header line", func(c net.Conn) { Write(c, OK+"X: "); Forever(c, "x") }, "protocol", 0},
		{"R1 endless status line", func(c net.Conn) { Write(c, "HTTP/1.1 200 "); Forever(c, "x") }, "protocol", 0},
		{"R1 endless interim answers", func(c net.Conn) { Forever(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n") }, "protocol", 0},
		{"R1 endless continues", func(c net.Conn) { Forever(c, "HTTP/1.1 100 Continue\r\n\r\n") }, "protocol", 0},
		{"R17 endless body", func(c net.Conn) { Write(c, OK+"\r\n"); Forever(c, "x") }, "", 200},
		{"R17 endless body with a length", func(c net.Conn) {
			Write(c, OK+"Content-Length: 999999999999\r\n\r\n")
			Forever(c, "x")
		}, "", 200},
		{"R17 endless chunked body", func(c net.Conn) { Write(c, Chunked); Forever(c, "400\r\n"+strings.Repeat("x", 0x400)+"\r\n") }, "", 200},
		{"R1 endless chunk extension", func(c net.Conn) { Write(c, Chunked+"1;"); Forever(c, "x") }, "protocol", 200},
		{"R1 endless tiny chunks", func(c net.Conn) { Write(c, Chunked); Forever(c, "1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\nx\r\n") }, "protocol", 200},
		{"R1 endless trailer", func(c net.Conn) { Write(c, Chunked+"0\r\n"); Forever(c, "X-Y: z\r\n") }, Any, 200},
		{"R1 huge chunk", func(c net.Conn) { Write(c, Chunked+"ffffffffffffffffff\r\n") }, "protocol", 200},
		{"R10 thousands of cookies", func(c net.Conn) {
			Write(c, OK+strings.Repeat("Set-Cookie: a\r\n", 2000)+"Content-Length: 0\r\n\r\n")
		}, "", 200},
	}
}

// invalid is no HTTP, or ends in the middle.
func invalid() []Answer {
	return []Answer{
		{"R1 bad chunk", func(c net.Conn) { Write(c, Chunked+"zz\r\n") }, "protocol", 200},
		{"R1 truncated body", func(c net.Conn) { Write(c, OK+"Content-Length: 10\r\n\r\nhalf"); Close(c) }, "reset", 200},
		{"R1 truncated chunked body", func(c net.Conn) { Write(c, Chunked+"5\r\nhe"); Close(c) }, "reset", 200},
		{"R1 two lengths", func(c net.Conn) { Write(c, OK+"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy") }, "protocol", 0},
		{"R1 negative length", func(c net.Conn) { Write(c, OK+"Content-Length: -1\r\n\r\n") }, "protocol", 0},
		{"R1 unknown transfer encoding", func(c net.Conn) { Write(c, OK+"Transfer-Encoding: gzip\r\n\r\n") }, "protocol", 0},
		{"R1 status 2000", func(c net.Conn) { Write(c, "HTTP/1.1 2000 No\r\n\r\n") }, "protocol", 0},
		{"R1 status -1", func(c net.Conn) { Write(c, "HTTP/1.1 -01 No\r\n\r\n") }, "protocol", 0},
		{"R1 HTTP/9.9", func(c net.Conn) { Write(c, "HTTP/9.x 200 No\r\n\r\n") }, "protocol", 0},
		{"R1 banner of another protocol", func(c net.Conn) { Write(c, "SSH-2.0-OpenSSH_9.2\r\n") }, "protocol", 0},
		{"R1 header without a colon", func(c net.Conn) { Write(c, OK+"nonsense\r\n\r\n") }, "protocol", 0},
		{"header without a name", func(c net.Conn) { Write(c, OK+": x\r\n\r\n") }, "protocol", 0},
		{"HTTP/0.9", func(c net.Conn) { Write(c, "<html>hello</html>\r\n"); Close(c) }, "protocol", 0},
		{"preface of HTTP/2", func(c net.Conn) { Write(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); UntilClosed(c) }, "protocol", 0},
		{"version in small letters", func(c net.Conn) { Write(c, "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") }, "protocol", 0},
		{"empty lines before the status", func(c net.Conn) { Write(c, "\r\n\r\n"+OK+"Content-Length: 0\r\n\r\n") }, "protocol", 0},
		{"R1 reset in the headers", func(c net.Conn) { Write(c, OK+"X: "); Reset(c) }, "reset", 0},
		{"R1 closed at once", Close, "reset", 0},
		{"R1 reset at once", Reset, "reset", 0},
		{"R1 length beyond all bounds", func(c net.Conn) { Write(c, OK+"Content-Length: 99999999999999999999\r\n\r\n") }, "protocol", 0},
	}
}

// sizes says in odd ways how long the answer is.
func sizes() []Answer {
	chunked := func(name, chunks, class string) Answer {
		return Answer{name, func(c net.Conn) { Write(c, Chunked+chunks); Close(c) }, class, 200}
	}
	headed := func(name, head, class string, status int) Answer {
		return Answer{name, func(c net.Conn) { Write(c, OK+head+"\r\n\r\nhello"); Close(c) }, class, status}
	}
	return []Answer{
		chunked("chunk longer than it says", "3\r\nhello\r\n0\r\n\r\n", "protocol"),
		chunked("chunk size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", "protocol"),
		chunked("chunk size with a sign", "+5\r\nhello\r\n0\r\n\r\n", "protocol"),
		chunked("chunk size that is empty", "\r\nhello\r\n0\r\n\r\n", "protocol"),
		chunked("chunks whose lines end without CR", "5\nhello\n0\n\n", Any),
		chunked("chunks without an end", "5\r\nhello\r\n", "reset"),
		chunked("trailers that ask for something", "5\r\nhello\r\n0\r\nRetry-After: 86400\r\nWebhook-Delivery: disable\r\n\r\n", ""),
		headed("length with a sign", "Content-Length: +5", "protocol", 0),
		headed("length in hexadecimal digits", "Content-Length: 0x5", "protocol", 0),
		headed("length with a comma", "Content-Length: 5, 5", "protocol", 0),
		headed("the same length twice", "Content-Length: 5\r\nContent-Length: 5", "", 200),
		headed("chunked twice", "Transfer-Encoding: chunked, chunked", "protocol", 0),
		headed("chunked, and identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "protocol", 0),
		headed("no length, and closed", "Connection: close", "", 200),
		{"no length, and reset", func(c net.Conn) { Write(c, OK+"Connection: close\r\n\r\nhal"); Write(c, "f"); Reset(c) }, "reset", 200},
	}
}

// odd is taken by net/http, for better or worse.
func odd() []Answer {
	return []Answer{
		{"R1 length and chunked", func(c net.Conn) {
			Write(c, OK+"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
		}, "", 200},
		{"R1 folded header", func(c net.Conn) { Write(c, OK+"X: a\r\n b\r\nContent-Length: 0\r\n\r\n") }, "", 200},
		{"header with a space before its colon", func(c net.Conn) { Write(c, OK+"Content-Length : 5\r\n\r\nhello") }, "", 200},
		{"R1 status 999", func(c net.Conn) { Write(c, "HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n") }, "", 999},
		{"R1 status 099", func(c net.Conn) { Write(c, "HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n") }, "", 99},
		{"R1 TLS alert", func(c net.Conn) { Write(c, "\x15\x03\x01\x00\x02\x02\x28"); Close(c) }, Any, 0},
		{"R1 NUL in a header", func(c net.Conn) { Write(c, OK+"X: a\x00b\r\nContent-Length: 0\r\n\r\n") }, Any, 0},
		{"R4 switching protocols", func(c net.Conn) {
			Write(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello")
			UntilClosed(c)
		}, "", 101},
		{"R5 no content with content", func(c net.Conn) { Write(c, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello") }, "", 204},
		{"R3 bad location", func(c net.Conn) { Write(c, "HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n") }, "", 302},
		{"R8 reason phrase with odd bytes", func(c net.Conn) {
			Write(c, "HTTP/1.1 200 "+strings.Repeat("\x00\x1b[2J", 200)+"\r\nContent-Length: 0\r\n\r\n")
		}, "", 200},
	}
}

// interim are answers before the answer, or after it.
func interim() []Answer {
	const end = OK + "Content-Length: 0\r\n\r\n"
	all := []Answer{
		{"two answers at once", func(c net.Conn) { Write(c, end+"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"); UntilClosed(c) }, "", 200},
		{"100 interim answers", func(c net.Conn) {
			Write(c, strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100)+end)
			UntilClosed(c)
		}, "", 200},
		{"HTTP/1.0 that keeps the connection", func(c net.Conn) {
			Write(c, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
			UntilClosed(c)
		}, "", 200},
		{"status without a reason", func(c net.Conn) { Write(c, "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"); UntilClosed(c) }, "", 200},
		{"lines that end without CR", func(c net.Conn) { Write(c, strings.ReplaceAll(end, "\r", "")); UntilClosed(c) }, "", 200},
	}
	for _, hint := range []string{"100 Continue", "103 Early Hints", "199 Odd"} {
		all = append(all, Answer{hint + ", and then the answer", func(c net.Conn) {
			Write(c, "HTTP/1.1 "+hint+"\r\nRetry-After: 86400\r\nLink: <http://169.254.169.254/>; rel=preload\r\n\r\n"+end)
			UntilClosed(c)
		}, "", 200})
	}
	return all
}

// loaded is an answer whose headers or body would have a browser do something,
// or a program stumble.
func loaded() []Answer {
	with := func(name, head, body string, status int) Answer {
		text := fmt.Sprintf("HTTP/1.1 %d Some\r\n%sContent-Length: %d\r\n\r\n%s", status, head, len(body), body)
		return Answer{name, func(c net.Conn) { Write(c, text); UntilClosed(c) }, "", status}
	}
	bomb := "\x1f\x8b\x08" + strings.Repeat("\x00\xff", 8<<10)
	return []Answer{
		with("R2 redirect to metadata, 307", "Location: http://169.254.169.254/latest/meta-data/\r\n", "", 307),
		with("R2 redirect to metadata, 308", "Location: http://[fd00:ec2::254]/\r\n", "", 308),
		with("R2 redirect to a file, 301", "Location: file:///etc/passwd\r\n", "", 301),
		with("R3 redirect without Location", "", "", 302),
		with("R6 gzip that is none", "Content-Encoding: gzip\r\n", bomb, 200),
		with("R6 br", "Content-Encoding: br\r\n", bomb, 200),
		with("R6 zstd", "Content-Encoding: zstd\r\n", bomb, 200),
		with("R6 deflate", "Content-Encoding: deflate\r\n", bomb, 200),
		with("R6 all at once", "Content-Encoding: br, gzip, br\r\n", bomb, 200),
		with("R7 NUL in the body", "", "a\x00b", 200),
		with("R7 invalid UTF-8", "Content-Type: text/plain; charset=utf-8\r\n", "\xff\xfe\xc3\x28", 200),
		with("R7 4 KiB of escapes", "", strings.Repeat("\x1b[2J", 1024), 200),
		with("R7 JSON nested 8,000 deep", "Content-Type: application/json\r\n", strings.Repeat("[", 8000)+strings.Repeat("]", 8000), 200),
		with("R7 JSON with NUL and half a surrogate pair", "Content-Type: application/json\r\n", `{"a":"\u0000\ud800"}`, 200),
		with("R7 a character that is cut in half", "", "x"+strings.Repeat("é", 9000), 200),
		with("R8 31 KiB of headers", strings.Repeat("X-Long: "+strings.Repeat("x", 1000)+"\r\n", 31), "", 200),
		with("R8 header names of programs", "__proto__: 1\r\nconstructor: 2\r\n$where: 3\r\n'--: 4\r\n", "", 200),
		with("R7 HTML", "Content-Type: text/html\r\n", "<script>alert(1)</script>", 500),
		with("R8 invalid UTF-8 in a header", "X-A: \xff\xfe\r\nX-B: \xe2\x80\xae\r\n", "", 200),
		with("R10 cookie", "Set-Cookie: a=b; Domain=example.com\r\n", "", 200),
		with("R11 HSTS, Alt-Svc, Refresh, Clear-Site-Data", "Strict-Transport-Security: max-age=99999999\r\n"+
			"Alt-Svc: h3=\":443\"\r\nRefresh: 0; url=http://169.254.169.254/\r\nClear-Site-Data: \"*\"\r\n", "", 200),
		with("R11 authentication wanted", "WWW-Authenticate: Negotiate\r\nProxy-Authenticate: Basic\r\n", "", 401),
		with("R11 proxy authentication wanted", "Proxy-Authenticate: Basic\r\n", "", 407),
	}
}

// retryAfters ask for another time, each in its own way.
func retryAfters() []Answer {
	var all []Answer
	for _, value := range []string{
		"120", "0", "-5", "1e9", "120.5", "99999999999999999999", "inf", "NaN", "Mon, 23 Nov 2015 12:05:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "soon",
		"18446744073709551616", "1, 2", "60;jitter", "Wed, 21 Oct 2015 07:28:00 +0000", "0x10", "١٢", strings.Repeat("9", 8000),
	} {
		text := "HTTP/1.1 503 Busy\r\nRetry-After: " + value + "\r\nContent-Length: 0\r\n\r\n"
		all = append(all, Answer{fmt.Sprintf("R9 Retry-After %.40s", value), func(c net.Conn) { Write(c, text); UntilClosed(c) }, "", 503})
	}
	two := "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
	return append(all, Answer{"R9 Retry-After twice", func(c net.Conn) { Write(c, two); UntilClosed(c) }, "", 503})
}
