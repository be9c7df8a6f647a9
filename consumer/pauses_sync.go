package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/relaywebhooks/relay"
)

const (
	// pausesBatch is how many pauses are read at a time.
	pausesBatch = 500
	// awayEach is how often a bucket is looked for that is away.
	awayEach = 3 * time.Second
)

// begin reads what others have paused, before the first webhook is fetched. It
// never stops a relay: without the bucket each process works by itself.
func (p *Pauses) begin(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if _, err := p.js.Stream(ctx, StreamPauses); err != nil {
		p.note(ctx, err)
		return
	}
	p.note(ctx, p.read(ctx))
}

// run reads what others write and writes what they are to read, until ctx ends.
func (p *Pauses) run(ctx context.Context) {
	tick := time.NewTicker(pausesEach)
	defer tick.Stop()
	whole := time.NewTicker(allPausesEach)
	defer whole.Stop()
	tried := time.Now()
	for {
		select {
		case <-ctx.Done():
			p.leave(ctx)
			return
		case <-whole.C:
			p.rereadNext()
		case <-p.news:
		case <-tick.C:
		}
		if p.Away() != nil && time.Since(tried) < awayEach {
			continue
		}
		tried = time.Now()
		p.sync(ctx)
	}
}

// leave writes what is yet to be said: a pause outlives the process that began
// it. The lanes that this one drained are for others then.
func (p *Pauses) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
	defer cancel()
	_ = p.flush(ctx) // if it is lost, others find out by themselves
	p.giveLanesBack()
	_ = p.flush(ctx) // or when the leases end
}

// giveLanesBack ends the leases of the lanes that this process drains.
func (p *Pauses) giveLanesBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for key, e := range p.known {
		if e.By == p.me && e.Kind == relay.PauseDrain && e.lasts(now) {
			p.pending[key] = relay.Pause{Key: key}
		}
	}
}

func (p *Pauses) rereadNext() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reread = true
}

// sync reads once and writes what is waiting. A write that collides with one of
// another process is looked at again after the next read.
func (p *Pauses) sync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := p.read(ctx)
	if err == nil {
		err = p.flush(ctx)
	}
	p.note(ctx, err)
}

// note says when sharing ends and begins.
func (p *Pauses) note(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	p.mu.Lock()
	before := p.away
	p.away = err
	p.reread = p.reread || err != nil
	p.mu.Unlock()
	switch {
	case err != nil && before == nil:
		p.o.Logger.Warn().Err(err).Str("bucket", BucketPauses).
			Msg("pauses of endpoints are not shared: each process goes by what it knows itself; relay init makes a bucket that is missing")
	case err == nil && before != nil:
		p.o.Logger.Info().Str("bucket", BucketPauses).Msg("pauses of endpoints are shared again")
	}
}

// read takes in what is new in the bucket, or all of it.
func (p *Pauses) read(ctx context.Context) error {
	p.mu.Lock()
	whole, from := p.reread, p.last
	var before map[string]entry
	if whole {
		from, before = 0, maps.Clone(p.known)
	}
	p.mu.Unlock()
	found, last, err := p.since(ctx, from)
	if err != nil {
		return fmt.Errorf("consumer: read the bucket %s: %w", BucketPauses, err)
	}
	p.mu.Lock()
	p.last = last
	var changed []entry
	for key, e := range found {
		have := p.known[key]
		if e.revision > have.revision || whole && e.revision != have.revision && have.revision == before[key].revision {
			p.known[key] = e
			changed = append(changed, e)
		}
	}
	if whole {
		p.reread = false
		changed = append(changed, p.vanished(before, found)...)
	}
	p.mu.Unlock()
	for _, e := range changed {
		p.tell(e)
	}
	return nil
}

// since reads what was written after a revision.
func (p *Pauses) since(ctx context.Context, from uint64) (map[string]entry, uint64, error) {
	found, fresh := map[string]entry{}, from > 0
	for {
		n := 0
		batch, err := jetstreamext.GetBatch(ctx, p.js, StreamPauses, pausesBatch,
			jetstreamext.GetBatchSeq(from+1), jetstreamext.GetBatchSubject(subjectPauses+">"))
		if err != nil {
			return nil, 0, err
		}
		for raw, err := range batch {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				break
			}
			if err != nil {
				return nil, 0, err
			}
			e := parsePause(raw)
			e.Until = e.here(fresh)
			found[e.Key], from, n = e, raw.Sequence, n+1
		}
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		if n < pausesBatch {
			return found, from, nil
		}
	}
}

