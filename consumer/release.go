package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// maxBatch is how many events are taken from a lane at once.
	maxBatch = 500
	// fewAtOnce are the copies that are stored without a pause, where they are
	// not stored as one batch.
	fewAtOnce = 4
)

// release moves up to n events from the head of a lane to webhooks.due, as
// long as they satisfy only, and says how many. All copies are stored before
// the originals are removed.
func (l *lanes) release(ctx context.Context, key string, n int, only func(*jetstream.RawStreamMsg) bool) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	parked, err := l.parked(ctx, key, 1, n)
	if err != nil {
		return 0, err
	}
	var copies []*nats.Msg
	var last uint64
	for _, raw := range parked {
		if only != nil && !only(raw) {
			break
		}
		copies = append(copies, fromLane(key, raw, ""))
		last = raw.Sequence
	}
	if len(copies) == 0 {
		return 0, nil
	}
	if err := l.storeEvenly(ctx, copies); err != nil {
		return 0, fmt.Errorf("publish %d copies to %s: %w", len(copies), subjectDue+key, err)
	}
	l.At(AfterMove)
	ctx, stop := context.WithTimeout(ctx, lookTimeout) // however many they are
	defer stop()
	err = l.later.Purge(ctx, jetstream.WithPurgeSubject(subjectParked+key), jetstream.WithPurgeSequence(last+1))
	if err != nil {
		return len(copies), fmt.Errorf("remove from %s what was copied: %w", subjectParked+key, err)
	}
	return len(copies), nil
}

// storeEvenly stores copies spread over the time until the lane is looked at again.
// Fifty at once are claimed and sent at once too, and what comes for other endpoints
// meanwhile waits for all of them: on two cores 3.6 ms instead of 2.9, of a hundred the
// slowest. Where a batch is quicker, since each copy would be synced, they are one.
func (l *lanes) storeEvenly(ctx context.Context, copies []*nats.Msg) error {
	if l.together.batches(len(copies)) {
		return l.storeAll(ctx, copies)
	}
	between := laneTick * fewAtOnce / time.Duration(len(copies))
	for few := range slices.Chunk(copies, fewAtOnce) {
		if err := l.storeAll(ctx, few); err != nil {
			return err
		}
		pause(ctx, between)
	}
	return nil
}

// parked reads up to n events of a lane from a sequence on, in their order and
// without a gap: where an answer was lost on the way, what it held must not be
// removed.
func (l *lanes) parked(ctx context.Context, key string, from uint64, n int) ([]*jetstream.RawStreamMsg, error) {
	subject := subjectParked + key
	batch, err := jetstreamext.GetBatch(ctx, l.js, StreamLater, min(n, maxBatch), jetstreamext.GetBatchSeq(from),
		jetstreamext.GetBatchSubject(subject), jetstreamext.GetBatchMaxBytes(laneBytes))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", subject, err)
	}
	var found []*jetstream.RawStreamMsg
	var last uint64
	for raw, err := range batch {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", subject, err)
		}
		if raw.Header.Get("Nats-Last-Sequence") != strconv.FormatUint(last, 10) {
			break
		}
		found = append(found, raw)
		last = raw.Sequence
	}
	return found, nil
}

// countFrom counts what WEBHOOKS_LATER has of a subject from a sequence on: with the
// first of it, the server says how many come behind.
func (l *lanes) countFrom(ctx context.Context, subject string, from uint64) (uint64, error) {
	batch, err := jetstreamext.GetBatch(ctx, l.js, StreamLater, 1, jetstreamext.GetBatchSeq(from),
		jetstreamext.GetBatchSubject(subject))
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", subject, err)
	}
	n := uint64(0)
	for raw, err := range batch {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		behind := uint64(0)
		if err == nil {
			behind, err = strconv.ParseUint(raw.Header.Get("Nats-Num-Pending"), 10, 64)
		}
		if err != nil {
			return 0, fmt.Errorf("count %s: %w", subject, err)
		}
		n = 1 + behind
	}
	return n, nil
}

// fromLane makes the copy of a parked event that is due now: to be tried, or to
// be buried if there is a reason.
func fromLane(key string, raw *jetstream.RawStreamMsg, bury string) *nats.Msg {
	m := readMeta(raw.Subject, raw.Header)
	m.fromLane, m.bury = true, bury
	return copyOf(subjectDue+key, raw.Header, raw.Data, m)
}

// expired reports whether an event in an endpoint's lane has passed its time.
func (l *lanes) expired(endpointKey string, raw *jetstream.RawStreamMsg) bool {
	at := l.expiry(endpointKey, raw)
	return !at.IsZero() && !time.Now().Before(at)
}

// expiry is when a parked event is given up; the zero time if that is not known.
func (l *lanes) expiry(endpointKey string, raw *jetstream.RawStreamMsg) time.Time {
	m := readMeta(raw.Subject, raw.Header)
	w, _ := decode(m, raw.Header, raw.Data)
	ep, _ := l.Endpoints.ByKey(endpointKey)
	return expiry(m, w, ep, l.ExpiresAfter)
}
