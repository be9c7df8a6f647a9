package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Stats is what a consumer knows about its queues, as of the last second.
type Stats struct {
	Queues   map[string]Queue // by stream: WEBHOOKS and WEBHOOKS_LATER; without those that do not answer
	InFlight int              // webhooks in hand in this process
	Lanes    int              // lanes known to hold parked events
	Parked   uint64           // events in all lanes, as of the last sweep
	PutOff   int              // events that are to be parked and wait for a free hand of this process
	Stalled  time.Duration    // how long work has been waiting while nothing moved; 0 while all is well

	// Streams says what is wrong with the streams and durable consumers: which
	// do not answer, or would lose events, why, and what to do. It is nil while
	// all is well.
	Streams error
	// Refused are the streams that do not take what is moved to them.
	Refused []Refusal
	// Skew is how far the clock of NATS is ahead of this process's; negative if
	// it is behind. Of several servers it is the one that differs most. While
	// NATS is away, the last look stands; SkewKnown is false before the first.
	Skew      time.Duration
	SkewKnown bool
}

// Queue is the state of one durable consumer, over all processes.
type Queue struct {
	Pending    uint64        // stored and not yet delivered
	AckPending int           // delivered or asleep, and not yet acknowledged
	OldestDue  time.Duration // how long the next message has been waiting
}

// Stats returns what is known. It is cheap and safe for concurrent use.
func (c *Consumer) Stats() Stats {
	s := *c.stats.Load()
	s.InFlight, s.Lanes = int(c.inFlight.Load()), c.lanes.size()
	s.Parked, s.PutOff = c.lanes.events.Load(), c.asides.size()
	s.Refused = c.moves.standing(time.Now())
	return s
}

// watch keeps the sleep budget and the stats up to date, until ctx ends.
func (c *Consumer) watch(ctx context.Context, durables ...jetstream.Consumer) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var still stall
	for {
		c.look(ctx, durables, &still)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look asks JetStream once how things stand. Of what does not answer, what was
// known before stands.
func (c *Consumer) look(ctx context.Context, durables []jetstream.Consumer, still *stall) {
	found := c.ask(ctx, durables)
	if ctx.Err() != nil {
		return
	}
	before := *c.stats.Load()
	next := Stats{Queues: map[string]Queue{}, Skew: before.Skew, SkewKnown: before.SkewKnown, Streams: faults(found)}
	asleep := 0
	var delivered uint64
	var clock skews
	for _, f := range found {
		clock.take(f.clock)
		if f.stream == StreamQueue {
			c.rebind(ctx, f.made)
		}
		if f.info == nil {
			continue
		}
		asleep = max(asleep, f.info.NumAckPending) // each consumer has a budget of its own
		delivered += f.info.Delivered.Consumer
		next.Queues[f.stream] = f.queue
	}
	if len(next.Queues) == len(durables) {
		c.sleep.polled(asleep)
		c.asides.polled(asleep, c.MaxAckPending)
		next.Stalled = still.look(time.Now(), delivered, next.Queues, int(c.inFlight.Load()) >= c.Slots)
	}
	if clock.seen {
		next.Skew, next.SkewKnown = clock.far, true
	}
	c.noteChanges(before, next, asleep)
	c.stats.Store(&next)
}

// finding is what one look found out about one stream.
type finding struct {
	stream string
	err    error // why it did not answer
	lossy  error // why it would lose events
	info   *jetstream.ConsumerInfo
	made   time.Time // zero if it did not answer
	queue  Queue
	clock  skews
}

// ask looks at all streams at once: one that does not answer holds up no other.
func (c *Consumer) ask(ctx context.Context, durables []jetstream.Consumer) []finding {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, errNoAnswer)
	defer cancel()
	found := make([]finding, len(durables)+1)
	var asking sync.WaitGroup
	for i, durable := range durables {
		asking.Go(func() { found[i] = c.askQueue(ctx, durable) })
	}
	asking.Go(func() { // that of the dead letters must be there before something has to be buried
		found[len(durables)], _ = c.askStream(ctx, StreamDead)
	})
	asking.Wait()
	return found
}

