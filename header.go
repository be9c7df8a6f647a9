package relay

import (
	"errors"
	"fmt"
	"strings"
)

// Why a request header is relay's own and nobody else's to set.
const (
	ofConnection = "it belongs to the connection"
	ofWebhook    = "webhook-… headers are relay's to set"
	resends      = "net/http would send the request twice without a word; receivers have webhook-id"
)

// CheckRequestHeader says whether a producer or an operator may add this header
// to a request: nil if so, else the reason, for people. Headers are refused
// that relay sets itself, that belong to one connection, or that HTTP does not
// allow. An underscore counts as a hyphen, and so does every other character
// that is neither a letter nor a digit, because many receivers cannot tell them
// apart. The error never repeats the value, which may be a secret.
func CheckRequestHeader(name, value string) error {
	if !isToken(name) {
		return fmt.Errorf("header name %.40q: not a valid HTTP header name", name)
	}
	if why := reserved(strings.Map(plain, name)); why != "" {
		return fmt.Errorf("header %.40s may not be set: %s", name, why)
	}
	if !isFieldValue(value) {
		return fmt.Errorf("header %.40s: %w", name, errFieldValue)
	}
	return nil
}

var errFieldValue = errors.New("the value holds a line break or another control character")

// plain maps the characters of a header name to how CGI and its heirs see them.
func plain(c rune) rune {
	switch {
	case 'A' <= c && c <= 'Z':
		return c - 'A' + 'a'
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		return c
	default:
		return '-'
	}
}

// reserved returns why a header, in lower case, is not to be set, or "".
func reserved(name string) string {
	switch name {
	case "host":
		return "it follows from the URL"
	case "content-length":
		return "it follows from the body"
	case "content-type":
		return "the content type has a field of its own"
	case "user-agent":
		return "relay says who it is"
	case "accept-encoding":
		return "relay asks for answers that are not compressed"
	case "expect":
		return "relay does not wait for a 100 Continue"
	case "transfer-encoding", "trailer", "te", "upgrade", "http2-settings", "connection", "keep-alive":
		return ofConnection
	case "idempotency-key", "x-idempotency-key":
		return resends
	}
	switch {
	case strings.HasPrefix(name, "proxy-"):
		return ofConnection
	case strings.HasPrefix(name, "webhook-"):
		return ofWebhook
	}
	return ""
}

// isToken reports whether s is a token of RFC 9110, as every header name is.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isFieldValue reports whether s may be the value of a header: no control
// characters but the tab.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
