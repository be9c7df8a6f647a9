package consumer_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// An endpoint moves, with a new token, while an event is in hand. The token is for
// its new URL alone: the event is read again, and goes where it belongs now.
func TestWhatWasReadBeforeAMoveIsNotSentToTheOldURL(t *testing.T) {
	t.Parallel()
	for name, byURL := range map[string]bool{"by its name": false, "by its URL": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r *relaytest.Relay
			next := relaytest.NewReceiver(t)
			var moving atomic.Bool
			r = relaytest.Start(t, relaytest.Options{Consumer: consumer.Options{At: func(p consumer.Point) {
				if p == consumer.AfterClaim && moving.Swap(false) {
					r.Register(map[string]any{"name": "shop", "url": next.URL + "/new", "bearer": "new"})
				}
			}}})
			r.Register(map[string]any{"name": "shop", "url": r.Receiver.URL + "/old", "bearer": "old"})
			to := map[string]any{"endpoint": "shop"}
			if byURL {
				to = map[string]any{"url": r.Receiver.URL + "/old?q=1"}
			}
			said, err := r.Conn.SubscribeSync(consumer.SubjectEvents + "defer.>")
			if err != nil {
				t.Fatal(err)
			}
			moving.Store(true)
			id := r.Publish(to)
			if w := r.RequireDelivered(id); w.Attempts != 1 {
				t.Errorf("recorded %+v", w)
			}
			if m, err := said.NextMsg(relaytest.Patience); err != nil || !strings.Contains(string(m.Data), "its endpoint has moved") {
				t.Errorf("why it waited: %v, %v", m, err)
			}
			old := r.Receiver.Requests()
			for _, req := range old {
				if req.Header.Get("Authorization") != "" {
					t.Errorf("the old URL was shown %q", req.Header.Get("Authorization"))
				}
			}
			switch now := next.Requests(); {
			case byURL && (len(old) != 1 || len(now) != 0): // it is a URL as any other now
				t.Errorf("%d requests to the old URL, %d to the new one", len(old), len(now))
			case !byURL && (len(old) != 0 || len(now) != 1 || now[0].Header.Get("Authorization") != "Bearer new"):
				t.Errorf("%d requests to the old URL, and to the new one %+v", len(old), now)
			}
		})
	}
}
