package policy_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

// A held endpoint is not called, whatever else there is to say about it, and
// nobody knows for how long.
func TestAHeldEndpointIsNotCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(exact)
		paused := orders
		paused.Held = "paused: they move house"
		want := relay.Verdict{Action: relay.Defer, Reason: "held: paused: they move house", Place: relay.Parked}
		for _, known := range []bool{false, true} {
			if known {
				fail(t, s, 5) // its circuit is open
			}
			if v, refused := s.Refuses(paused); !refused || v != want {
				t.Errorf("Refuses: %t, %+v", refused, v)
			}
			as, v := s.Do(t.Context(), paused, relay.Webhook{MaxAttempts: 1}, relay.Claim{Made: 1}, never(t))
			if len(as) != 0 || v != want {
				t.Errorf("Do: %d attempts, %+v", len(as), v)
			}
		}
		time.Sleep(30 * time.Second)
		if v, refused := s.Refuses(orders); refused {
			t.Errorf("held no longer: %+v", v)
		}
	})
}

// What a registered endpoint answers 410 to is not dead, not even with its last
// attempt: it waits until somebody enables the endpoint again.
func TestGoneDisablesARegisteredEndpoint(t *testing.T) {
	url := relay.Endpoint{Key: "url", URL: orders.URL}
	as, v := policy.New(exact).Do(t.Context(), url, relay.Webhook{}, relay.Claim{}, answer(410))
	if len(as) != 1 || v != (relay.Verdict{Action: relay.Dead, Reason: "410 Gone: the endpoint wants no more webhooks"}) {
		t.Errorf("not registered: %d attempts, %+v", len(as), v)
	}
	w := relay.Webhook{MaxAttempts: 1, ExpiresAt: time.Now().Add(time.Second)}
	as, v = policy.New(exact).Do(t.Context(), orders, w, relay.Claim{}, answer(410))
	if want := (relay.Verdict{Action: relay.Retry, After: time.Minute, Reason: "410 Gone", Disable: "410 Gone"}); len(as) != 1 || v != want {
		t.Errorf("%d attempts, %+v, want %+v", len(as), v, want)
	}
}

// said answers with the header webhook-delivery.
func said(status int, what string) send {
	return func(context.Context) relay.Attempt {
		return relay.Attempt{Kind: relay.Response, Status: status, Header: http.Header{"Webhook-Delivery": {what}}}
	}
}

func TestDoHeedsWhatTheReceiverSays(t *testing.T) {
	heeding := orders
	heeding.Heed = true
	for _, test := range []struct {
		send send
		want relay.Verdict
	}{
		{said(200, "disable"), relay.Verdict{Action: relay.Delivered, Disable: "200 OK with webhook-delivery: disable"}},
		{said(500, "disable"), relay.Verdict{
			Action: relay.Retry, After: time.Minute,
			Reason: "500 Internal Server Error with webhook-delivery: disable", Disable: "500 Internal Server Error with webhook-delivery: disable",
		}},
		{said(200, "abort-message"), relay.Verdict{Action: relay.Delivered}},
		{said(500, "abort-message"), relay.Verdict{
			Action: relay.Dead, Reason: "500 Internal Server Error: the endpoint does not want it (webhook-delivery: abort-message)",
		}},
	} {
		_, v := policy.New(exact).Do(t.Context(), heeding, relay.Webhook{}, relay.Claim{}, test.send)
		if v != test.want {
			t.Errorf("%+v, want %+v", v, test.want)
		}
	}
}

// Failing is what counts against the circuit.
func TestDoSaysWhatCountsAgainstTheEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		send send
		want bool
	}{
		"a success": {answer(200), false}, "a refusal": {answer(404), false}, "gone": {answer(410), false},
		"an error": {answer(500), true}, "too many": {answer(429), true}, "no answer": {failure("timeout"), true},
		"blocked": {failure("blocked"), false}, "a panic": {panics, false},
	} {
		as, _ := do(t, policy.New(exact), c.send)
		if len(as) != 1 || as[0].Failing != c.want {
			t.Errorf("%s: %+v, want %t", name, as, c.want)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	as, _ := policy.New(exact).Do(ctx, orders, relay.Webhook{}, relay.Claim{}, func(context.Context) relay.Attempt {
		stop()
		return relay.Attempt{Kind: relay.Error, Class: "canceled"}
	})
	if len(as) != 1 || as[0].Failing {
		t.Errorf("cut off by relay: %+v", as)
	}
}
