package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/relaywebhooks/relay"
)

// each replays the letters of a span, at Options.ReplayRate.
func (r *service) each(ctx context.Context, job *Job, s span) error {
	pace := rate.NewLimiter(rate.Limit(r.ReplayRate), max(1, r.ReplayRate/10))
	return r.workThrough(ctx, job, s.from, s.to, func(seq uint64) (uint64, error) {
		return r.next(ctx, job, seq, s, pace)
	})
}

// next replays the first letter from seq on, and returns where to go on: beyond
// the span if there is none.
func (r *service) next(ctx context.Context, job *Job, seq uint64, s span, pace *rate.Limiter) (uint64, error) {
	raw, err := r.dead.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(s.filter))
	if errors.Is(err, jetstream.ErrMsgNotFound) || (err == nil && raw.Sequence > s.to) {
		return s.to + 1, nil
	}
	if err != nil {
		return seq, fmt.Errorf("read letter %d: %w", seq, err)
	}
	if !s.means(raw) {
		r.update(job, func(j *Job) { j.Position = raw.Sequence })
		return raw.Sequence + 1, nil
	}
	if err := pace.Wait(ctx); err != nil {
		return seq, err
	}
	ok, err := r.one(ctx, raw, s.keepExpiry)
	if err != nil {
		return seq, fmt.Errorf("letter %d: %w", raw.Sequence, err)
	}
	r.update(job, func(j *Job) { looked(j, raw.Sequence, ok) })
	return raw.Sequence + 1, nil
}

// looked counts one letter that the job has been through.
func looked(j *Job, seq uint64, replayed bool) {
	j.Position = seq
	if replayed {
		j.Replayed++
	} else {
		j.Failed++
	}
}

// one publishes a letter as a new generation of its event and removes it once
// the copy is stored. A crash in between leaves the letter, until the copy has
// come to its end; replaying it again makes the same generation, which the
// claim grants once.
func (r *service) one(ctx context.Context, raw *jetstream.RawStreamMsg, keepExpiry bool) (bool, error) {
	copied, ok := revived(raw, keepExpiry, time.Now())
	if !ok {
		r.log.Warn().Uint64("seq", raw.Sequence).Str("subject", raw.Subject).Msg("not a letter of relay's; left where it is")
		return false, nil
	}
	err := r.store(ctx, StreamLater, func(ctx context.Context) error {
		_, err := r.js.PublishMsg(ctx, copied)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("publish to %s: %w", copied.Subject, err)
	}
	r.At(AfterMove)
	if err := remove(ctx, r.dead, raw.Sequence); err != nil {
		return true, fmt.Errorf("remove: %w", err)
	}
	return true, nil
}

// remove deletes a message that may be gone already: a letter that a newer one
// has replaced, a schedule that has fired.
func remove(ctx context.Context, stream jetstream.Stream, seq uint64) error {
	err := stream.DeleteMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		if _, gone := stream.GetMsg(ctx, seq); errors.Is(gone, jetstream.ErrMsgNotFound) {
			return nil
		}
	}
	return err
}

// revived makes the copy of a letter that starts the next generation.
func revived(raw *jetstream.RawStreamMsg, keepExpiry bool, now time.Time) (*nats.Msg, bool) {
	endpointKey, _, ok := strings.Cut(strings.TrimPrefix(raw.Subject, subjectDead), ".")
	m := readMeta(raw.Subject, raw.Header)
	if !ok || m.key == (relay.Key{}) {
		return nil, false
	}
	m.generation++
	m.fromLane, m.bury, m.letter = false, "", endpointKey
	if !keepExpiry {
		m.replayed = now
	}
	return copyOf(subjectDue+endpointKey, raw.Header, raw.Data, m), true
}
