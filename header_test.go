package relay_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay"
)

func TestCheckRequestHeader(t *testing.T) {
	refused := []struct{ name, value string }{
		{"X-Ok", "a\r\nX-Evil: 1"},
		{"X-Ok", "a\nb"},
		{"X-Ok", "a\x00b"},
		{"X-Ok", "a\x7fb"},
		{"X Space", "a"},
		{"X-Line\nFeed", "a"},
		{"X-Colon:", "a"},
		{":authority", "a"},
		{"X-Ümlaut", "a"},
		{"", "a"},
		{"Host", "example.com"},
		{"hOST", "example.com"},
		{"Content-Length", "1"},
		{"Content_Length", "1"},
		{"Transfer-Encoding", "chunked"},
		{"Trailer", "X"},
		{"TE", "trailers"},
		{"Upgrade", "h2c"},
		{"HTTP2-Settings", "AAMAAABkAAQAAP__"},
		{"Expect", "100-continue"},
		{"Connection", "close"},
		{"Keep-Alive", "1"},
		{"Proxy-Authorization", "x"},
		{"Proxy-Anything", "x"},
		{"webhook-id", "x"},
		{"Webhook-Signature", "x"},
		{"WEBHOOK-TIMESTAMP", "x"},
		{"webhook_signature", "x"},
		{"webhook.signature", "x"},
		{"Webhook~Id", "x"},
		{"Transfer.Encoding", "chunked"},
		{"Webhook-Whatever", "x"},
		{"Idempotency-Key", "x"},
		{"X-Idempotency-Key", "x"},
		{"Accept-Encoding", "gzip"},
		{"User-Agent", "x"},
		{"Content-Type", "text/plain"},
	}
	for _, h := range refused {
		if err := relay.CheckRequestHeader(h.name, h.value); err == nil {
			t.Errorf("%q: %q was allowed", h.name, h.value)
		}
	}
	allowed := []struct{ name, value string }{
		{"X-Custom", "value"},
		{"Authorization", "Bearer x"},
		{"Cookie", "a=b"},
		{"X-Empty", ""},
		{"X-Tab", "a\tb"},
		{"X-Latin", "caf\xe9"},
		{"X_Under", "a"},
		{"!#$%&'*+-.^_`|~09AZaz", "a"},
		{"Webhookid", "a"},
		{"Content-Encoding", "gzip"},
	}
	for _, h := range allowed {
		if err := relay.CheckRequestHeader(h.name, h.value); err != nil {
			t.Errorf("%q: %q: %v", h.name, h.value, err)
		}
	}
}

func TestCheckRequestHeaderHidesTheValue(t *testing.T) {
	for _, name := range []string{"Webhook-Id", "X-Token", "Bad Name"} {
		err := relay.CheckRequestHeader(name, "s3cret\n")
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// What passes the check, net/http sends, and as one header.
func FuzzCheckRequestHeader(f *testing.F) {
	f.Add("X-Custom", "value")
	f.Add("Webhook_Id", "x")
	f.Add("x", " \t\x80\xff ")
	f.Add("X\r\n", "\r\n")
	f.Fuzz(func(t *testing.T, name, value string) {
		if relay.CheckRequestHeader(name, value) != nil {
			return
		}
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header = http.Header{name: {value}, "User-Agent": {"relay"}}
		var wire strings.Builder
		if err := r.Write(&wire); err != nil {
			t.Fatalf("%q: %q cannot be written: %v", name, value, err)
		}
		if n := strings.Count(wire.String(), "\n"); n != 6 {
			t.Fatalf("%q: %q made a request of %d lines:\n%s", name, value, n, wire.String())
		}
	})
}
