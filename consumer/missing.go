package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxSkew is how far the clock of NATS or Postgres may differ from this
// machine's while relay calls itself ready. Signatures carry the time, and
// receivers refuse what is five minutes off.
const maxSkew = time.Minute

// lookTimeout bounds each question of the look that is taken every second.
const lookTimeout = 2 * time.Second

var errNoAnswer = fmt.Errorf("no answer within %v", lookTimeout)

// faults puts into words what is wrong with the streams; nil if all is well. One
// sentence is enough for a server that is silent about all of them.
func faults(found []finding) error {
	var wrong []error
	silent := 0
	for _, f := range found {
		if f.err != nil {
			wrong = append(wrong, missing("the stream "+f.stream, f.err))
		}
		if f.lossy != nil {
			wrong = append(wrong, f.lossy)
		}
		if isSilence(f.err) {
			silent++
		}
	}
	if silent == len(found) {
		return missing("any of relay's streams", found[0].err)
	}
	return errors.Join(wrong...)
}

// isSilence reports whether a question was not answered, not even by an error.
func isSilence(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrJetStreamNotEnabled)
}

// missing says in words why a stream or its durable consumer does not answer,
// and what to do about it.
func missing(what string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%s is not there: relay init makes it, empty; what was in it may be in a backup: %w", what, err)
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return fmt.Errorf("the durable consumer of %s is not there: relay init makes it, and relay run that of its own server: %w", what, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("the account of relay's user has no JetStream, and so not %s: %w", what, err)
	case isSilence(err):
		if errors.Is(err, context.DeadlineExceeded) {
			err = errNoAnswer
		}
		return fmt.Errorf("JetStream does not answer for %s: a server whose disk is full turns it off until it has room and is restarted; "+
			"a cluster without a majority waits for one. The log of the NATS server says which: %w", what, err)
	default:
		return fmt.Errorf("JetStream does not answer for %s: %w", what, err)
	}
}

var errDiscards = errors.New("JetStream removes events from it that nobody has dealt with")

// discards says which setting would make a stream lose events that wait in it;
// nil if none does. A stream that is full must refuse: relay can wait.
func discards(c jetstream.StreamConfig) error {
	fault := func(setting string, value any) error {
		return fmt.Errorf("the stream %s has %s %v, by which %w: relay init takes it away", c.Name, setting, value, errDiscards)
	}
	old := c.Discard == jetstream.DiscardOld
	switch {
	case c.MaxAge > 0:
		return fault("max_age", c.MaxAge)
	case old && c.MaxMsgs > 0:
		return fault("max_msgs", c.MaxMsgs)
	case old && c.MaxBytes > 0:
		return fault("max_bytes", c.MaxBytes)
	case c.MaxMsgsPerSubject > 0 && !c.DiscardNewPerSubject:
		return fault("max_msgs_per_subject", c.MaxMsgsPerSubject)
	}
	return nil
}

// skews collects what one look finds out about the clocks of the servers.
type skews struct {
	far  time.Duration
	seen bool
}

// note takes in a server's time, as an answer gave it. Half of the time that
// the question took is taken for the way there.
func (s *skews) note(theirs, asked time.Time, took time.Duration) {
	if theirs.IsZero() {
		return
	}
	skew := theirs.Sub(asked.Add(took / 2)).Round(time.Millisecond)
	if !s.seen || skew.Abs() > s.far.Abs() {
		s.far, s.seen = skew, true
	}
}

// take takes in what another question found out.
func (s *skews) take(other skews) {
	if other.seen && (!s.seen || other.far.Abs() > s.far.Abs()) {
		*s = other
	}
}
