package audit

import (
	"cmp"

	"github.com/relaywebhooks/relay"
)

// Bounds of texts in a row, in bytes. Valid events stay below them (see
// limits.go of the root); they keep what an invalid one says within what an
// index can hold and a person can read.
const (
	maxName = 512
	maxText = 8 << 10
)

// holders are the events of a batch that take an idempotency key, by column.
type holders struct {
	tenant, key texts
	at          times
	seq         numbers
	id          texts
}

func (h *holders) args() []any { return []any{h.tenant, h.key, h.at, h.seq, h.id} }

// takesKey returns the idempotency key that an event takes, or "". A replay
// ignores it; an invalid event must not take one from a valid event.
func takesKey(w *relay.Webhook) string {
	if w.Generation > 0 || w.EndpointKey == relay.InvalidEndpoint || len(w.IdempotencyKey) > relay.MaxName {
		return ""
	}
	return text(w.IdempotencyKey, maxName)
}

func holderColumns(batch []*call[claiming, relay.Claim]) (h holders) {
	for _, q := range batch {
		key := takesKey(&q.in.webhook)
		if key == "" {
			continue
		}
		h.add(&q.in.webhook, key)
	}
	return h
}

func (h *holders) add(w *relay.Webhook, key string) {
	h.tenant, h.key = append(h.tenant, text(w.Tenant, maxName)), append(h.key, key)
	h.at = append(h.at, w.Key.Time)
	h.seq = append(h.seq, int64(w.Key.Seq)) //nolint:gosec // JetStream's sequences stay far below 2^63
	h.id = append(h.id, text(w.ID, maxName))
}

// webhookColumns returns the parameters of insertWebhooks: one array a column. The
// bodies come first and one after the other, with arrays of where each begins and
// how long it is: pgx would copy an array of them three times as it grows.
func (l *Log) webhookColumns(batch []*call[claiming, relay.Claim]) []any {
	n := len(batch)
	moments := make(times, 3*n)
	words := make(texts, 14*n)
	var (
		accepted, scheduled, expires          = moments[:n], moments[n : 2*n], moments[2*n:]
		seq, generation, attempts             = make(numbers, n), make([]int32, n), make([]int32, n)
		id, tenant, event                     = words[:n], words[n : 2*n], words[2*n : 3*n]
		endpoint, name, url                   = words[3*n : 4*n], words[4*n : 5*n], words[5*n : 6*n]
		method, content, headers              = words[6*n : 7*n], words[7*n : 8*n], words[8*n : 9*n]
		metadata, idempotency, reasons, takes = words[9*n : 10*n], words[10*n : 11*n], words[11*n : 12*n], words[12*n : 13*n]
		place                                 = words[13*n:]
		bodies                                = make([]byte, 0, bodyBytes(batch))
		from, length                          = make([]int32, n), make([]int32, n)
		claim                                 = make(ids, n)
	)
	for i, q := range batch {
		w := &q.in.webhook
		accepted[i], scheduled[i], expires[i] = w.Key.Time, w.ScheduledAt, w.ExpiresAt
		seq[i] = int64(w.Key.Seq) //nolint:gosec // JetStream's sequences stay far below 2^63
		generation[i], attempts[i] = clamp(w.Generation), clamp(w.MaxAttempts)
		claim[i], takes[i], reasons[i] = q.in.id, takesKey(&q.in.webhook), q.in.reduced
		endpoint[i] = text(w.EndpointKey, maxName)
		headers[i] = "{}"
		from[i] = clamp(len(bodies) + 1)
		if v := q.in.aside; v != nil {
			place[i], reasons[i] = string(v.Place), cmp.Or(q.in.reduced, text(v.Reason, maxText))
		}
		if q.in.reduced != "" {
			id[i], tenant[i] = plain(w.ID, maxName), plain(w.Tenant, maxName)
			if takes[i] != "" { // as its key's holder has them, which is looked up by them
				tenant[i], idempotency[i] = text(w.Tenant, maxName), takes[i]
			}
			continue
		}
		id[i], tenant[i], event[i] = text(w.ID, maxName), text(w.Tenant, maxName), text(w.EventType, maxName)
		name[i], url[i] = text(w.EndpointName, maxName), text(withoutQuery(w.URL), maxText)
		method[i], content[i] = text(w.Method, maxName), text(w.ContentType, maxName)
		idempotency[i], metadata[i] = text(w.IdempotencyKey, maxName), jsonText(w.Metadata)
		headers[i] = headerJSON(w.Header)
		bodies, length[i] = append(bodies, w.Body...), clamp(len(w.Body))
	}
	return []any{
		l.o.Worker, l.o.Lease.Microseconds(), bodies,
		accepted, seq, generation, id, tenant, event, endpoint, name,
		url, method, content, headers, metadata, idempotency,
		attempts, scheduled, expires, reasons, claim, takes, place, from, length,
	}
}

func bodyBytes(batch []*call[claiming, relay.Claim]) (n int) {
	for _, q := range batch {
		n += len(q.in.webhook.Body)
	}
	return n
}