// askQueue looks at one durable consumer and its stream.
func (c *Consumer) askQueue(ctx context.Context, durable jetstream.Consumer) finding {
	f, stream := c.askStream(ctx, durable.CachedInfo().Stream)
	if f.err != nil {
		return f
	}
	f.lossy = discards(stream.CachedInfo().Config)
	if f.stream == StreamLater {
		c.moves.bar(f.stream, f.lossy, time.Now())
	}
	asked := time.Now()
	info, err := durable.Info(ctx)
	if err != nil {
		f.err = err
		return f
	}
	f.clock.note(info.TimeStamp, asked, time.Since(asked))
	f.info = info
	f.queue = Queue{Pending: info.NumPending, AckPending: info.NumAckPending, OldestDue: c.oldest(ctx, stream, info)}
	return f
}

// askStream looks at one stream.
func (c *Consumer) askStream(ctx context.Context, name string) (finding, jetstream.Stream) {
	f := finding{stream: name}
	asked := time.Now()
	stream, err := c.js.Stream(ctx, name)
	if err != nil {
		f.err = err
		return f, nil
	}
	f.clock.note(stream.CachedInfo().TimeStamp, asked, time.Since(asked))
	f.made = stream.CachedInfo().Created
	return f, stream
}

// rebind says that the queue's stream was made anew, if it was: else the next
// relay that starts would have to take it for that of another.
func (c *Consumer) rebind(ctx context.Context, made time.Time) {
	if made.IsZero() || made.Equal(c.made) {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, errNoAnswer)
	defer cancel()
	if err := c.Bind(ctx, c.made, made); err != nil {
		c.log.Error().Err(err).Msg("the stream " + StreamQueue + " was made anew")
		return
	}
	c.log.Warn().Time("before", c.made).Time("now", made).Msg("the stream " + StreamQueue + " was made anew")
	c.made = made
}

// noteChanges logs what has begun or ended since the last look.
func (c *Consumer) noteChanges(before, now Stats, asleep int) {
	if now.Stalled > 0 && (before.Stalled == 0 || now.Stalled/time.Minute > before.Stalled/time.Minute) {
		c.log.Error().Dur("stalled_ms", now.Stalled).Int("ack_pending", asleep).Int("max_ack_pending", c.MaxAckPending).
			Msg("webhooks are waiting and nothing moves")
	}
	switch {
	case now.Streams != nil && before.Streams == nil:
		c.log.Error().Err(now.Streams).Msg("the streams are not as relay needs them")
	case now.Streams == nil && before.Streams != nil:
		c.log.Info().Msg("the streams are as relay needs them again")
	}
	wasFar, isFar := before.Skew.Abs() > maxSkew, now.Skew.Abs() > maxSkew
	switch {
	case isFar && !wasFar:
		c.log.Error().Dur("ahead_ms", now.Skew).Str("nats", c.Conn.ConnectedUrlRedacted()).
			Msg("NATS' clock and this machine's differ: set both by NTP, receivers refuse signatures with a wrong time")
	case wasFar && !isFar:
		c.log.Info().Dur("ahead_ms", now.Skew).Msg("NATS' clock and this machine's agree again")
	}
}

// oldest is the age of the first message that was not delivered yet.
func (c *Consumer) oldest(ctx context.Context, stream jetstream.Stream, info *jetstream.ConsumerInfo) time.Duration {
	if info.NumPending == 0 {
		return 0
	}
	filter := info.Config.FilterSubject
	if filter == "" {
		filter = ">"
	}
	msg, err := stream.GetMsg(ctx, info.Delivered.Stream+1, jetstream.WithGetMsgSubject(filter))
	if err != nil {
		return 0
	}
	return max(0, time.Since(msg.Time))
}
