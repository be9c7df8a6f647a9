package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/admin"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/policy"
)

// app is one relay process: what is made from the configuration, and the order in
// which it starts and stops.
type app struct {
	config loaded
	log    zerolog.Logger

	conn     *nats.Conn
	pool     *pgxpool.Pool
	record   *audit.Log
	policies *policy.Set
	pauses   *consumer.Pauses
	found    *endpoints
	sealer   *endpoint.Sealer
	store    *endpoint.Store
	service  *endpoint.Service
	sender   *sender
	consumer *consumer.Consumer
	working  <-chan struct{} // closed when it has found its streams
	admin    *admin.Server

	clocks   *clocks
	own      *ownServers // where no webhook may go
	draining atomic.Bool
}

// newApp builds a relay on connections that are open. The app closes none.
func newApp(ctx context.Context, config loaded, s *servers) (*app, error) {
	log, conn, pool := s.log, s.conn, s.pool
	a := &app{config: config, log: log, conn: conn, pool: pool, sender: &sender{}}
	a.own = &ownServers{admin: config.Admin.Address, conn: conn, pool: pool, embedded: s.nats}
	a.own.look(ctx)
	metrics := admin.NewMetrics(admin.MetricsOptions{Version: version(), Stats: a.stats})
	a.record = audit.New(pool, config.auditOptions(log, metrics.Commit))
	p := config.policyOptions()
	p.OnCircuit = a.circuitChanged
	a.policies = policy.New(p)
	var err error
	a.pauses, err = consumer.NewPauses(consumer.PausesOptions{Conn: conn, Rests: a.policies, Worker: worker(), Logger: log})
	if err != nil {
		return nil, err
	}
	a.policies.Share(a.pauses)

	if a.found, err = newEndpoints(config.Config); err != nil {
		return nil, err
	}
	if err = a.register(ctx); err != nil {
		return nil, err
	}
	if err = a.sender.replace(config.sending(a.own.list)); err != nil {
		return nil, err
	}
	o := config.consumerOptions(log)
	o.Conn, o.Log, o.Calendar, o.Policy, o.Sender, o.Endpoints = conn, a.record, a.record, a.policies, a.sender, a.found
	o.Pauses, o.Observe, o.Bind, o.At = a.pauses, metrics.Observe, a.record.Bind, crashPoints()
	o.DisableAfter = a.found.disableAfter
	if s.nats != nil {
		o.Heard = s.nats.Heard
	}
	if a.consumer, err = consumer.New(o); err != nil {
		return nil, err
	}
	a.working = a.consumer.Ready()
	a.clocks = a.compared()
	pages := config.adminOptions()
	pages.Metrics, pages.Log, pages.Checks = metrics, log, a.checks()
	a.admin = admin.New(pages)
	return a, nil
}

// register reads which endpoints stand in the database. relay does not start if it
// lacks the key to the secrets of one.
func (a *app) register(ctx context.Context) (err error) {
	if a.sealer, err = endpoint.NewSealer(a.config.Sealing.Keys...); err != nil {
		return err
	}
	o := a.config.storeOptions(a.found.Registry, a.log)
	o.Pool, o.Sealer, o.OnChange = a.pool, a.sealer, endpoint.Announce(a.conn)
	a.store = endpoint.NewStore(o)
	a.service = endpoint.NewService(endpoint.ServiceOptions{Conn: a.conn, Store: a.store, Logger: a.log})
	a.found.store = a.store
	if err := a.store.Load(ctx); err != nil {
		return err
	}
	return a.store.Locked()
}

// circuitChanged tells people, the audit log and whoever listens.
func (a *app) circuitChanged(c policy.Circuit) {
	a.record.Circuit(c.Key, c.URL, c.Name, string(c.State), c.Until)
	a.consumer.CircuitChanged(relay.Endpoint{Key: c.Key, Name: c.Name, Tenant: c.Tenant, URL: c.URL}, string(c.State), c.Until)
}

// announce says that relay works, once it does.
func (a *app) announce(ctx context.Context) {
	select {
	case <-a.service.Ready():
	case <-ctx.Done():
	}
	select {
	case <-a.consumer.Ready():
		a.log.Info().Str("version", version()).Str("worker", worker()).Int("slots", a.consumer.Slots).
			Msg("relay is working")
	case <-ctx.Done():
	}
}

// runAdmin names the setting of an address that cannot be had.
func (a *app) runAdmin(ctx context.Context) error {
	err := a.admin.Run(ctx)
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("admin.address: %w", err)
	}
	return err
}

// errStopping is why a part of relay is told to end.
var errStopping = errors.New("relay is stopping")

// Run works until ctx ends or a part of relay fails. It stops in two stages: the
// consumer takes nothing new and finishes what is in hand, for consumer.drain at
// most; only then do the audit log, the policies and the admin server end, which
// that work needs. When it returns nothing runs any more.
func (a *app) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	after, stopAfter := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopAfter(nil)

	var upkeep sync.WaitGroup
	var failed atomic.Pointer[error]
	for _, run := range []func(context.Context) error{a.record.Run, a.policies.Run, a.store.Run, a.service.Run, a.own.Run, a.runAdmin, collectLess} {
		upkeep.Go(func() {
			if err := run(after); err != nil {
				failed.CompareAndSwap(nil, &err)
				stop(err)
			}
		})
	}
	noticed := make(chan struct{})
	unnoticed := context.AfterFunc(ctx, func() {
		defer close(noticed)
		a.draining.Store(true)
		a.log.Info().AnErr("why", context.Cause(ctx)).Int("in_flight", a.consumer.Stats().InFlight).
			Msg("relay is stopping: it finishes what is in hand")
	})
	upkeep.Go(func() { a.announce(after) })
	err := a.consumer.Run(ctx)
	if !unnoticed() {
		<-noticed
	}
	stopAfter(errStopping)
	upkeep.Wait()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // it was told to stop before it had begun
	}
	if p := failed.Load(); p != nil {
		return errors.Join(*p, err)
	}
	if err == nil {
		a.log.Info().Msg("relay has stopped")
	}
	return err
}
