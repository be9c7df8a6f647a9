package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
)

const (
	// pausesEach is how often the pauses of other processes are looked for: one
	// request, answered from memory. It keeps "within a second" with room for a
	// slow machine.
	pausesEach = 250 * time.Millisecond
	// allPausesEach is how often the whole bucket is read instead of its news,
	// which mends whatever was missed: keys that ran out, a bucket made anew.
	allPausesEach = 10 * time.Second
	// pauseKept is how long a pause stays in the bucket after its end, so that
	// the call that follows it is still a probe under a lease. After that the
	// server removes it by itself.
	pauseKept = 10 * time.Minute
	// removedKept is how long the others have to see that a pause was removed.
	removedKept = time.Minute
	// laneLease is how long a process that died keeps others from its lanes.
	laneLease = 6 * time.Second
	// leaseTimeout bounds how long a probe waits for its lease.
	leaseTimeout = time.Second
	// laneOf begins the keys of the leases of lanes.
	laneOf = "lane."
)

// Rests is told of the pauses of other processes. Resume says whether one of
// them found that the endpoint is well.
type Rests interface {
	Pause(p relay.Pause)
	Resume(endpointKey string, well bool)
}

// PausesOptions are the settings of [Pauses]. The connection and Rests are
// required.
type PausesOptions struct {
	Conn   *nats.Conn
	Rests  Rests
	Worker string         // this process's name, for people. Defaults to "relay".
	Logger zerolog.Logger // silent by default
}

// Pauses lets all processes agree on which endpoints are paused and until when,
// and on which of them probes an endpoint when its pause is over. What they agree
// on stands in a key-value bucket, one key an endpoint, and outlives them.
//
// Every write names the revision that it replaces, so of several processes that
// want the same lease one gets it; it ends by itself if its holder dies. Where
// the bucket or NATS is away, each process goes by what it knows itself.
//
// It is safe for concurrent use, and works while the [Consumer] runs that it was
// given to.
type Pauses struct {
	o    PausesOptions
	js   jetstream.JetStream
	me   string        // unlike Worker, of this run alone
	news chan struct{} // there is something to write or to read at once

	mu      sync.Mutex
	known   map[string]entry       // what stands in the bucket, by endpoint key
	pending map[string]relay.Pause // what is yet to be written; without an end: removed
	leasing map[string]bool        // leases that are being asked for
	last    uint64                 // the newest revision that was read
	reread  bool                   // all of it, next time
	away    error                  // why nothing is shared now
}

// entry is what stands under one key. Without a kind it was removed.
type entry struct {
	relay.Pause
	At       time.Time `json:"at"` // when it was written, by the clock that Until was read from
	By       string    `json:"by"` // the run of the worker that wrote it
	revision uint64
}

func (e entry) lasts(now time.Time) bool { return e.Kind != "" && now.Before(e.Until) }

// NewPauses makes the pauses of one process and starts nothing.
func NewPauses(o PausesOptions) (*Pauses, error) {
	if o.Conn == nil || o.Rests == nil {
		return nil, errors.New("consumer: pauses need Conn and Rests")
	}
	setDefault(&o.Worker, "relay")
	js, err := jetstream.New(o.Conn)
	if err != nil {
		return nil, fmt.Errorf("consumer: open JetStream: %w", err)
	}
	return &Pauses{
		o: o, js: js, me: nuid.Next(), news: make(chan struct{}, 1),
		known: map[string]entry{}, pending: map[string]relay.Pause{}, leasing: map[string]bool{}, reread: true,
	}, nil
}

// Paused tells the other processes of a pause that began here. It does not wait:
// the pause is written as soon as the bucket answers.
func (p *Pauses) Paused(pause relay.Pause) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, waits := p.pending[pause.Key]
	if waits && pause.Kind == relay.PauseThrottle && before.Kind == relay.PauseCircuit {
		before.Until = latest(before.Until, pause.Until) // the circuit's, made longer
		pause = before
	}
	p.pending[pause.Key] = pause
	p.nudge()
}

// Resumed tells the other processes that an endpoint is well. It does not wait.
func (p *Pauses) Resumed(endpointKey string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending[endpointKey] = relay.Pause{Key: endpointKey}
	p.nudge()
}

// Ended tells the other processes that the pause of an endpoint is over, whoever
// began it. It does not wait.
func (p *Pauses) Ended(endpointKey string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending[endpointKey] = relay.Pause{Key: endpointKey, Kind: relay.PauseOver, Until: time.Now()}
	p.nudge()
}

