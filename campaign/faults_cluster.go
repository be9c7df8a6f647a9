package main

import (
	"context"
	"encoding/json"
	"fmt"
	"syscall"
	"time"

	"github.com/relaywebhooks/relay/consumer"
)

// clusterFaults are those of three NATS servers, F13.
func clusterFaults() []fault {
	return []fault{
		{"step-down", [2]time.Duration{0, 300 * ms}, 'c', stepDown},
		{"kill-leader", [2]time.Duration{200 * ms, 2 * time.Second}, 'c', killLeader},
		{"isolate-leader", [2]time.Duration{time.Second, 6 * time.Second}, 'c', isolateLeader},
		{"partition-one", partitioned, 'c', partition((*breaking).anyone, silent)},
		{"partition-leader", partitioned, 'c', partition((*breaking).leader, silent)},
		{"partition-oneway", partitioned, 'c', partition((*breaking).leader, hearsNothing)},
		{"partition-pair", partitioned, 'c', partition((*breaking).anyone, onePair)},
		{"latency-routes", [2]time.Duration{500 * ms, 3 * time.Second}, 'c', partition((*breaking).anyone, late)},
	}
}

// stepDown has the leaders of the streams and of their consumers change.
func stepDown(ctx context.Context, b *breaking) (func(context.Context) error, error) {
	for _, what := range []string{
		"STREAM.LEADER.STEPDOWN." + consumer.StreamQueue, "STREAM.LEADER.STEPDOWN." + consumer.StreamLater,
		"CONSUMER.LEADER.STEPDOWN." + consumer.StreamQueue + "." + consumer.DurableQueue,
	} {
		err := b.eventually(ctx, 10*time.Second, what, func(ctx context.Context) error {
			m, err := b.conn.RequestWithContext(ctx, "$JS.API."+what, nil)
			if err != nil {
				return err
			}
			var answer struct {
				Error *struct {
					Description string `json:"description"`
				} `json:"error"`
			}
			if err := json.Unmarshal(m.Data, &answer); err != nil {
				return err
			}
			if answer.Error != nil {
				return fmt.Errorf("refused: %s", answer.Error.Description)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return nothingToHeal, nil
}

// leader is the server that leads the queue.
func (b *breaking) leader(ctx context.Context) (*natsServer, error) {
	var found *natsServer
	err := b.eventually(ctx, 10*time.Second, "find the leader", func(ctx context.Context) error {
		stream, err := b.js.Stream(ctx, consumer.StreamQueue)
		if err != nil {
			return err
		}
		for _, n := range b.nats {
			if c := stream.CachedInfo().Cluster; c != nil && n.name == c.Leader {
				found = n
				return nil
			}
		}
		return fmt.Errorf("%s has no leader", consumer.StreamQueue)
	})
	return found, err
}

func killLeader(ctx context.Context, b *breaking) (func(context.Context) error, error) {
	n, err := b.leader(ctx)
	if err != nil {
		return nil, err
	}
	n.kill()
	return n.restart, nil
}

// isolateLeader stops the leader for longer than an election takes: when it
// goes on, it does not know that another leads.
func isolateLeader(ctx context.Context, b *breaking) (func(context.Context) error, error) {
	n, err := b.leader(ctx)
	if err != nil {
		return nil, err
	}
	n.process.signal(syscall.SIGSTOP)
	return func(ctx context.Context) error {
		n.process.signal(syscall.SIGCONT)
		return n.await(ctx)
	}, nil
}
