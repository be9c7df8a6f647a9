package audit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// TestADatabaseBelongsToOneStream does so with the rights of relay_app.
func TestADatabaseBelongsToOneStream(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url+"&role=relay_app")
	l := audit.New(pool, audit.Options{})
	made := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	other := made.Add(time.Second)
	for range 2 { // every process, and every start
		if err := l.Bind(t.Context(), time.Time{}, made); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Bind(t.Context(), time.Time{}, other); !errors.Is(err, audit.ErrOtherStream) {
		t.Errorf("another stream: %v", err)
	}
	if err := l.Bind(t.Context(), other.Add(time.Second), other); !errors.Is(err, audit.ErrOtherStream) {
		t.Errorf("another stream that took the place of a third: %v", err)
	}
	if err := l.Bind(t.Context(), made, other); err != nil {
		t.Errorf("the stream was made anew: %v", err)
	}
	if err := l.Bind(t.Context(), made, other); err != nil {
		t.Errorf("another process sees it too: %v", err)
	}
	if err := l.Bind(t.Context(), time.Time{}, made); !errors.Is(err, audit.ErrOtherStream) {
		t.Errorf("the one before is back: %v", err)
	}
}

// TestTwoStreamsCannotShareADatabase: of relays that start at once with two
// streams, those of one go on.
func TestTwoStreamsCannotShareADatabase(t *testing.T) {
	pool := connect(t, testdb.New(t))
	made := []time.Time{time.Unix(1, 0), time.Unix(2, 0)}
	var mu sync.Mutex
	bound := map[int]int{}
	var starting sync.WaitGroup
	for i := range 8 {
		starting.Go(func() {
			err := audit.New(pool, audit.Options{}).Bind(t.Context(), time.Time{}, made[i%2])
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				bound[i%2]++
			} else if !errors.Is(err, audit.ErrOtherStream) {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	if len(bound) != 1 || bound[0]+bound[1] != 4 {
		t.Errorf("bound: %v, want the four of one stream", bound)
	}
}

func TestBindWaitsForPostgres(t *testing.T) {
	pool := connect(t, "postgres://relay@127.0.0.1:1/relay") // nobody is there
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("the end of the test"))
	defer cancel()
	if err := audit.New(pool, audit.Options{}).Bind(ctx, time.Time{}, time.Unix(1, 0)); err == nil || ctx.Err() == nil {
		t.Errorf("gave up before its time: %v", err)
	}
}
