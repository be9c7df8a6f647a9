package audit

import (
	"context"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// TestRepeatedClaim repeats a claim under its id, as the committer does when it
// does not know whether the first one was committed.
func TestRepeatedClaim(t *testing.T) {
	pool, err := Pool(t.Context(), testdb.New(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	l := New(pool, Options{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = l.Run(ctx) // its error is always nil
	}()
	defer func() {
		stop()
		<-ended
	}()
	w := relay.Webhook{Key: relay.NewKey(time.Now(), 1), ID: "order-1", EndpointKey: "endpoint"}
	id := newID()
	claim := func() relay.Claim {
		c, err := l.claims.do(t.Context(), w.Key, 0, claiming{webhook: w, id: id})
		if err != nil || c.Verdict.Action != relay.Send {
			t.Fatalf("claim: %+v, %v", c, err)
		}
		return c
	}
	for range 3 {
		if c := claim(); c.ID != id {
			t.Errorf("claimed as %s, and then as %s", id, c.ID)
		}
	}
	// Another process took it for left over: the id stands in a row by now.
	for _, sql := range []string{
		"UPDATE relay.webhooks SET claim = NULL, claimed_by = NULL, claimed_until = NULL, status = 'pending', unrecorded_streak = 1",
		"UPDATE relay.webhooks SET claim = gen_random_uuid(), claimed_by = 'other', claimed_until = now() - interval '1 s', status = 'processing'",
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		if c := claim(); c.ID == id {
			t.Error("an attempt under an id that another process has written down as unrecorded")
		}
	}
}

// TestKnownAndUnknownInOneBatch repeats such a batch, as the committer does when it
// does not know what became of it: each event keeps its claim.
func TestKnownAndUnknownInOneBatch(t *testing.T) {
	l := newBatches(t, false).log
	now := time.Now()
	if err := l.ensureDay(t.Context(), day(relay.NewKey(now, 1))); err != nil {
		t.Fatal(err)
	}
	var batch []*call[claiming, relay.Claim]
	for seq := range uint64(3) {
		w := relay.Webhook{Key: relay.NewKey(now, seq+1), ID: "order", EndpointKey: "endpoint", Body: []byte("{}")}
		batch = append(batch, &call[claiming, relay.Claim]{key: w.Key, in: claiming{webhook: w, id: newID()}})
	}
	if err := l.writeClaims(t.Context(), batch[1:2], nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.writeKnown(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		for _, q := range batch {
			if q.out.Verdict.Action != relay.Send || q.out.ID != q.in.id || time.Until(q.out.Until) > q.out.Lease || q.out.Lease == 0 {
				t.Errorf("event %d: %+v, want its claim %s", q.key.Seq, q.out, q.in.id)
			}
		}
	}
	var rows, ids int
	if err := l.pool.QueryRow(t.Context(), "SELECT count(*), count(DISTINCT claim) FROM relay.webhooks WHERE body = '{}'").Scan(&rows, &ids); err != nil {
		t.Fatal(err)
	}
	if rows != 3 || ids != 3 {
		t.Errorf("%d rows with %d claims, want 3", rows, ids)
	}
}
