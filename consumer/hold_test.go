package consumer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
)

// startWithShop starts a relay that sweeps once, when it starts, and registers its
// receiver as the endpoint shop.
func startWithShop(t *testing.T, o relaytest.Options) (*relaytest.Relay, string) {
	t.Helper()
	if o.Consumer.Sweep == 0 {
		o.Consumer.Sweep = time.Hour
	}
	r := relaytest.Start(t, o)
	return r, r.Register(map[string]any{"name": "shop", "url": r.Receiver.URL + "/shop", "heed": true}).State.Key
}

// set pauses, resumes, disables or enables an endpoint.
func set(t *testing.T, r *relaytest.Relay, key, what, reason string) {
	t.Helper()
	if err := r.Store.Set(t.Context(), endpoint.Change{What: what, Key: key, Name: "shop", Reason: reason, By: "a test"}); err != nil {
		t.Fatal(err)
	}
}

// forShop publishes n events for the endpoint shop, half of them by its name.
func forShop(t *testing.T, r *relaytest.Relay, shop string, n int) {
	t.Helper()
	for i := range n {
		to := map[string]any{"endpoint": "shop", "id": fmt.Sprint("shop_", i)}
		if i%2 == 1 {
			to = map[string]any{"url": shop + "/shop?n=1", "id": to["id"]}
		}
		r.Publish(to)
	}
}

// requireOnce fails the test if a receiver got an event of some that begin so less
// or more than once, beside those that it answered otherwise.
func requireOnce(t *testing.T, receiver *relaytest.Receiver, n int, prefix string, but map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, req := range receiver.Requests() {
		got[req.ID()]++
	}
	for i := range n {
		if id := fmt.Sprint(prefix, i); got[id] != 1+but[id] {
			t.Errorf("%s came %d times, want %d", id, got[id], 1+but[id])
		}
	}
}

// heard collects what relay tells of endpoints.
func heard(t *testing.T, r *relaytest.Relay, subject string) <-chan *nats.Msg {
	t.Helper()
	events := make(chan *nats.Msg, 100)
	if _, err := r.Conn.ChanSubscribe(subject, events); err != nil {
		t.Fatal(err)
	}
	if err := r.Conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return events
}

// A registered endpoint answers 410. It is disabled, which is told once; what it
// refused and what comes after is kept, not dead; and when it is enabled again all
// of it is delivered, once.
func TestGoneKeepsEventsUntilTheEndpointIsEnabled(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"in one life": false, "over a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 60
			r, key := startWithShop(t, relaytest.Options{})
			told := heard(t, r, "relay.events.endpoint.disabled.>")
			r.Receiver.Answer(410)
			first := r.Publish(map[string]any{"endpoint": "shop", "id": "first", "max_attempts": 1})
			r.Eventually(func() bool { ws := r.Webhooks(first); return len(ws) == 1 && ws[0].Place == "lane" })
			if w := r.Webhooks(first)[0]; w.Status != "pending" || w.Reason != "held: disabled: 410 Gone" || w.Attempts != 1 {
				t.Fatalf("recorded %+v", w)
			}
			receiver, url := r.Receiver, r.Receiver.URL
			forShop(t, r, url, n)
			requireParked(t, r, n+1)
			if got := len(receiver.Requests()); got != 1 {
				t.Errorf("%d requests, want the one that was answered 410", got)
			}
			requireTold(t, told, key)
			if restart {
				r.Stop()
				r = relaytest.Start(t, relaytest.Options{NATS: r.NATS, DatabaseURL: r.URL, Consumer: consumer.Options{Sweep: time.Hour}})
				forShop(t, r, url, n+1) // the last one is new, the others are duplicates of the receiver's
				requireParked(t, r, 2*n+2)
				set(t, r, key, endpoint.Enabled, "")
				requireDelivered(t, r, 2*n+1, "shop_")
			} else {
				set(t, r, key, endpoint.Enabled, "")
				requireDelivered(t, r, n, "shop_")
				requireOnce(t, receiver, n, "shop_", nil)
			}
			r.RequireDelivered(first)
			requireEmpty(t, r)
			if as := r.Attempts(first); len(as) != 2 || as[0].Status != 410 || as[1].Status != 200 || as[1].Number != 1 {
				t.Errorf("attempts of the first: %+v", as)
			}
			if want := map[bool]int{false: n + 2, true: 2*n + 3}[restart]; len(receiver.Requests()) != want {
				t.Errorf("%d requests, want %d", len(receiver.Requests()), want)
			}
		})
	}
}

// requireTold waits for the event of an endpoint that was disabled, the only one.
func requireTold(t *testing.T, events <-chan *nats.Msg, key string) {
	t.Helper()
	select {
	case m := <-events:
		var e struct{ Event, Endpoint, Endpoint_Name, Reason string } //nolint:revive // as in the JSON
		if err := json.Unmarshal(m.Data, &e); err != nil || e.Event != "endpoint.disabled" || e.Endpoint != key ||
			e.Endpoint_Name != "shop" || e.Reason != "410 Gone" {
			t.Errorf("%s: %s", m.Subject, m.Data)
		}
	case <-time.After(relaytest.Patience):
		t.Error("nobody was told")
	}
	if len(events) > 0 {
		t.Errorf("told again: %s", (<-events).Data)
	}
}

