package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// partitioned is how long servers do not hear each other: in part longer than
// the election of a new leader takes, which is 4 to 9 seconds.
var partitioned = [2]time.Duration{time.Second, 11 * time.Second}

// A division says what a server's own cables to the others suffer from, what
// theirs to it do, and to whom; nobody named is everybody.
type division func(b *breaking, n *natsServer) (own, theirs trouble, others []*natsServer)

// silent: nothing passes, or every connection is reset.
func silent(b *breaking, _ *natsServer) (own, theirs trouble, others []*natsServer) {
	t := trouble{hold: true}
	if b.random.IntN(2) == 0 {
		t = trouble{cut: true}
	}
	return t, t, nil
}

// hearsNothing: what the server says arrives, what the others say does not.
func hearsNothing(*breaking, *natsServer) (own, theirs trouble, others []*natsServer) {
	return trouble{deaf: true}, trouble{mute: true}, nil
}

// onePair: two servers do not hear each other, and the third hears both.
func onePair(b *breaking, n *natsServer) (own, theirs trouble, others []*natsServer) {
	own, theirs, _ = silent(b, n)
	i := (slices.Index(b.nats, n) + 1) % len(b.nats)
	return own, theirs, b.nats[i : i+1]
}

// late: all that the server says and hears takes its time.
func late(*breaking, *natsServer) (own, theirs trouble, others []*natsServer) {
	t := trouble{latency: 150 * ms}
	return t, t, nil
}

func (b *breaking) anyone(context.Context) (*natsServer, error) { return b.server(), nil }

// partition divides a server from others. Its clients stay connected to it.
func partition(who func(*breaking, context.Context) (*natsServer, error), how division) injection {
	return func(ctx context.Context, b *breaking) (func(context.Context) error, error) {
		if err := b.awaitRoutes(ctx); err != nil {
			return nil, err
		}
		n, err := who(b, ctx)
		if err != nil {
			return nil, err
		}
		a, z, others := how(b, n)
		own, theirs := n.cables(others...)
		suffer(own, a)
		suffer(theirs, z)
		heal := func(ctx context.Context) error {
			suffer(own, trouble{})
			suffer(theirs, trouble{})
			return n.await(ctx)
		}
		if a.cut && len(others) == 0 {
			return heal, n.alone(ctx)
		}
		return heal, nil
	}
}

// alone fails if a server whose cables are cut still has a route.
func (n *natsServer) alone(ctx context.Context) error {
	return n.w.eventually(ctx, 2*time.Second, "cut the routes of "+n.name, func(ctx context.Context) error {
		peers, err := n.peers(ctx)
		if err == nil && len(peers) > 0 {
			return fmt.Errorf("it still has routes to %v", peers)
		}
		return err
	})
}

func suffer(cables []*cable, t trouble) {
	for _, line := range cables {
		line.suffer(t)
	}
}
