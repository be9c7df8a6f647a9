package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// laneTick is how often a draining lane is looked at, and laneIdle how
	// often one that has no room for more.
	laneTick = 100 * time.Millisecond
	laneIdle = 300 * time.Millisecond
	// maxWindow is the most copies of one lane that are under way at once: one
	// atomic batch.
	maxWindow = 500
	// laneBytes bounds what one batch takes into memory.
	laneBytes = 8 << 20
	// probeAfter is when one more event is released although those before it
	// are not settled: they may be waiting for their backoff.
	probeAfter = 10 * time.Second
	// laneTimeout bounds one look at a lane.
	laneTimeout = 10 * time.Second
)

// lanes brings parked events back. A lane is one subject of the stream
// WEBHOOKS_LATER, and the stream is the register of lanes: a process that has
// just started finds those that another left behind.
//
// A lane that is not empty means that its endpoint is recovering, whatever the
// local circuit says. So its head is released as a probe, and if that is
// settled, twice as many, up to maxWindow at a time. The window counts the
// copies on webhooks.due.<endpoint key> that are not settled yet, whichever
// process has them: an endpoint that is slow is drained slowly. When the
// circuit opens again the window falls back to one probe.
//
// Two processes that drain one lane at the same time copy an event twice; its
// claim makes the second copy harmless.
type lanes struct {
	*Consumer
	mu    sync.Mutex
	known map[string]*lane
}

// lane is what this process remembers of one lane between two looks.
type lane struct {
	next     time.Time // not looked at before
	window   int       // how many copies may be under way
	released int       // how many the last look released
	asleep   int       // copies that were under way at the last probe and did not settle
	probe    time.Time // when one more is released in any case
}

func newLanes(c *Consumer) *lanes { return &lanes{Consumer: c, known: map[string]*lane{}} }

// wake makes a lane known as soon as something is parked in it.
func (l *lanes) wake(endpointKey string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known[endpointKey] == nil {
		l.known[endpointKey] = &lane{window: 1}
	}
}

// run drains lanes until ctx ends.
func (l *lanes) run(ctx context.Context) {
	tick := time.NewTicker(laneTick)
	defer tick.Stop()
	var swept time.Time
	for ctx.Err() == nil {
		if time.Since(swept) >= l.Sweep {
			swept = time.Now()
			l.report("list lanes", l.find(ctx))
		}
		for key, lane := range l.due() {
			l.report("drain lane "+key, l.step(ctx, key, lane))
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (l *lanes) report(step string, err error) {
	_, known := errors.AsType[Refusal](err) // that a stream refuses everything was said when it began
	if err != nil && !known && !errors.Is(err, context.Canceled) {
		l.log.Warn().Err(err).Msg(step)
	}
}

// find lists the lanes that are not empty.
func (l *lanes) find(ctx context.Context) error {
	counts, err := l.subjectCounts(ctx, subjectParked+">")
	for subject := range counts {
		l.wake(strings.TrimPrefix(subject, subjectParked))
	}
	return err
}

// subjectCounts counts the messages of WEBHOOKS_LATER by subject.
func (c *Consumer) subjectCounts(ctx context.Context, filter string) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	info, err := c.later.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, fmt.Errorf("count %s: %w", filter, err)
	}
	return info.State.Subjects, nil
}

// due returns the lanes that want to be looked at now.
func (l *lanes) due() map[string]*lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, due := time.Now(), map[string]*lane{}
	for key, lane := range l.known {
		if !now.Before(lane.next) {
			due[key] = lane
		}
	}
	return due
}

// step looks at one lane and releases as much of it as its endpoint may take.
func (l *lanes) step(ctx context.Context, key string, la *lane) error {
	now := time.Now()
	la.next = now.Add(laneTick)
	if rest := l.Policy.Rest(key); rest > 0 {
		la.window, la.released = 1, 0
		la.next = now.Add(min(rest, l.Sweep))
		return l.giveUp(ctx, key)
	}
	counts, err := l.subjectCounts(ctx, subjectDue+key)
	if err != nil {
		la.next = now.Add(time.Second)
		return err
	}
	n := la.room(counts[subjectDue+key], now)
	if n == 0 {
		la.next = now.Add(laneIdle)
		return nil
	}
	taken, err := l.release(ctx, key, n, nil)
	if err != nil {
		la.next = now.Add(time.Second)
		return err
	}
	la.released, la.probe = taken, now.Add(probeAfter)
	if taken == 0 {
		l.forget(key)
	}
	return nil
}

// giveUp releases what has expired at the head of a lane: burying it needs no
// endpoint. It looks at one event before it reads more.
func (l *lanes) giveUp(ctx context.Context, key string) error {
	taken, err := l.release(ctx, key, 1, l.expired)
	if taken == 1 && err == nil {
		_, err = l.release(ctx, key, maxWindow, l.expired)
	}
	return err
}

// room says how many more events may be released while so many of the
// endpoint's copies wait to be settled. Those that do not settle for as long as
// a probe takes are asleep: a retry in a quarter of an hour, or an event that
// never was in the lane. They no longer count, else one of them would hold up
// all the rest.
func (la *lane) room(waiting uint64, now time.Time) int {
	waits := int(min(waiting, maxWindow))
	la.asleep = min(la.asleep, waits)
	if waits-la.asleep >= la.window && now.After(la.probe) {
		la.asleep, la.window, la.released = waits, 1, 0
	}
	underWay := waits - la.asleep
	if underWay == 0 && la.released > 0 { // all that was released is settled: the endpoint takes them
		la.window = min(2*la.window, maxWindow)
	}
	return max(0, min(la.window-underWay, maxWindow-waits))
}

func (l *lanes) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, key)
}

// size is the number of lanes that this process knows.
func (l *lanes) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.known)
}

// expired reports whether a parked event has passed its time.
func (l *lanes) expired(raw *jetstream.RawStreamMsg) bool {
	w, _ := decode(readMeta(raw.Subject, raw.Header), raw.Header, raw.Data, l.ExpiresAfter)
	return !time.Now().Before(w.ExpiresAt)
}

// release moves up to n events from the head of a lane to webhooks.due, as
// long as they satisfy only, and says how many. The copies are stored in one
// atomic batch before the originals are removed.
func (l *lanes) release(ctx context.Context, key string, n int, only func(*jetstream.RawStreamMsg) bool) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	subject := subjectParked + key
	parked, err := jetstreamext.GetBatch(ctx, l.js, StreamLater, n,
		jetstreamext.GetBatchSubject(subject), jetstreamext.GetBatchMaxBytes(laneBytes))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", subject, err)
	}
	var copies []*nats.Msg
	var last uint64
	for raw, err := range parked {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", subject, err)
		}
		if before := raw.Header.Get("Nats-Last-Sequence"); before != strconv.FormatUint(last, 10) {
			break // an answer was lost on the way: what it held must not be removed
		}
		if only != nil && !only(raw) {
			break
		}
		m := readMeta(raw.Subject, raw.Header)
		m.fromLane = true
		copies = append(copies, copyOf(subjectDue+key, raw.Header, raw.Data, m))
		last = raw.Sequence
	}
	if len(copies) == 0 {
		return 0, nil
	}
	if err := l.storeBatch(ctx, copies); err != nil {
		return 0, fmt.Errorf("publish %d copies to %s: %w", len(copies), subjectDue+key, err)
	}
	l.At(AfterMove)
	err = l.later.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(last+1))
	if err != nil {
		return len(copies), fmt.Errorf("remove from %s what was copied: %w", subject, err)
	}
	return len(copies), nil
}
