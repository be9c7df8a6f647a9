package relaytest

import (
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
)

// Webhook is a row of relay.webhooks.
type Webhook struct {
	Status, Place, Reason string
	Attempts, Generation  int
	Key                   relay.Key
	EndpointKey           string
}

// Attempt is a row of relay.attempts.
type Attempt struct {
	Number, Generation, Status int
	Kind, Class, Message       string
	Success                    bool
	Started                    time.Time
	Body                       []byte
}

// RequireDelivered waits until every event with the webhook id is delivered.
func (r *Relay) RequireDelivered(id string) Webhook {
	r.t.Helper()
	return r.RequireStatus(id, "delivered")
}

// RequireDead waits until every event with the webhook id is failed or dead
// and its letter is stored, and returns the last one.
func (r *Relay) RequireDead(id string) Webhook {
	r.t.Helper()
	w := r.RequireStatus(id, "failed", "dead")
	r.Letter(w)
	return w
}

// RequireStatus waits until every event with the webhook id has one of the
// statuses, and returns the newest. It does not wait for what cannot be any
// more: a delivered webhook stays delivered.
func (r *Relay) RequireStatus(id string, statuses ...string) Webhook {
	r.t.Helper()
	var last []Webhook
	hopeless := false
	ok := r.Eventually(func() bool {
		last = r.Webhooks(id)
		for _, w := range last {
			if !slices.Contains(statuses, w.Status) {
				hopeless = w.Status == "delivered"
				return hopeless
			}
		}
		return len(last) > 0
	})
	if !ok || hopeless {
		r.t.Fatalf("relaytest: webhook %s is not %v: %+v; its attempts: %+v", id, statuses, last, r.Attempts(id))
	}
	return last[len(last)-1]
}

// Letter waits for the dead letter of a webhook.
func (r *Relay) Letter(w Webhook) *jetstream.RawStreamMsg {
	r.t.Helper()
	var letter *jetstream.RawStreamMsg
	subject := fmt.Sprintf("webhooks.dead.%s.%s", w.EndpointKey, w.Key)
	ok := r.Eventually(func() bool {
		stream, err := r.JS.Stream(r.t.Context(), consumer.StreamDead)
		r.check(err)
		letter, err = stream.GetLastMsgForSubject(r.t.Context(), subject)
		return err == nil
	})
	if !ok {
		r.t.Fatalf("relaytest: no dead letter on %s", subject)
	}
	return letter
}

// Webhooks returns the rows of all events with a webhook id, oldest first.
func (r *Relay) Webhooks(id string) []Webhook {
	r.t.Helper()
	rows, err := r.DB.Query(r.t.Context(), `SELECT status, coalesce(place, ''), coalesce(reason, ''), attempts, generation,
		accepted_at, seq, endpoint_key FROM relay.webhooks WHERE webhook_id = $1 ORDER BY accepted_at, seq`, id)
	r.check(err)
	defer rows.Close()
	var all []Webhook
	for rows.Next() {
		var w Webhook
		var seq int64
		r.check(rows.Scan(&w.Status, &w.Place, &w.Reason, &w.Attempts, &w.Generation, &w.Key.Time, &seq, &w.EndpointKey))
		w.Key = relay.NewKey(w.Key.Time, uint64(max(seq, 0)))
		all = append(all, w)
	}
	r.check(rows.Err())
	return all
}

// Attempts returns the audit rows of all events with a webhook id, in the
// order in which the attempts were made.
func (r *Relay) Attempts(id string) []Attempt {
	r.t.Helper()
	rows, err := r.DB.Query(r.t.Context(), `SELECT a.number, a.generation, coalesce(a.status, 0), a.kind, coalesce(a.error_class, ''),
		coalesce(a.error_message, ''), a.success, a.started_at, a.response_body
		FROM relay.attempts a JOIN relay.webhooks w USING (accepted_at, seq)
		WHERE w.webhook_id = $1 ORDER BY a.generation, a.number, a.started_at`, id)
	r.check(err)
	defer rows.Close()
	var all []Attempt
	for rows.Next() {
		var a Attempt
		r.check(rows.Scan(&a.Number, &a.Generation, &a.Status, &a.Kind, &a.Class, &a.Message, &a.Success, &a.Started, &a.Body))
		all = append(all, a)
	}
	r.check(rows.Err())
	return all
}