// Lease asks to be the only process that probes an endpoint, until the lease ends
// or its outcome is told. True is also the answer where the others cannot be
// asked: a probe too many does less harm than an endpoint that nobody calls.
func (p *Pauses) Lease(ctx context.Context, lease relay.Pause) bool {
	p.mu.Lock()
	now, have := time.Now(), p.known[lease.Key]
	_, unsaid := p.pending[lease.Key]
	switch {
	case p.away != nil, have.By == p.me && have.Kind == relay.PauseProbe && have.lasts(now):
		p.mu.Unlock()
		return true
	case p.leasing[lease.Key], unsaid, have.By != p.me && have.lasts(now):
		p.mu.Unlock()
		return false
	}
	p.leasing[lease.Key] = true
	p.mu.Unlock()
	return p.acquire(ctx, lease, have.revision)
}

// drains asks to be the only process that brings back what is parked in a lane,
// and reports whether another one is. The lease is renewed while this is asked
// again and again.
func (p *Pauses) drains(ctx context.Context, endpointKey string) (here, elsewhere bool) {
	key := laneOf + endpointKey
	p.mu.Lock()
	now, have := time.Now(), p.known[key]
	mine := have.By == p.me && have.lasts(now.Add(laneLease/2))
	_, unsaid := p.pending[key]
	switch {
	case p.away != nil, mine:
		p.mu.Unlock()
		return true, false
	case p.leasing[key], unsaid, have.By != p.me && have.lasts(now):
		p.mu.Unlock()
		return false, !unsaid && have.By != p.me
	}
	p.leasing[key] = true
	p.mu.Unlock()
	lease := relay.Pause{Key: key, Kind: relay.PauseDrain, Until: now.Add(laneLease)}
	return p.acquire(ctx, lease, have.revision), false
}

// drained gives the lease of a lane back.
func (p *Pauses) drained(endpointKey string) { p.Resumed(laneOf + endpointKey) }

// acquire writes a lease in the place of what was there.
func (p *Pauses) acquire(ctx context.Context, lease relay.Pause, revision uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	err := p.write(ctx, lease, revision)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.leasing, lease.Key)
	if isConflict(err) { // another process was first, or what stood there ran out
		p.reread = true
		p.nudge()
		return false
	}
	return true
}

// Counts says how many endpoints this process has paused, and how many others
// have.
func (p *Pauses) Counts() (here, others int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, e := range p.known {
		switch {
		case !e.lasts(now), e.Kind == relay.PauseDrain:
		case e.By == p.me:
			here++
		default:
			others++
		}
	}
	return here, others
}

// Away returns why nothing is shared with other processes now; nil while all is
// well.
func (p *Pauses) Away() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.away
}

func (p *Pauses) nudge() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// write puts a pause in the place of what stands under its key at the given
// revision, or a removal if the pause has no end.
func (p *Pauses) write(ctx context.Context, pause relay.Pause, revision uint64) error {
	next := p.stamped(pause, time.Now())
	m, kept := nats.NewMsg(subjectPauses+pause.Key), removedKept
	if pause.Kind == "" {
		m.Header.Set("KV-Operation", "DEL")
	} else {
		data, err := json.Marshal(next.inUTC())
		if err != nil {
			return err
		}
		m.Data, kept = data, time.Until(pause.Until)+pauseKept
		if pause.Kind == relay.PauseThrottle || pause.Kind == relay.PauseDrain {
			kept = time.Until(pause.Until) + time.Second
		}
	}
	kept = max(kept.Truncate(time.Second), time.Second)
	ack, err := p.js.PublishMsg(ctx, m, jetstream.WithMsgTTL(kept), jetstream.WithRetryAttempts(0),
		jetstream.WithExpectLastSequencePerSubject(revision))
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next.revision = ack.Sequence
	p.known[pause.Key] = next
	return nil
}

// stamped is what is to be written of a pause. How long it lasts yet is told by the
// clock that nobody can set; the one on the wall may have been set since the pause
// began, and others only see the difference.
func (p *Pauses) stamped(pause relay.Pause, now time.Time) entry {
	if lasts := time.Until(pause.Until); pause.Kind != "" {
		pause.Until = now.Add(lasts)
	}
	pause.Worker = p.o.Worker
	return entry{Pause: pause, At: now, By: p.me}
}

// inUTC is an entry as it is written. Times in UTC have lost what the clock says that
// nobody can set, so that this process goes by others.
func (e entry) inUTC() entry {
	e.Until, e.At = e.Until.UTC(), e.At.UTC()
	return e
}

// isConflict reports whether a write was refused because something else stands
// there than was thought.
func isConflict(err error) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
