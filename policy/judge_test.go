package policy

import (
	"net/http"
	"testing"

	"github.com/relaywebhooks/relay"
)

// TestJudgeEveryStatus holds the table of judge.go, written a second time as
// numbers, against every status and what is no status.
func TestJudgeEveryStatus(t *testing.T) {
	retryable := map[int]bool{408: true, 425: true, 429: true}
	throttling := map[int]bool{429: true, 502: true, 503: true, 504: true}
	for status := -1; status <= 1000; status++ {
		got := judge(relay.Attempt{Kind: relay.Response, Status: status}, &relay.Endpoint{})
		success := status >= 200 && status <= 299
		permanent := status >= 400 && status <= 499 && !retryable[status]
		circuit := failing
		if success || permanent {
			circuit = alive
		}
		if got.success != success || got.retry != (!success && !permanent) {
			t.Errorf("%d: success %t, retry %t", status, got.success, got.retry)
		}
		if got.circuit != circuit || got.throttle != throttling[status] {
			t.Errorf("%d: teaches the circuit %s, throttles: %t", status, got.circuit, got.throttle)
		}
		if (got.why != "") != permanent {
			t.Errorf("%d: permanent because %q", status, got.why)
		}
	}
}

func TestJudgeEveryClass(t *testing.T) {
	tests := []struct {
		kind  relay.Kind
		class string
		want  judgement
	}{
		{relay.Error, "dns", judgement{retry: true, circuit: failing}},
		{relay.Error, "connect", judgement{retry: true, circuit: failing}},
		{relay.Error, "timeout", judgement{retry: true, circuit: failing}},
		{relay.Error, "tls", judgement{retry: true, circuit: failing}},
		{relay.Error, "reset", judgement{retry: true, circuit: failing}},
		{relay.Error, "protocol", judgement{retry: true, circuit: failing}},
		{relay.Error, "a new one", judgement{retry: true, circuit: failing}},
		{relay.Error, "", judgement{retry: true, circuit: failing}},
		{relay.Error, "panic", judgement{retry: true, circuit: nothing}},
		{relay.Unrecorded, "", judgement{retry: true, circuit: nothing}},
		{relay.Error, "request", judgement{circuit: nothing, why: "this request cannot be made"}},
		{relay.Error, "blocked", judgement{circuit: nothing, why: "nothing was sent"}},
		{relay.Blocked, "blocked", judgement{circuit: nothing, why: "nothing was sent"}},
		{relay.Blocked, "", judgement{circuit: nothing, why: "nothing was sent"}},
	}
	for _, test := range tests {
		// A status is looked at only if there was a response.
		a := relay.Attempt{Kind: test.kind, Class: test.class, Status: 200}
		if got := judge(a, &relay.Endpoint{}); got != test.want {
			t.Errorf("%s %q: %+v, want %+v", test.kind, test.class, got, test.want)
		}
	}
}

func TestJudgeByOtherSuccessCodes(t *testing.T) {
	codes := []relay.CodeRange{{From: 202, To: 202}, {From: 302, To: 303}, {From: 404, To: 404}}
	for status := 100; status <= 599; status++ {
		want := status == 202 || status == 302 || status == 303 || status == 404
		got := judge(relay.Attempt{Kind: relay.Response, Status: status}, &relay.Endpoint{SuccessCodes: codes})
		if got.success != want {
			t.Errorf("%d: success %t, want %t", status, got.success, want)
		}
		if status == http.StatusOK && (!got.retry || got.circuit != alive) {
			t.Errorf("a 200 that is no success: %+v, want another try and a living endpoint", got)
		}
	}
}

