package consumer

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Stats is what a consumer knows about its queues, as of the last second.
type Stats struct {
	Queues   map[string]Queue // by stream: WEBHOOKS and WEBHOOKS_LATER
	InFlight int              // webhooks in hand in this process
	Lanes    int              // lanes known to hold parked events
	Stalled  time.Duration    // how long work has been waiting while nothing moved; 0 while all is well
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

func (c *Consumer) look(ctx context.Context, durables []jetstream.Consumer, still *stall) {
	next := Stats{Queues: map[string]Queue{}}
	asleep := 0
	var delivered uint64
	for _, durable := range durables {
		once, cancel := context.WithTimeout(ctx, settleTimeout)
		info, err := durable.Info(once)
		if err == nil {
			asleep = max(asleep, info.NumAckPending) // each consumer has a budget of its own
			delivered += info.Delivered.Consumer
			next.Queues[info.Stream] = Queue{
				Pending: info.NumPending, AckPending: info.NumAckPending, OldestDue: c.oldest(once, info),
			}
		}
		cancel()
		if err != nil {
			return // what was known stands until the server answers
		}
	}
	c.sleep.polled(asleep)
	next.Stalled = still.look(time.Now(), delivered, next.Queues, int(c.inFlight.Load()) >= c.Slots)
	if before := c.stats.Load().Stalled; next.Stalled > 0 && (before == 0 || next.Stalled/time.Minute > before/time.Minute) {
		c.log.Error().Dur("stalled_ms", next.Stalled).Int("ack_pending", asleep).Int("max_ack_pending", c.MaxAckPending).
			Msg("webhooks are waiting and nothing moves")
	}
	c.stats.Store(&next)
}

// oldest is the age of the first message that was not delivered yet.
func (c *Consumer) oldest(ctx context.Context, info *jetstream.ConsumerInfo) time.Duration {
	if info.NumPending == 0 {
		return 0
	}
	stream, err := c.js.Stream(ctx, info.Stream)
	if err != nil {
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
