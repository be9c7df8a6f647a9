package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/admin"
	"github.com/relaywebhooks/relay/consumer"
)

// stats are the gauges, as the consumer knew them a second ago.
func (a *app) stats() admin.Stats {
	now := a.consumer.Stats()
	open, halfOpen := a.policies.Circuits()
	s := admin.Stats{
		Pending: map[string]uint64{}, AckPending: map[string]int{}, InFlight: now.InFlight,
		Circuits:  map[string]int{"open": open, "half_open": halfOpen},
		Blocked:   map[string]time.Duration{consumer.StreamLater: 0, consumer.StreamDead: 0},
		ClockSkew: a.clocks.skews(),
	}
	here, others := a.pauses.Counts()
	s.Paused, s.PausesShared = map[string]int{"this": here, "other": others}, a.pauses.Away() == nil
	s.Lanes, s.Parked, s.PutOff, s.Stalled = now.Lanes, now.Parked, now.PutOff, now.Stalled
	for queue, q := range now.Queues {
		s.Pending[queue], s.AckPending[queue] = q.Pending, q.AckPending
		s.OldestDue = max(s.OldestDue, q.OldestDue)
	}
	for _, r := range now.Refused {
		s.Blocked[r.Stream] = time.Since(r.Since)
	}
	return s
}

// checks are what /readyz asks, and relay_ready shows.
func (a *app) checks() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"postgres": a.record.Ready,
		"nats": func(context.Context) error {
			if status := a.conn.Status(); status != nats.CONNECTED {
				return errors.Join(fmt.Errorf("not connected: %s", status), a.conn.LastError())
			}
			return nil
		},
		"streams": func(context.Context) error { return a.consumer.Stats().Streams },
		"moves": func(context.Context) error {
			var refused []error
			for _, r := range a.consumer.Stats().Refused {
				refused = append(refused, r)
			}
			return errors.Join(refused...)
		},
		"queues": func(context.Context) error {
			if still := a.consumer.Stats().Stalled; still > 0 {
				return fmt.Errorf("webhooks are waiting and nothing has moved for %s", formatDuration(still.Round(time.Second)))
			}
			return nil
		},
		"sealing": func(context.Context) error { return a.store.Locked() },
		"clock":   func(context.Context) error { return a.clocks.check(time.Now()) },
		"relay": func(context.Context) error {
			if a.draining.Load() {
				return errors.New("is stopping: it takes no new webhooks")
			}
			select {
			case <-a.working:
				return nil
			default:
				return errors.New("is starting: it has not found its streams yet")
			}
		},
	}
}
