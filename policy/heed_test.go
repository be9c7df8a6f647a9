package policy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay"
)

// Whatever a receiver writes into webhook-delivery, it changes nothing but what the
// two words are for: no success turns into a failure, nothing is tried that would
// not have been, no circuit learns from it, nobody but a registered endpoint is
// disabled, and no byte of the header gets into a reason.
func FuzzHeed(f *testing.F) {
	for _, value := range []string{"disable", " Abort-Message\t", "disable, abort-message", "disable-me", "\"disable\"", "d\u0131\u017fable", "\x00\xff", ""} {
		f.Add(value, "", 500, true)
	}
	f.Add("disable", "abort-message", 410, true)
	f.Add("disable", "", 204, false)
	f.Fuzz(func(t *testing.T, first, second string, status int, registered bool) {
		h := http.Header{}
		h.Add("webhook-delivery", first)
		if second != "" {
			h.Add("webhook-delivery", second)
		}
		ep := relay.Endpoint{}
		if registered {
			ep.Name = "orders"
		}
		a := relay.Attempt{Kind: relay.Response, Status: status, Header: h}
		plain := judge(a, &ep)
		ep.Heed = true
		got := judge(a, &ep)

		word := meant(h["Webhook-Delivery"])
		want := plain
		switch {
		case word == "disable" && registered:
			want.disable = describeStatus(status) + " with webhook-delivery: disable"
		case word == "abort-message" && !plain.success:
			want.retry, want.disable, want.why = false, "", "the endpoint does not want it (webhook-delivery: abort-message)"
		}
		if got != want {
			t.Errorf("%q to %d: %+v, want %+v", h["Webhook-Delivery"], status, got, want)
		}
	})
}

// meant is what the header says, found in another way than heed finds it.
func meant(values []string) string {
	for _, word := range []string{"disable", "abort-message"} {
		if len(values) != 1 {
			return ""
		}
		left := strings.TrimLeft(values[0], " \t")
		if len(left) < len(word) || strings.TrimLeft(left[len(word):], " \t") != "" {
			continue
		}
		same := true
		for i := range word {
			c := left[i]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			same = same && c == word[i]
		}
		if same {
			return word
		}
	}
	return ""
}
