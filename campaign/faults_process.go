package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

const ms = time.Millisecond

func nothingToHeal(context.Context) error { return nil }

// processFaults are crashes, pauses and stops of the processes: F1 to F6, F8
// and F14.
func processFaults() []fault {
	return []fault{
		{"kill-relay", [2]time.Duration{100 * ms, 800 * ms}, 0, killRelay},
		{"pause-relay", [2]time.Duration{300 * ms, ackWait * 3 / 2}, 0, pauseRelay},
		{"stop-relay", [2]time.Duration{0, 300 * ms}, 0, stopRelay},
		{"kill-nats", [2]time.Duration{50 * ms, 1500 * ms}, 0, killNATS},
		{"stop-nats", [2]time.Duration{50 * ms, 4500 * ms}, 0, stopNATS},
		{"reload-nats", [2]time.Duration{0, 0}, 0, reloadNATS},
		{"pause-nats", [2]time.Duration{200 * ms, 1500 * ms}, 0, pauseNATS},
		{"kill-postgres", [2]time.Duration{50 * ms, 2000 * ms}, 0, killPostgres},
		{"stop-postgres", [2]time.Duration{50 * ms, 4500 * ms}, 0, stopPostgres},
		{"kill-relay-and-nats", [2]time.Duration{100 * ms, 800 * ms}, 0, both(killRelay, killNATS)},
		{"kill-postgres-and-relay", [2]time.Duration{100 * ms, 800 * ms}, 0, both(killPostgres, killRelay)},
		{"kill-nats-and-postgres", [2]time.Duration{50 * ms, 300 * ms}, 0, both(killNATS, killPostgres)},
		{upgrading, [2]time.Duration{0, 0}, 0, upgrade},
		{"pause-relay-long", [2]time.Duration{2 * ackWait, 3 * ackWait}, 'l', pauseRelay},
		{"postgres-away", [2]time.Duration{25 * time.Second, 35 * time.Second}, 'l', killPostgres},
		{"nats-away", [2]time.Duration{8 * time.Second, 15 * time.Second}, 'l', killNATS},
	}
}

type injection func(context.Context, *breaking) (func(context.Context) error, error)

// both makes two faults within 100 ms.
func both(first, second injection) injection {
	return func(ctx context.Context, b *breaking) (func(context.Context) error, error) {
		healFirst, err := first(ctx, b)
		if err != nil {
			return nil, err
		}
		wait(ctx, time.Duration(b.random.IntN(100))*ms)
		healSecond, err := second(ctx, b)
		if err != nil {
			return nil, errors.Join(err, healFirst(ctx))
		}
		return func(ctx context.Context) error {
			// A relay that starts needs its servers: they come first, whatever the order was.
			healed := make(chan error)
			go func() { healed <- healFirst(ctx) }()
			err := healSecond(ctx)
			return errors.Join(<-healed, err)
		}, nil
	}
}

// F1: kill -9 of a relay.
func killRelay(_ context.Context, b *breaking) (func(context.Context) error, error) {
	s := b.station()
	s.kill()
	return func(context.Context) error { return s.start() }, nil
}

// F2: a relay stands still.
func pauseRelay(_ context.Context, b *breaking) (func(context.Context) error, error) {
	s := b.station()
	s.pause(b.hold)
	return func(context.Context) error {
		s.now().signal(syscall.SIGCONT)
		return nil
	}, nil
}

// F3: SIGTERM in the middle of the load.
func stopRelay(_ context.Context, b *breaking) (func(context.Context) error, error) {
	s := b.station()
	s.stop()
	return func(context.Context) error { return s.start() }, nil
}

// F4: kill -9 of NATS.
func killNATS(_ context.Context, b *breaking) (func(context.Context) error, error) {
	n := b.server()
	n.kill()
	return n.restart, nil
}

// F5: an orderly restart, and a reload.
func stopNATS(_ context.Context, b *breaking) (func(context.Context) error, error) {
	n := b.server()
	n.stop()
	return n.restart, nil
}

func reloadNATS(ctx context.Context, b *breaking) (func(context.Context) error, error) {
	n := b.server()
	n.process.signal(syscall.SIGHUP)
	return n.await, n.await(ctx)
}

func pauseNATS(_ context.Context, b *breaking) (func(context.Context) error, error) {
	n := b.server()
	n.process.signal(syscall.SIGSTOP)
	return func(ctx context.Context) error {
		n.process.signal(syscall.SIGCONT)
		return n.await(ctx)
	}, nil
}

// F6: Postgres dies, or is stopped.
func killPostgres(_ context.Context, b *breaking) (func(context.Context) error, error) {
	b.postgres.Kill()
	return b.postgres.Restart, nil
}

func stopPostgres(ctx context.Context, b *breaking) (func(context.Context) error, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := b.postgres.Stop(ctx); err != nil {
		return nil, fmt.Errorf("stop Postgres: %w", err)
	}
	return b.postgres.Restart, nil
}
