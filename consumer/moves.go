package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/relaywebhooks/relay"
)

const (
	// probeEach is how often one event is tried on a stream that refuses; the
	// others wait meanwhile, and hold nobody up.
	probeEach = time.Second
	// minRefusedPause and maxRefusedPause bound how long an event sleeps that
	// could not be moved. It doubles with each delivery.
	minRefusedPause = time.Second
	maxRefusedPause = 15 * time.Second
	// refusalKept is how long a refusal is believed that was not repeated:
	// another process may have moved what was refused here.
	refusalKept = time.Minute
)

// Refusal is a stream that does not take what relay wants to move to it. The
// events wait where they are, neither lost nor acknowledged, and are moved as
// soon as the stream takes them.
type Refusal struct { //nolint:errname // it is a state first, and an error while it stands
	Stream string    // WEBHOOKS_DEAD or WEBHOOKS_LATER
	Since  time.Time // of the first refusal that nothing was stored after
	Err    error     // the last answer of the server, or why there was none
}

// Error says which stream refuses, why, and what to do about it.
func (r Refusal) Error() string {
	return fmt.Sprintf("%s has taken no %s since %s: %v. What could not be stored waits and is not lost: %s",
		r.Stream, cargo(r.Stream), r.Since.UTC().Format(time.RFC3339), r.Err, remedy(r.Stream, r.Err))
}

// Unwrap returns the server's answer.
func (r Refusal) Unwrap() error { return r.Err }

// cargo says what is moved to a stream.
func cargo(stream string) string {
	if stream == StreamDead {
		return "dead letters"
	}
	return "waiting events"
}

// remedy says what mends a refusal.
func remedy(stream string, err error) string {
	refused, isAnswer := errors.AsType[*jetstream.APIError](err)
	switch {
	case isAnswer && refused.ErrorCode == storeFailed:
		return "raise the limits of the stream (nats stream edit " + stream + "), or remove what is not needed any more"
	case isAnswer && slices.Contains([]jetstream.ErrorCode{10002, 10023, 10028, 10047}, refused.ErrorCode):
		return "the server's store or the account's share of it is full: make room, or raise its limits"
	case errors.Is(err, errDiscards):
		return "take the limit away, as relay init does"
	case errors.Is(err, nats.ErrPermissionViolation):
		return "let relay's user publish there, as deploy/nats/accounts.conf does"
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, jetstream.ErrStreamNotFound):
		return "relay init makes a stream that is missing; if it is there, see the log of the NATS server"
	default:
		return "see the log of the NATS server, and relay doctor"
	}
}

// moves knows which streams refuse what is moved to them. While one does, a
// single event at a time is tried on it: the others would only hold slots that
// healthy events need. It is safe for concurrent use.
type moves struct {
	mu      sync.Mutex
	refused map[string]*refusal // by stream
}

// refusal is what is remembered of one stream.
type refusal struct {
	Refusal
	last    time.Time // when it refused last
	next    time.Time // when it may be tried again
	probing bool
	barred  bool // relay itself stores nothing there: it would be lost
}

func newMoves() *moves { return &moves{refused: map[string]*refusal{}} }

// begin asks whether something may be stored in a stream now. An error is the
// refusal that stands; nil must be followed by end.
func (m *moves) begin(stream string, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.refused[stream]
	if r == nil {
		return nil
	}
	if r.barred || r.probing || now.Before(r.next) {
		return r.Refusal
	}
	r.probing = true
	return nil
}

// end takes in what came of storing something in a stream, and reports whether
// that is news.
func (m *moves) end(stream string, err error, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, stood := m.refused[stream]
	if stood && r.barred {
		return false
	}
	if err == nil {
		delete(m.refused, stream)
		return stood
	}
	if !stood {
		r = &refusal{Refusal: Refusal{Stream: stream, Since: now}}
		m.refused[stream] = r
	}
	r.Err, r.last, r.next, r.probing = err, now, now.Add(probeEach), false
	return !stood
}

// bar keeps everything out of a stream that would lose it, or lets it in again
// when why is nil.
func (m *moves) bar(stream string, why error, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.refused[stream]
	switch {
	case why == nil && r != nil && r.barred:
		delete(m.refused, stream)
	case why != nil && (r == nil || !r.barred):
		m.refused[stream] = &refusal{Refusal: Refusal{Stream: stream, Since: now, Err: why}, last: now, barred: true}
	case why != nil:
		r.Err, r.last = why, now
	}
}

