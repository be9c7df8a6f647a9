package consumer

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// fewCopies are never worth a batch.
	fewCopies = 8
	// batchCost is what an atomic batch of some dozens of copies takes.
	batchCost = 2500 * time.Microsecond
	// syncedCopy is what one copy more takes if each is synced, which is believed of
	// a server until it is known better.
	syncedCopy = 200 * time.Microsecond
	// sampleCopies are enough to tell what one more takes.
	sampleCopies = 4
)

// together decides how several copies are stored at once: as one atomic batch, or
// each for itself, without waiting for one before the next is sent.
//
// For a batch the server makes a store on disk and syncs it several times,
// however the stream itself is synced: 2 to 4 ms for 1 to 128 copies (nats-server
// 2.15.2), during which everybody else's syncs wait. One copy more takes 0.01 ms,
// or 0.2 ms where each message is synced. So what is quicker depends on a setting
// of the server that relay cannot see, and is learnt from how long copies take.
// It is safe for concurrent use.
type together struct {
	mu   sync.Mutex
	each time.Duration // that one copy took lately, of several stored one by one
}

// batches reports whether so many copies are stored as a batch.
func (t *together) batches(n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.each = cmp.Or(t.each, syncedCopy)
	if n <= fewCopies || time.Duration(n)*t.each <= batchCost {
		return false
	}
	t.each -= t.each / 64 // it may have been a bad moment: it is tried again in the end
	return true
}

// took takes in how long copies took that were stored one by one.
func (t *together) took(n int, all time.Duration) {
	if n < sampleCopies {
		return // it is the way to the server and back
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.each = cmp.Or(t.each, syncedCopy)
	t.each += (all/time.Duration(n) - t.each) / 4
}

// publish stores copies and says what came of each. An error means that nothing
// is known of that copy.
func (t *together) publish(ctx context.Context, js jetstream.JetStream, copies []*nats.Msg) []error {
	faults := make([]error, len(copies))
	if t.batches(len(copies)) {
		if _, err := jetstreamext.PublishMsgBatch(ctx, js, copies); err != nil {
			for i := range faults {
				faults[i] = err
			}
		}
		return faults
	}
	began := time.Now()
	stored := make([]jetstream.PubAckFuture, len(copies))
	for i, m := range copies {
		stored[i], faults[i] = js.PublishMsgAsync(m)
	}
	for i, s := range stored {
		if faults[i] == nil {
			faults[i] = await(ctx, s)
		}
	}
	if errors.Join(faults...) == nil {
		t.took(len(copies), time.Since(began))
	}
	return faults
}

// await waits until a message is stored.
func await(ctx context.Context, stored jetstream.PubAckFuture) error {
	select {
	case <-stored.Ok():
		return nil
	case err := <-stored.Err():
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
