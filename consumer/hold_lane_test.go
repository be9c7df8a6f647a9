package consumer_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
)

// While an endpoint is held its events do not expire, unless their producer said
// when. Those are given up in time, wherever they are in the lane.
func TestOnlyWhatItsProducerSaidExpiresInAHeldLane(t *testing.T) {
	t.Parallel()
	r, key := startWithShop(t, relaytest.Options{Consumer: consumer.Options{ExpiresAfter: time.Millisecond, Sweep: 200 * time.Millisecond}})
	set(t, r, key, endpoint.Paused, "")
	forShop(t, r, r.Receiver.URL, 20)
	own := r.Publish(map[string]any{"endpoint": "shop", "expires_at": time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339)})
	for i := range 20 {
		r.Publish(map[string]any{"endpoint": "shop", "id": fmt.Sprint("behind_", i)})
	}
	requireParked(t, r, 41)
	if w := r.RequireDead(own); !strings.HasPrefix(w.Reason, "expired: not delivered by") {
		t.Errorf("recorded %+v", w)
	}
	requireParked(t, r, 40)
	if job := laneJob(t, r, consumer.SubjectExpire, "shop"); job.Buried != 0 {
		t.Errorf("%+v", job)
	}
	if n := rows(t, r, "shop_", "pending") + rows(t, r, "behind_", "pending"); n != 40 || len(r.Receiver.Requests()) != 0 {
		t.Errorf("%d of 40 wait, %d requests", n, len(r.Receiver.Requests()))
	}
}

// What an operator may ask of a held lane.
func TestAHeldLaneAnswersOperators(t *testing.T) {
	t.Parallel()
	r, key := startWithShop(t, relaytest.Options{})
	set(t, r, key, endpoint.Disabled, "they did not pay")
	forShop(t, r, r.Receiver.URL, 30)
	requireParked(t, r, 30)
	if l := lanes(t, r, "shop").Lanes; len(l) != 1 || l[0].State != consumer.LaneHeld || l[0].Held != "disabled: they did not pay" || l[0].Events != 30 {
		t.Errorf("%+v", l)
	}
	answer, err := r.Conn.Request(consumer.SubjectDrain, []byte("shop"), 5*time.Second)
	if err != nil || answer.Header.Get("Nats-Service-Error-Code") != "409" || !strings.Contains(string(answer.Data), "disabled: they did not pay") {
		t.Errorf("%v %v %s", err, answer.Header, answer.Data)
	}
	if job := laneJob(t, r, consumer.SubjectBury, "shop gone for good"); job.Buried != 30 {
		t.Errorf("%+v", job)
	}
	if w := r.RequireDead("shop_7"); w.Reason != "buried: gone for good" || w.Attempts != 0 {
		t.Errorf("recorded %+v", w)
	}
	if !r.Eventually(func() bool { return stored(t, r, consumer.StreamDead) == 30 }) { // the job has only asked for that
		t.Fatalf("%d letters, want 30", stored(t, r, consumer.StreamDead))
	}
	replay(t, r, "all") // a replay of what is held is held as well
	requireParked(t, r, 30)
	set(t, r, key, endpoint.Enabled, "")
	requireDelivered(t, r, 30, "shop_")
	requireEmpty(t, r)
	requireOnce(t, r.Receiver, 30, "shop_", nil)
}

// An endpoint that is known by its URL alone can be paused too.
func TestAURLCanBeHeld(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{Consumer: consumer.Options{Sweep: time.Hour}})
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL + "/a"}))
	key := endpoint.Key(r.Receiver.URL + "/a")
	c := endpoint.Change{What: endpoint.Paused, Key: key, URL: r.Receiver.URL + "/a"}
	if err := r.Store.Set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	id := r.Publish(map[string]any{"url": r.Receiver.URL + "/a?x=1"})
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL + "/b"}))
	requireParked(t, r, 1)
	c.What = endpoint.Resumed
	if err := r.Store.Set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r.RequireDelivered(id)
	requireEmpty(t, r)
}