// unknown ends a try of which nothing can be said: relay was stopped, or cut
// off from NATS, in the middle of it.
func (m *moves) unknown(stream string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.refused[stream]; r != nil {
		r.probing = false
	}
}

// standing returns the refusals that stand, by name of the stream, and forgets
// those that were not repeated for long.
func (m *moves) standing(now time.Time) []Refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Refusal
	for stream, r := range m.refused {
		if !r.probing && !r.barred && now.Sub(r.last) > refusalKept {
			delete(m.refused, stream)
			continue
		}
		list = append(list, r.Refusal)
	}
	slices.SortFunc(list, func(a, b Refusal) int { return cmp.Compare(a.Stream, b.Stream) })
	return list
}

// refusal is the refusal of a stream that stands, or nil.
func (m *moves) refusal(stream string, now time.Time) error {
	for _, r := range m.standing(now) {
		if r.Stream == stream {
			return r
		}
	}
	return nil
}

// store has something stored in a stream, with a few tries, unless the stream
// refuses everything at the moment.
func (c *Consumer) store(ctx context.Context, stream string, publish func(context.Context) error) error {
	if err := c.moves.begin(stream, time.Now()); err != nil {
		return err
	}
	return c.noteMove(ctx, stream, attemptTimes(ctx, func(ctx context.Context) error { return c.explained(stream, publish(ctx)) }))
}

// storeAll stores copies in WEBHOOKS_LATER, unless it refuses everything at the
// moment. An error means that some may not be stored.
func (c *Consumer) storeAll(ctx context.Context, copies []*nats.Msg) error {
	if err := c.moves.begin(StreamLater, time.Now()); err != nil {
		return err
	}
	err := errors.Join(c.together.publish(ctx, c.js, copies)...)
	if errors.Is(err, jetstreamext.ErrBatchPublishIncomplete) || errors.Is(err, jetstreamext.ErrBatchPublishTooManyInflight) {
		c.moves.unknown(StreamLater) // the stream would take other messages
		return err
	}
	return c.noteMove(ctx, StreamLater, err)
}

// noteMove takes in what came of a move to a stream, says when that changes, and
// returns the error.
func (c *Consumer) noteMove(ctx context.Context, stream string, err error) error {
	if err != nil && (ctx.Err() != nil || c.Conn.Status() != nats.CONNECTED) {
		c.moves.unknown(stream)
		return err
	}
	switch news := c.moves.end(stream, err, time.Now()); {
	case news && err != nil:
		c.log.Error().Err(err).Str("stream", stream).Str("advice", remedy(stream, err)).
			Msg("a stream refuses what is moved to it; the events wait, and nothing is lost")
	case news:
		c.log.Info().Str("stream", stream).Msg("the stream takes events again")
	}
	return err
}

// explained gives a publish that was never answered its reason: a server tells
// the connection, and not the request, that it denies a subject.
func (c *Consumer) explained(stream string, err error) error {
	denied := c.Conn.LastError()
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(denied, nats.ErrPermissionViolation) {
		return err
	}
	subjects := []string{subjectLater, subjectDue, subjectParked}
	if stream == StreamDead {
		subjects = []string{subjectDead}
	}
	for _, subject := range subjects {
		if strings.Contains(denied.Error(), `"`+subject) {
			return denied
		}
	}
	return err
}

// wait keeps a message that could not be moved. It sleeps for a few seconds.
// When too many sleep already, a dead letter waits as a schedule, for longer:
// what cannot be buried must not take the places that healthy events need.
func (c *Consumer) wait(ctx context.Context, m message, w relay.Webhook, v relay.Verdict) {
	after := refusedPause(m.delivered)
	counted := c.sleep.take(w.EndpointKey, after, false)
	if !counted && v.Place == relay.DeadLetters {
		long := c.MaxSleep + rand.N(c.MaxSleep) //nolint:gosec // spread: never thousands at one instant
		if c.move(ctx, m, c.schedule(m, w, long)) == nil {
			return
		}
	}
	_ = c.putToSleep(m, after) // it fails with the connection
}

// refusedPause grows with the number of deliveries, which is right for most:
// it is only a pause.
func refusedPause(delivered uint64) time.Duration {
	return min(minRefusedPause<<min(max(delivered, 1)-1, 4), maxRefusedPause)
}