// parsePause reads one message of the bucket. What is no pause counts as
// removed.
func parsePause(raw *jetstream.RawStreamMsg) entry {
	var e entry
	if raw.Header.Get("KV-Operation") != "" || json.Unmarshal(raw.Data, &e) != nil {
		e = entry{}
	}
	e.Key, e.revision = strings.TrimPrefix(raw.Subject, subjectPauses), raw.Sequence
	return e
}

// here is when a pause ends by this machine's clock, which need not agree with
// that of whoever wrote it. One that is fresh was written a moment ago; of others
// only that it takes no longer than that is known for sure.
func (e entry) here(fresh bool) time.Time {
	if e.Kind == "" || e.At.IsZero() {
		return e.Until
	}
	lasts := e.Until.Sub(e.At)
	if !fresh {
		lasts = min(lasts, time.Until(e.Until))
	}
	return time.Now().Add(lasts) // which stays so, should the clock be set
}

// vanished forgets what is no longer in the bucket. A pause of this process that
// has not ended is written again: the bucket was made anew. The caller holds
// p.mu.
func (p *Pauses) vanished(before, found map[string]entry) (gone []entry) {
	for key, e := range before {
		if _, is := found[key]; is || p.known[key].revision != e.revision {
			continue
		}
		delete(p.known, key)
		_, waits := p.pending[key]
		switch {
		case e.By != p.me:
			gone = append(gone, entry{Pause: relay.Pause{Key: key}})
		case e.lasts(time.Now()) && !waits:
			p.pending[key] = e.Pause
		}
	}
	return gone
}

// tell lets policy know what another process has written.
func (p *Pauses) tell(e entry) {
	switch {
	case e.By == p.me, strings.HasPrefix(e.Key, laneOf):
	case e.Kind != "":
		p.o.Rests.Pause(e.Pause)
	default:
		p.o.Rests.Resume(e.Key, e.revision > 0)
	}
}

// flush writes what is waiting, one after the other.
func (p *Pauses) flush(ctx context.Context) error {
	p.mu.Lock()
	waiting := maps.Clone(p.pending)
	p.mu.Unlock()
	for key, pause := range waiting {
		next, revision, do := p.next(pause)
		if do {
			err := p.write(ctx, next, revision)
			if isConflict(err) {
				p.rereadNext()
				p.nudge()
				continue
			}
			if err != nil {
				return fmt.Errorf("consumer: write to the bucket %s: %w", BucketPauses, explainedPause(err))
			}
		}
		p.mu.Lock()
		if p.pending[key] == pause {
			delete(p.pending, key)
		}
		p.mu.Unlock()
	}
	return nil
}

// next says what is to be written so that the others know of a pause, and over
// which revision. What another process says stands as long as it lasts: one
// message an opening is enough, however many processes see it.
func (p *Pauses) next(pause relay.Pause) (next relay.Pause, revision uint64, do bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, have := time.Now(), p.known[pause.Key]
	lasts, mine := have.lasts(now), have.By == p.me
	throttled := have.Kind == relay.PauseThrottle
	switch {
	case pause.Kind == "":
		return pause, have.revision, mine && have.Kind != ""
	case pause.Kind == relay.PauseOver:
		return pause, have.revision, have.Kind != ""
	case !now.Before(pause.Until):
		return pause, 0, false
	case !lasts || mine && have.Kind == relay.PauseProbe:
	case throttled:
		pause.Until = latest(pause.Until, have.Until)
	case !mine:
		return pause, 0, false
	case pause.Kind == relay.PauseThrottle: // an open circuit, and it asked for more rest
		until := latest(pause.Until, have.Until)
		if until.Equal(have.Until) {
			return pause, 0, false
		}
		pause = have.Pause
		pause.Until = until
	}
	return pause, have.revision, true
}

// explainedPause says what it means that nobody answers.
func explainedPause(err error) error {
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("it is not there, or JetStream is silent: %w", err)
	}
	return err
}
