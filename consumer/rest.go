package consumer

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A lane whose endpoint is held does not drain, for days perhaps. What it holds is
// kept: only an event whose own expires_at is over is given up, wherever in the
// lane it is. To find those, the lane is looked through once, a batch at a time,
// and then only what is new; and once more when the first of the times that were
// seen on the way has come.

// pass is how far relay has looked through a held lane.
type pass struct {
	seen uint64    // the last event that was looked at, by its sequence
	next time.Time // the first expires_at among those that stay; zero if none has one
}

// passEach is how often a held lane is looked through. Where there are many it is
// less often, so that they do not cost more than ten.
func (l *lanes) passEach() time.Duration {
	return l.Sweep * time.Duration(1+l.size()/10)
}

// heldBy says why nothing is sent to an endpoint; "" if it may be called.
func (l *lanes) heldBy(endpointKey string) string {
	ep, _ := l.Endpoints.ByKey(endpointKey)
	return ep.Held
}

// lookThrough gives up what has expired among the next batch of a held lane.
func (l *lanes) lookThrough(ctx context.Context, key string, p *pass) error {
	ctx, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	now := time.Now()
	if !p.next.IsZero() && !now.Before(p.next) {
		*p = pass{}
	}
	parked, err := l.parked(ctx, key, p.seen+1, maxBatch)
	if err != nil {
		return err
	}
	var over []*jetstream.RawStreamMsg
	for _, raw := range parked {
		p.seen = raw.Sequence
		switch at := l.expiry(key, raw); {
		case at.IsZero():
		case !now.Before(at):
			over = append(over, raw)
		case p.next.IsZero() || at.Before(p.next):
			p.next = at
		}
	}
	if len(over) == 0 {
		return nil
	}
	err = l.giveUpAll(ctx, burial{key: key}, over)
	if err != nil {
		*p = pass{}
	}
	return err
}

// forgetEmptied forgets held lanes that a sweep did not find: what was in them is
// buried.
func (l *lanes) forgetEmptied(counts map[string]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, la := range l.known {
		if la.state == LaneHeld && !la.busy && !la.again && counts[subjectParked+key] == 0 {
			delete(l.known, key)
		}
	}
}
