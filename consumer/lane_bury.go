package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/time/rate"
)

const (
	// maxBuryBatch is how many events of a lane are given up at a time, at most.
	maxBuryBatch = 100
	// removers is how many of them are removed from their lane at a time.
	removers = 16
	// maxBuryReason bounds the reason that an operator gives.
	maxBuryReason = 500
)

// burial is what an operator gives up: events of one lane, as long as it is now.
type burial struct {
	key    string
	last   uint64
	before time.Time // accepted before; zero: any
	over   bool      // only those whose own expires_at is over
	reason string    // empty: each one's own
}

// means reports whether an event is to be buried.
func (b burial) means(l *lanes, raw *jetstream.RawStreamMsg) bool {
	if b.over {
		return l.expired(b.key, raw)
	}
	return b.before.IsZero() || readMeta(raw.Subject, raw.Header).key.Time.Before(b.before)
}

// expire gives up events that are too old: those past their own expires_at, or
// those that were accepted longer ago than the request says.
func (r *service) expire(req micro.Request) {
	text := strings.TrimSpace(string(req.Data()))
	name, age, aged := strings.Cut(text, " ")
	b := burial{over: !aged}
	if aged {
		d, err := time.ParseDuration(strings.TrimSpace(age))
		if err != nil || d <= 0 {
			refuse(req, "400", fmt.Errorf("want an age such as 24h, not %q", clip(age)))
			return
		}
		b.before, b.reason = time.Now().Add(-d), fmt.Sprintf("expired: parked for longer than %s", d)
	}
	r.startBurial(req, text, name, b)
}

// buryLane gives up whatever is parked for an endpoint.
func (r *service) buryLane(req micro.Request) {
	text := strings.TrimSpace(string(req.Data()))
	name, reason, _ := strings.Cut(text, " ")
	if reason = headerSafe(reason, maxBuryReason); reason == "" {
		reason = "by an operator"
	}
	r.startBurial(req, text, name, burial{reason: "buried: " + reason})
}

// startBurial begins the job, for the events that are parked now.
func (r *service) startBurial(req micro.Request, text, name string, b burial) {
	var err error
	if b.key, err = r.endpointKey(req, name); err != nil {
		refuse(req, "400", err)
		return
	}
	r.working.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, settleTimeout)
		defer cancel()
		stream, err := r.js.Stream(ctx, StreamLater)
		if err != nil {
			refuse(req, "500", fmt.Errorf("look up %s: %w", StreamLater, err))
			return
		}
		b.last = stream.CachedInfo().State.LastSeq // what is parked later is not meant
		r.work(req, r.start(text, saidTenant(req), b.last), func(ctx context.Context, job *Job) error { return r.buryAll(ctx, job, b) })
	})
}

// buryAll gives up the events of a burial, at Options.ReplayRate. While NATS
// does not answer, or takes no dead letters, it tries on.
func (r *service) buryAll(ctx context.Context, job *Job, b burial) error {
	pace := rate.NewLimiter(rate.Limit(r.ReplayRate), max(1, min(r.ReplayRate/5, maxBuryBatch)))
	return r.workThrough(ctx, job, 1, b.last, func(seq uint64) (uint64, error) {
		return r.buryNext(ctx, job, b, seq, pace)
	})
}

// buryNext gives up the next few events of a lane, and returns where to go on.
func (r *service) buryNext(ctx context.Context, job *Job, b burial, seq uint64, pace *rate.Limiter) (uint64, error) {
	if err := r.moves.refusal(StreamDead, time.Now()); err != nil {
		return seq, err
	}
	read, cancel := context.WithTimeout(ctx, laneTimeout)
	parked, err := r.lanes.parked(read, b.key, seq, pace.Burst())
	cancel()
	if err != nil {
		return seq, err
	}
	if len(parked) == 0 {
		return b.last + 1, nil
	}
	var chosen []*jetstream.RawStreamMsg
	for _, raw := range parked {
		if raw.Sequence <= b.last && b.means(r.lanes, raw) {
			chosen = append(chosen, raw)
		}
	}
	if len(chosen) > 0 {
		if err := pace.WaitN(ctx, len(chosen)); err != nil {
			return seq, err
		}
		if err := r.lanes.giveUpAll(ctx, b, chosen); err != nil {
			return seq, err
		}
	}
	last := parked[len(parked)-1].Sequence
	r.update(job, func(j *Job) { j.Position, j.Buried = min(last, b.last), j.Buried+len(chosen) })
	return last + 1, nil
}

// giveUpAll has parked events buried, the ordinary way: copies with the reason
// become due, are claimed, recorded as dead and laid among the dead letters. The
// originals are removed when the copies are stored. A crash in between leaves
// both, and the claim makes the second harmless.
func (l *lanes) giveUpAll(ctx context.Context, b burial, events []*jetstream.RawStreamMsg) error {
	ctx, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	copies := make([]*nats.Msg, len(events))
	for i, raw := range events {
		copies[i] = fromLane(b.key, raw, b.reason)
	}
	if err := l.storeAll(ctx, copies); err != nil {
		return fmt.Errorf("publish %d copies to %s: %w", len(copies), subjectDue+b.key, err)
	}
	l.At(AfterMove)
	faults := make([]error, len(events))
	hands := make(chan struct{}, removers)
	var removing sync.WaitGroup
	for i, raw := range events {
		hands <- struct{}{}
		removing.Go(func() {
			defer func() { <-hands }()
			faults[i] = remove(ctx, l.later, raw.Sequence)
		})
	}
	removing.Wait()
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("remove from %s what was copied: %w", subjectParked+b.key, err)
	}
	return nil
}
