package audit

import (
	"net/url"
	"strings"
	"time"

	"github.com/relaywebhooks/relay"
)

// keyColumns returns the keys of a batch as two columns.
func keyColumns[T, R any](batch []*call[T, R]) (at times, seq numbers) {
	at, seq = make(times, len(batch)), make(numbers, len(batch))
	for i, q := range batch {
		at[i], seq[i] = q.key.Time, int64(q.key.Seq) //nolint:gosec // JetStream's sequences stay far below 2^63
	}
	return at, seq
}

// recordColumns returns the parameters of insertRecords.
func (l *Log) recordColumns(batch []*call[recording, relay.Verdict]) []any {
	at, seq := keyColumns(batch)
	endpoints, failing := endpointColumns(batch)
	args := append(make([]any, 0, 32), l.o.Worker)
	args = append(args, attemptColumns(batch)...)
	args = append(args, endpoints...)
	args = append(append(args, at, seq), verdictColumns(batch)...)
	return append(args, failing)
}

// attemptColumns returns the attempts of a batch: one array a column.
func attemptColumns(batch []*call[recording, relay.Verdict]) []any {
	n := 0
	for _, q := range batch {
		n += len(q.in.attempts)
	}
	var (
		at, started                          = make(times, 0, n), make(times, 0, n)
		seq                                  = make(numbers, 0, n)
		id                                   = make(ids, 0, n)
		generation, number, status           = make([]int32, 0, n), make([]int32, 0, n), make([]int32, 0, n)
		kind, headers, class, message, where = make(texts, 0, n), make(texts, 0, n), make(texts, 0, n), make(texts, 0, n), make(texts, 0, n)
		success, truncated                   = make([]bool, 0, n), make([]bool, 0, n)
		took                                 = make([]float64, 0, n)
		body                                 = make(blobs, 0, n)
	)
	for _, q := range batch {
		endpoint := text(q.in.webhook.EndpointKey, maxName)
		for i := range q.in.attempts {
			a := &q.in.attempts[i]
			at, seq, id = append(at, q.key.Time), append(seq, int64(q.key.Seq)), append(id, a.ID) //nolint:gosec // far below 2^63
			generation, number = append(generation, clamp(q.in.webhook.Generation)), append(number, clamp(a.Number))
			kind, success = append(kind, string(a.Kind)), append(success, a.Success)
			started, took = append(started, a.Started), append(took, float64(a.Took)/float64(time.Millisecond))
			status, truncated = append(status, clamp(a.Status)), append(truncated, a.Truncated)
			headers, body = append(headers, responseHeaders(a)), append(body, a.Body)
			class, message = append(class, text(a.Class, maxName)), append(message, text(a.Err, maxText))
			where = append(where, endpoint)
		}
	}
	return []any{at, seq, id, generation, number, kind, success, started, took, status, headers, body, truncated, class, message, where}
}

// responseHeaders returns "" where there was no response, which is not the
// same as one without headers.
func responseHeaders(a *relay.Attempt) string {
	if a.Header == nil {
		return ""
	}
	return headerJSON(a.Header)
}

// endpointColumns returns the endpoints that a batch called, each once, and since
// when each of them has been failing.
func endpointColumns(batch []*call[recording, relay.Verdict]) (columns []any, failing times) {
	var keys, urls, hosts, names, tenants texts
	places := map[string]int{}
	for _, q := range batch {
		w := &q.in.webhook
		if _, ok := places[w.EndpointKey]; ok || len(q.in.attempts) == 0 {
			continue
		}
		places[w.EndpointKey] = len(keys)
		u, host := showURL(w.URL)
		keys, urls = append(keys, text(w.EndpointKey, maxName)), append(urls, u)
		hosts, names = append(hosts, host), append(names, text(w.EndpointName, maxName))
		tenants = append(tenants, text(w.Tenant, maxName))
	}
	return []any{keys, urls, hosts, names, tenants}, failingColumn(batch, places)
}

// failingColumn returns the first failure of each endpoint after its last success,
// as far as a batch knows, and the zero time for an endpoint that has none.
func failingColumn(batch []*call[recording, relay.Verdict], places map[string]int) times {
	since, succeeded := make(times, len(places)), make(times, len(places))
	for _, q := range batch {
		for i := range q.in.attempts {
			a, last := &q.in.attempts[i], &succeeded[places[q.in.webhook.EndpointKey]]
			if a.Success && a.Started.After(*last) {
				*last = a.Started
			}
		}
	}
	for _, q := range batch {
		for i := range q.in.attempts {
			a, n := &q.in.attempts[i], places[q.in.webhook.EndpointKey]
			if a.Failing && a.Started.After(succeeded[n]) && (since[n].IsZero() || a.Started.Before(since[n])) {
				since[n] = a.Started
			}
		}
	}
	return since
}

// withoutQuery is what stands in the record of a URL: queries hold secrets.
func withoutQuery(url string) string {
	bare, _, _ := strings.Cut(url, "?")
	return bare
}

// showURL returns a URL without its query, which may hold secrets, and its
// host.
func showURL(raw string) (shown, host string) {
	raw = withoutQuery(raw)
	u, err := url.Parse(raw)
	if err != nil {
		return text(raw, maxText), ""
	}
	u.User, u.Fragment = nil, ""
	return text(u.String(), maxText), text(u.Host, maxName)
}

// verdictColumns returns what a batch decided: one array a column.
func verdictColumns(batch []*call[recording, relay.Verdict]) []any {
	n := len(batch)
	var (
		generation, last      = make([]int32, n), make([]int32, n)
		claim                 = make(ids, n)
		status, place, reason = make(texts, n), make(texts, n), make(texts, n)
		after                 = make(numbers, n)
	)
	for i, q := range batch {
		v := &q.in.verdict
		generation[i], claim[i] = clamp(q.in.webhook.Generation), q.in.claim.ID
		status[i], _ = statusAfter(v.Action)
		place[i], reason[i] = string(v.Place), text(v.Reason, maxText)
		if !v.Action.Terminal() {
			after[i] = v.After.Microseconds()
		}
		if k := len(q.in.attempts); k > 0 {
			last[i] = clamp(q.in.attempts[k-1].Status)
		}
	}
	return []any{generation, claim, status, place, reason, after, last}
}

// buriedColumns returns the keys of a batch's events that end without a
// delivery.
func buriedColumns(batch []*call[recording, relay.Verdict]) (at times, seq numbers) {
	for _, q := range batch {
		if q.in.verdict.Action.Buried() {
			at, seq = append(at, q.key.Time), append(seq, int64(q.key.Seq)) //nolint:gosec // far below 2^63
		}
	}
	return at, seq
}