func TestDescribe(t *testing.T) {
	tests := []struct {
		attempt relay.Attempt
		want    string
	}{
		{relay.Attempt{Kind: relay.Response, Status: 503}, "503 Service Unavailable"},
		{relay.Attempt{Kind: relay.Response, Status: 599}, "status 599"},
		{relay.Attempt{Kind: relay.Error, Class: "dns", Err: "no such host"}, "dns: no such host"},
		{relay.Attempt{Kind: relay.Error, Class: "timeout"}, "timeout"},
		{relay.Attempt{Kind: relay.Unrecorded}, "unrecorded"},
	}
	for _, test := range tests {
		if got := describe(test.attempt); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// A registered endpoint that answers 410 is disabled, and what it answered 410 to
// is kept. Everything else means the same for it.
func TestJudgeGoneForARegisteredEndpoint(t *testing.T) {
	for status := 100; status <= 599; status++ {
		a := relay.Attempt{Kind: relay.Response, Status: status}
		want := judge(a, &relay.Endpoint{})
		if status == http.StatusGone {
			want.disable = "410 Gone"
		}
		if got := judge(a, &relay.Endpoint{Name: "orders"}); got != want {
			t.Errorf("%d: %+v, want %+v", status, got, want)
		}
	}
	codes := []relay.CodeRange{{From: 410, To: 410}}
	if got := judge(relay.Attempt{Kind: relay.Response, Status: 410}, &relay.Endpoint{Name: "odd", SuccessCodes: codes}); got != (judgement{success: true, circuit: alive}) {
		t.Errorf("a 410 that is a success: %+v", got)
	}
}

func TestJudgeHeedsTheHeader(t *testing.T) {
	named, heeding := relay.Endpoint{Name: "orders"}, relay.Endpoint{Name: "orders", Heed: true}
	const abort = "the endpoint does not want it (webhook-delivery: abort-message)"
	for name, c := range map[string]struct {
		endpoint relay.Endpoint
		status   int
		said     string
		want     judgement
	}{
		"not heeded":              {named, 500, "disable", judgement{retry: true, circuit: failing}},
		"disable with a failure":  {heeding, 500, "disable", judgement{retry: true, circuit: failing, disable: "500 Internal Server Error with webhook-delivery: disable"}},
		"disable with a refusal":  {heeding, 404, "Disable", judgement{circuit: alive, why: "trying again would not help", disable: "404 Not Found with webhook-delivery: disable"}},
		"disable with a success":  {heeding, 200, " disable ", judgement{success: true, circuit: alive, disable: "200 OK with webhook-delivery: disable"}},
		"disable, not registered": {relay.Endpoint{Heed: true}, 200, "disable", judgement{success: true, circuit: alive}},
		"abort with a failure":    {heeding, 503, "abort-message", judgement{circuit: failing, throttle: true, why: abort}},
		"abort with a refusal":    {heeding, 404, "ABORT-MESSAGE", judgement{circuit: alive, why: abort}},
		"abort with 410":          {heeding, 410, "abort-message", judgement{circuit: alive, why: abort}},
		"abort with a success":    {heeding, 204, "abort-message", judgement{success: true, circuit: alive}},
		"410 that says nothing":   {heeding, 410, "", judgement{circuit: alive, why: noMore, disable: "410 Gone"}},
		"something else":          {heeding, 500, "disable-me", judgement{retry: true, circuit: failing}},
		"a list":                  {heeding, 500, "disable, abort-message", judgement{retry: true, circuit: failing}},
		"a list of one":           {heeding, 500, "disable,", judgement{retry: true, circuit: failing}},
		"in quotes":               {heeding, 500, `"disable"`, judgement{retry: true, circuit: failing}},
		"with a parameter":        {heeding, 500, "disable; now", judgement{retry: true, circuit: failing}},
		"in look-alike letters":   {heeding, 500, "di\u017fable", judgement{retry: true, circuit: failing}},
		"with a dotted capital I": {heeding, 500, "d\u0130sable", judgement{retry: true, circuit: failing}},
		"with a space of Unicode": {heeding, 500, "\u00a0disable", judgement{retry: true, circuit: failing}},
	} {
		a := relay.Attempt{Kind: relay.Response, Status: c.status, Header: http.Header{"Webhook-Delivery": {c.said}}}
		if got := judge(a, &c.endpoint); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	for _, two := range [][]string{{"disable", "abort-message"}, {"x", "disable"}, {"disable", "disable"}} {
		a := relay.Attempt{Kind: relay.Response, Status: 500, Header: http.Header{"Webhook-Delivery": two}}
		if got := judge(a, &heeding); got != (judgement{retry: true, circuit: failing}) {
			t.Errorf("%q: %+v", two, got)
		}
	}
}
