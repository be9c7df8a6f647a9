package audit

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

func TestOfOne(t *testing.T) {
	many := "SELECT unnest($1::text[]) AS a, unnest((SELECT c FROM m)::integer[]) AS b, generate_subscripts($1::text[], 1) AS n"
	if got, want := ofOne(many), "SELECT $1::text AS a, (SELECT c FROM m)[1] AS b, 1 AS n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestAloneAndInCompany takes events through their claims and records, each in a
// batch of its own and together with another one: other SQL for the same rows.
func TestAloneAndInCompany(t *testing.T) {
	alone, company := newBatches(t, false), newBatches(t, true)
	at := time.Date(2026, 5, 4, 12, 0, 0, 123456000, time.UTC)
	answered := func(status int) relay.Attempt {
		return relay.Attempt{
			ID: relay.AttemptID{9, byte(status)}, Number: 1, Started: at, Took: 1500 * time.Microsecond, Kind: relay.Response,
			Success: status < 300, Failing: status >= 500, Status: status, Header: http.Header{"X-A": {"1", "2"}}, Body: []byte("ok\x00"),
		}
	}
	unanswered := relay.Attempt{ID: relay.AttemptID{1}, Number: 1, Kind: relay.Error, Class: "dns", Err: "no such host"}
	full := relay.Webhook{
		ID: "order-1", Tenant: "acme", EventType: "order.paid", EndpointKey: "e1", EndpointName: "orders",
		URL: "https://a.example/hook?secret", Method: http.MethodPut, ContentType: "text/plain", Header: http.Header{"X-B": {"3"}},
		Body: []byte{0, 255, 'a'}, Metadata: []byte(`{"a":[1]}`), IdempotencyKey: "paid-1",
		MaxAttempts: 3, ScheduledAt: at.Add(time.Hour), ExpiresAt: at.Add(2 * time.Hour),
	}
	bare := relay.Webhook{ID: "order-2", EndpointKey: "e2"}
	other := func(w relay.Webhook, change func(*relay.Webhook)) relay.Webhook {
		change(&w)
		return w
	}
	parked := &relay.Verdict{Action: relay.Defer, Place: relay.Parked, Reason: "circuit open"}
	delivered := relay.Verdict{Action: relay.Delivered, Place: relay.Gone}
	retry := relay.Verdict{Action: relay.Retry, Place: relay.Asleep, After: time.Minute, Reason: "status 500"}
	failed := relay.Verdict{Action: relay.Failed, Place: relay.DeadLetters, Reason: "status 503"}
	invalid := relay.Verdict{Action: relay.Dead, Place: relay.DeadLetters, Reason: "invalid"}
	steps := []struct {
		name     string
		webhook  relay.Webhook
		again    bool // of the step before
		reduced  string
		aside    *relay.Verdict
		verdict  relay.Verdict
		attempts []relay.Attempt
	}{
		{name: "everything", webhook: full, verdict: delivered, attempts: []relay.Attempt{answered(204)}},
		{name: "nothing", webhook: bare, verdict: delivered, attempts: []relay.Attempt{unanswered}},
		{name: "a key that another holds", webhook: other(full, func(w *relay.Webhook) { w.ID = "order-3" })},
		{name: "the same key of another tenant", webhook: other(full, func(w *relay.Webhook) { w.Tenant = "" }), verdict: delivered},
		{name: "refused by Postgres", webhook: full, reduced: "unrecordable: 22021", verdict: delivered, attempts: []relay.Attempt{answered(200)}},
		{name: "put aside", webhook: bare, aside: parked},
		{name: "brought back", again: true, webhook: bare, verdict: delivered, attempts: []relay.Attempt{answered(201)}},
		{name: "to be tried again", webhook: bare, verdict: retry, attempts: []relay.Attempt{answered(500)}},
		{name: "tried again", again: true, webhook: bare, verdict: failed, attempts: []relay.Attempt{answered(503)}},
		{name: "two attempts", webhook: bare, verdict: delivered, attempts: []relay.Attempt{answered(502), answered(202)}},
		{name: "no attempt", webhook: full, verdict: invalid},
		{name: "replayed", again: true, webhook: other(full, func(w *relay.Webhook) { w.Generation = 1 }), verdict: delivered, attempts: []relay.Attempt{answered(200)}},
	}
	seq := uint64(0)
	for _, s := range steps {
		if !s.again {
			seq++
		}
		w := s.webhook
		w.Key = relay.NewKey(at, seq)
		in := claiming{webhook: w, id: relay.AttemptID{byte(seq), 7}, reduced: s.reduced, aside: s.aside}
		as := slices.Clone(s.attempts)
		for i := range as {
			as[i].ID[2] = byte(seq)
		}
		one, more := alone.through(in, as, s.verdict), company.through(in, as, s.verdict)
		if diff := cmp.Diff(more, one); diff != "" {
			t.Errorf("%s: alone it came out otherwise (-in company +alone):\n%s", s.name, diff)
		}
	}
	for _, sql := range []string{
		`SELECT (to_jsonb(w) - '{created_at,updated_at,delivered_at,failed_at,next_due,claim,last_claim,claimed_until}'::text[])::text
		FROM relay.webhooks w WHERE endpoint_key <> 'company' ORDER BY seq`,
		`SELECT (to_jsonb(a) - '{attempt_id}'::text[])::text
		FROM relay.attempts a WHERE endpoint_key <> 'company' ORDER BY seq, started_at, number`,
		`SELECT (to_jsonb(e) - '{first_seen_at,updated_at}'::text[])::text
		FROM relay.endpoints e WHERE endpoint_key <> 'company' ORDER BY endpoint_key`,
		`SELECT to_jsonb(i)::text FROM relay.idempotency i WHERE tenant <> 'company' ORDER BY tenant, key`,
	} {
		one := alone.rows(sql)
		if len(one) == 0 {
			t.Errorf("no rows: %s", sql)
		}
		if diff := cmp.Diff(company.rows(sql), one); diff != "" {
			t.Errorf("other rows alone (-in company +alone):\n%s", diff)
		}
	}
}

// TestOneIsKnown claims two events of which one has a claim already, as a crash
// of relay or of NATS brings it about, and then again when that is expected.
func TestOneIsKnown(t *testing.T) {
	b := newBatches(t, false)
	at := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	claim := func(events *novelty, seqs ...uint64) (said []relay.Action) {
		t.Helper()
		var batch []*call[claiming, relay.Claim]
		for _, seq := range seqs {
			w := relay.Webhook{Key: relay.NewKey(at, seq), ID: "order", EndpointKey: "e", IdempotencyKey: fmt.Sprint("paid-", seq)}
			batch = append(batch, &call[claiming, relay.Claim]{key: w.Key, in: claiming{webhook: w, id: newID()}})
		}
		if err := b.log.writeClaims(t.Context(), batch, events); err != nil {
			t.Fatal(err)
		}
		for _, q := range batch {
			said = append(said, q.out.Verdict.Action)
		}
		return said
	}
	if err := b.log.ensureDay(t.Context(), day(relay.NewKey(at, 1))); err != nil {
		t.Fatal(err)
	}
	events := &novelty{}
	check := func(got []relay.Action, want ...relay.Action) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	check(claim(events, 2), relay.Send)
	if events.doubted.Load() != 0 {
		t.Error("a new event is doubted")
	}
	check(claim(events, 1, 2, 3), relay.Send, relay.Wait, relay.Send)
	if left := time.Until(time.Unix(0, events.doubted.Load())); left <= 0 || left > doubtFor {
		t.Errorf("the next ones are doubted for %v", left)
	}
	check(claim(events, 3, 4), relay.Wait, relay.Send)
	check(claim(nil, 4, 5), relay.Wait, relay.Send)
}

// batches writes events into a database, each alone or together with another one.
type batches struct {
	t       *testing.T
	log     *Log
	company bool
	seq     uint64 // of the last one that kept company
}

func newBatches(t *testing.T, company bool) *batches {
	t.Helper()
	pool, err := Pool(t.Context(), testdb.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &batches{t: t, log: New(pool, Options{Worker: "w"}), company: company}
}

// through claims an event and records what came of it, and says what was answered.
func (b *batches) through(in claiming, as []relay.Attempt, v relay.Verdict) string {
	b.t.Helper()
	if err := b.log.ensureDay(b.t.Context(), day(in.webhook.Key)); err != nil {
		b.t.Fatal(err)
	}
	claims := []*call[claiming, relay.Claim]{{key: in.webhook.Key, in: in}}
	if b.company {
		b.seq++
		w := relay.Webhook{Key: relay.NewKey(in.webhook.Key.Time, 1000+b.seq), ID: "other", EndpointKey: "company", Tenant: "company"}
		w.IdempotencyKey = w.Key.String()
		claims = append(claims, &call[claiming, relay.Claim]{key: w.Key, in: claiming{webhook: w, id: newID()}})
	}
	if _, one := onlyRow(b.log.webhookColumns(claims)); one == b.company {
		b.t.Fatalf("the SQL for one row: %v, want %v", one, !b.company)
	}
	if err := b.log.writeClaims(b.t.Context(), claims, &novelty{}); err != nil {
		b.t.Fatal(err)
	}
	claim := claims[0].out
	said := fmt.Sprintf("%v %s %q, made %d, last %d", claim.Verdict.Action, claim.Verdict.Place, claim.Verdict.Reason, claim.Made, claim.Last)
	if claim.Verdict.Action != relay.Send {
		return said
	}
	records := []*call[recording, relay.Verdict]{{key: in.webhook.Key, in: newRecording(in.webhook, claim, as, v)}}
	for _, q := range claims[1:] {
		w := q.in.webhook
		a := relay.Attempt{Started: w.Key.Time, Kind: relay.Response, Success: true, Status: 200}
		records = append(records, &call[recording, relay.Verdict]{key: w.Key, in: newRecording(w, q.out, []relay.Attempt{a}, relay.Verdict{Action: relay.Delivered, Place: relay.Gone})})
	}
	for range 2 { // the second time nothing may change
		b.log.attempts.doubted.Store(0)
		if err := b.log.writeRecords(b.t.Context(), records); err != nil {
			b.t.Fatal(err)
		}
		said += fmt.Sprintf("; %+v", records[0].out)
	}
	return said
}

// rows are those of a query, as JSON.
func (b *batches) rows(sql string) []string {
	b.t.Helper()
	rows, _ := b.log.pool.Query(b.t.Context(), sql) // CollectRows tells the error
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}