// Many requests are answered 410 at the same time. The endpoint is disabled once.
func TestManyAreGoneAtOnce(t *testing.T) {
	t.Parallel()
	const n = 40
	r, key := startWithShop(t, relaytest.Options{})
	told := heard(t, r, "relay.events.endpoint.disabled.>")
	var came atomic.Int64
	all := make(chan struct{})
	r.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
		if came.Add(1) == n {
			close(all)
		}
		<-all
		w.WriteHeader(http.StatusGone)
	})
	forShop(t, r, r.Receiver.URL, n)
	requireParked(t, r, n)
	requireTold(t, told, key)
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	set(t, r, key, endpoint.Enabled, "")
	requireDelivered(t, r, n, "shop_")
	requireEmpty(t, r)
}

// A lane that drains meets 410 once more: what was under way goes back into the
// lane, and nothing is lost or sent twice.
func TestADrainThatIsHeldGoesBack(t *testing.T) {
	t.Parallel()
	const n = 200
	r, key := startWithShop(t, relaytest.Options{})
	set(t, r, key, endpoint.Paused, "they move house")
	forShop(t, r, r.Receiver.URL, n)
	requireParked(t, r, n)
	if w := r.Webhooks("shop_0")[0]; w.Reason != "held: paused: they move house" || w.Status != "pending" || w.Attempts != 0 {
		t.Errorf("recorded %+v", w)
	}
	refused := map[string]int{}
	var served atomic.Int64
	r.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
		if served.Add(1) > 20 {
			w.WriteHeader(http.StatusGone)
		}
	})
	set(t, r, key, endpoint.Resumed, "")
	if !r.Eventually(func() bool { return served.Load() > 20 && stored(t, r, consumer.StreamLater) == n-20 }) {
		t.Fatalf("%d requests, %d parked", served.Load(), count(t, r, "webhooks.parked.>"))
	}
	requireParked(t, r, n-20)
	for i, req := range r.Receiver.Requests() {
		if i >= 20 {
			refused[req.ID()]++
		}
	}
	before := len(r.Receiver.Requests())
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	set(t, r, key, endpoint.Enabled, "")
	requireDelivered(t, r, n, "shop_")
	requireEmpty(t, r)
	if got := len(r.Receiver.Requests()) - before; got != n-20 {
		t.Errorf("%d requests after it was enabled, want %d", got, n-20)
	}
	requireOnce(t, r.Receiver, n, "shop_", refused)
}

// What waits elsewhere when an endpoint is paused goes to its lane when it is due.
func TestWhatIsAsleepOrScheduledIsHeldWhenItIsDue(t *testing.T) {
	t.Parallel()
	r, key := startWithShop(t, relaytest.Options{})
	r.Receiver.Answer(500)
	asleep := r.Publish(map[string]any{"endpoint": "shop"})
	r.Next()
	set(t, r, key, endpoint.Paused, "")
	scheduled := r.Publish(map[string]any{"endpoint": "shop", "scheduled_at": time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339)})
	requireParked(t, r, 2)
	for _, id := range []string{asleep, scheduled} {
		if w := r.Webhooks(id)[0]; w.Place != "lane" || !strings.HasPrefix(w.Reason, "held: paused") {
			t.Errorf("recorded %+v", w)
		}
	}
	if n := len(r.Receiver.Requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
	set(t, r, key, endpoint.Resumed, "")
	r.RequireDelivered(asleep)
	r.RequireDelivered(scheduled)
	requireEmpty(t, r)
}

// An endpoint that is paused between the claim and the request is not called.
func TestAHoldAfterTheClaimIsHeeded(t *testing.T) {
	t.Parallel()
	var r *relaytest.Relay
	var key string
	var pausing atomic.Bool
	r, key = startWithShop(t, relaytest.Options{Consumer: consumer.Options{At: func(p consumer.Point) {
		if p == consumer.AfterClaim && pausing.Swap(false) {
			set(t, r, key, endpoint.Paused, "")
		}
	}}})
	pausing.Store(true)
	id := r.Publish(map[string]any{"endpoint": "shop"})
	requireParked(t, r, 1)
	if w := r.Webhooks(id)[0]; len(r.Receiver.Requests()) != 0 || w.Attempts != 0 || !strings.HasPrefix(w.Reason, "held: paused") {
		t.Errorf("%d requests, recorded %+v", len(r.Receiver.Requests()), w)
	}
}

// Ten thousand events of a paused endpoint do not hold up one of another, nor does
// any of them cost a claim.
func TestAPausedEndpointDoesNotHoldUpAHealthyOne(t *testing.T) {
	const n = 10_000
	var claims atomic.Int64
	r, key := startWithShop(t, relaytest.Options{Consumer: consumer.Options{At: func(p consumer.Point) {
		if p == consumer.AfterClaim {
			claims.Add(1)
		}
	}}})
	set(t, r, key, endpoint.Paused, "")
	for i := range n {
		body := fmt.Sprintf(`{"endpoint": "shop", "id": "shop_%d"}`, i)
		if _, err := r.JS.PublishAsync(consumer.SubjectOutbound, []byte(body)); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 999 {
			<-r.JS.PublishAsyncComplete()
		}
	}
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL + "/healthy"}))
	t.Logf("%d of %d in the lane when the healthy one was delivered", count(t, r, "webhooks.parked.>"), n)
	requireReached(t, r, n, func() int { return count(t, r, "webhooks.parked.>") })
	if claims.Load() != 1 {
		t.Errorf("%d claims, want one", claims.Load())
	}
	set(t, r, key, endpoint.Resumed, "")
	requireDelivered(t, r, n, "shop_")
	requireEmpty(t, r)
	requireOnce(t, r.Receiver, n, "shop_", nil)
}
