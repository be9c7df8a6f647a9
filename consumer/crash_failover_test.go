package consumer_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// C15: Postgres comes back without its last commits, as a standby that was
// behind, or a backup. What JetStream still holds is sent once more; what it
// does not hold any more is lost to the record, not to the receiver.
func TestPostgresComesBackOlder(t *testing.T) {
	t.Parallel()
	db := testdb.Server(t)
	aside := filepath.Join(t.TempDir(), "backup")
	copied := func(from, to string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil { // keeps the owner
			t.Fatalf("copy %s: %v: %s", from, err, out)
		}
	}
	files := filepath.Join(db.Dir(), "data")
	stopped := func(do func()) {
		t.Helper()
		db.Kill()
		do()
		if err := db.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var breakOff atomic.Bool
	broken := make(chan struct{})
	r := relaytest.Start(t, relaytest.Options{DatabaseURL: db.URL(), Consumer: consumer.Options{
		AckWait: 2 * time.Second,
		At: func(p consumer.Point) {
			if p == consumer.AfterRecord && breakOff.CompareAndSwap(true, false) {
				close(broken)
				panic(p) // committed, and never acknowledged
			}
		},
	}})
	stopped(func() { copied(files, aside) })
	through := r.Publish(map[string]any{"url": r.Receiver.URL, "id": "through"})
	r.RequireDelivered(through)
	requireEmpty(t, r)
	breakOff.Store(true)
	inHand := r.Publish(map[string]any{"url": r.Receiver.URL, "id": "in_hand"})
	<-broken
	stopped(func() {
		if err := os.RemoveAll(files); err != nil {
			t.Fatal(err)
		}
		copied(aside, files)
	})
	requireEmpty(t, r)
	r.RequireDelivered(inHand)
	requests := map[string]int{}
	for _, req := range r.Receiver.Requests() {
		requests[req.ID()]++
	}
	if requests[through] != 1 || requests[inHand] != 2 {
		t.Errorf("requests %v; want a second one for what was not acknowledged, and no other", requests)
	}
	if n, m := len(r.Webhooks(through)), len(r.Attempts(inHand)); n != 0 || m != 1 {
		t.Errorf("%d rows of the event that was through, %d attempts of the other; want none and one", n, m)
	}
}
