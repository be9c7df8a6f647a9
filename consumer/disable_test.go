package consumer_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
)

func TestTheHeaderWebhookDeliveryIsHeeded(t *testing.T) {
	t.Parallel()
	r, key := startWithShop(t, relaytest.Options{})
	say := func(status int, what string) {
		r.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("webhook-delivery", what)
			w.WriteHeader(status)
		})
	}
	say(500, "abort-message")
	if w := r.RequireDead(r.Publish(map[string]any{"endpoint": "shop"})); w.Attempts != 1 || w.Status != "dead" ||
		w.Reason != "500 Internal Server Error: the endpoint does not want it (webhook-delivery: abort-message)" {
		t.Errorf("aborted: %+v", w)
	}
	say(200, "abort-message")
	r.RequireDelivered(r.Publish(map[string]any{"endpoint": "shop"}))
	say(200, "disable")
	r.RequireDelivered(r.Publish(map[string]any{"endpoint": "shop"}))
	held := r.Publish(map[string]any{"endpoint": "shop"})
	requireParked(t, r, 1)
	if w := r.Webhooks(held)[0]; w.Attempts != 0 || w.Reason != "held: disabled: 200 OK with webhook-delivery: disable" {
		t.Errorf("recorded %+v", w)
	}
	set(t, r, key, endpoint.Enabled, "")
	r.RequireDelivered(held)
	// Nobody said that this one may decide anything.
	other := relaytest.NewReceiver(t)
	other.Always(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("webhook-delivery", "disable") })
	for range 2 {
		r.RequireDelivered(r.Publish(map[string]any{"url": other.URL}))
	}
}

// A registered endpoint that has failed for long is disabled. One that was enabled
// since then has its time anew, and one that is not registered is left alone.
func TestAnEndpointThatHasFailedForLongIsDisabled(t *testing.T) {
	t.Parallel()
	const long = 5 * 24 * time.Hour
	r, key := startWithShop(t, relaytest.Options{Consumer: consumer.Options{Sweep: 50 * time.Millisecond}})
	told := heard(t, r, "relay.events.endpoint.disabled.>")
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	fail := func(to map[string]any) {
		to["max_attempts"] = 1
		r.RequireDead(r.Publish(to))
	}
	move := func(by time.Duration) {
		if _, err := r.DB.Exec(t.Context(), "UPDATE relay.endpoints SET failing_since = last_failure_at - $1::interval", by); err != nil {
			t.Fatal(err)
		}
	}
	fail(map[string]any{"endpoint": "shop"})
	fail(map[string]any{"url": r.Receiver.URL + "/other"})
	move(long - time.Minute)
	looks()
	if ep, err := r.Store.Get(t.Context(), key); err != nil || ep.State.Held != "" {
		t.Fatalf("too soon: %+v, %v", ep.State, err)
	}
	move(long + time.Minute)
	if !r.Eventually(func() bool { ep, err := r.Store.Get(t.Context(), key); return err == nil && ep.State.DisabledAt != nil }) {
		t.Fatal("it is not disabled")
	}
	if ep, _ := r.Store.Get(t.Context(), key); !strings.HasPrefix(ep.State.DisabledReason, "failing since ") {
		t.Errorf("%+v", ep.State)
	}
	kept := r.Publish(map[string]any{"endpoint": "shop"})
	requireParked(t, r, 1)
	set(t, r, key, endpoint.Enabled, "")
	r.Eventually(func() bool { return len(r.Attempts(kept)) > 0 })
	looks() // it still fails, but not yet for long
	if ep, err := r.Store.Get(t.Context(), key); err != nil || ep.State.Held != "" {
		t.Errorf("disabled again: %+v, %v", ep.State, err)
	}
	if _, err := r.Store.Get(t.Context(), endpoint.Key(r.Receiver.URL+"/other")); err == nil {
		t.Error("one that is not registered was disabled")
	}
	if len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
}

// What is kept for one that was disabled so is delivered when it is enabled.
func TestWhatALongFailureKeptIsDelivered(t *testing.T) {
	t.Parallel()
	const n = 20
	r, key := startWithShop(t, relaytest.Options{Consumer: consumer.Options{Sweep: 50 * time.Millisecond}})
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	r.RequireDead(r.Publish(map[string]any{"endpoint": "shop", "max_attempts": 1}))
	if _, err := r.DB.Exec(t.Context(), "UPDATE relay.endpoints SET failing_since = last_failure_at - interval '6 days'"); err != nil {
		t.Fatal(err)
	}
	if !r.Eventually(func() bool { // the table says so a moment before relay knows
		held, err := r.Conn.Request(endpoint.SubjectEndpoints+"list", []byte(`{"held": true}`), relaytest.Patience)
		return err == nil && strings.Contains(string(held.Data), key)
	}) {
		t.Fatal("it is not disabled")
	}
	forShop(t, r, r.Receiver.URL, n)
	requireParked(t, r, n)
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	set(t, r, key, endpoint.Enabled, "")
	requireDelivered(t, r, n, "shop_")
	requireOnce(t, r.Receiver, n, "shop_", nil)
	requireEmpty(t, r)
}

// looks waits until relay has looked for failing endpoints a few times.
func looks() { <-time.After(time.Second) } // every 300 ms
