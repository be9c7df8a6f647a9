package consumer_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

// Schedules whose messages somebody purged stay overdue for ever. However many
// they are, one that is really stuck behind them is found, and they are not
// asked for with every sweep.
func TestPurgedSchedulesHideNoStuckOne(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{
		Policy:   policy.Options{Schedule: []time.Duration{time.Hour}, Jitter: -1},
		Consumer: consumer.Options{Sweep: 100 * time.Millisecond},
	})
	var asked atomic.Int64
	sub, err := r.Conn.Subscribe("$JS.API.DIRECT.GET.WEBHOOKS_LATER.>", func(*nats.Msg) { asked.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	const purged = 1700
	r.Publish(map[string]any{"url": r.Receiver.URL, "id": "first"})
	r.RequireDelivered("first") // today's partition is there
	if _, err := r.DB.Exec(t.Context(), `
		INSERT INTO relay.webhooks (accepted_at, seq, webhook_id, endpoint_key, url, method, body, status, place, next_due)
		SELECT now(), 1000000 + n, 'purged', 'purged', 'http://127.0.0.1', 'POST', '', 'pending', 'schedule',
			now() - interval '1 h' + (n / 1000) * interval '1 s'
		FROM generate_series(1, $1) n`, purged); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.Receiver.Answer(http.StatusInternalServerError) // then 200
		id := r.Publish(map[string]any{"url": r.Receiver.URL})
		schedule(t, r, id, 0)
		if _, err := r.DB.Exec(t.Context(), `
			UPDATE relay.webhooks SET next_due = now() - interval '2 min' WHERE webhook_id = $1`, id); err != nil {
			t.Fatal(err)
		}
		r.RequireDelivered(id)
	}
	if n := asked.Load(); n < purged || n > purged+100 {
		t.Errorf("%d schedules were asked for, of which %d are purged", n, purged)
	}
}
