// Package relaytest gives a Go test a whole relay: an embedded NATS server, a
// Postgres database of its own, a receiver that answers as it is told, and a
// relay that delivers from the one to the other. Nothing in it is a mock.
//
//	r := relaytest.Start(t)
//	id := r.Publish(map[string]any{"url": r.Receiver.URL, "payload": map[string]any{"n": 1}})
//	req := r.Next()           // what the receiver got
//	r.RequireDelivered(id)    // what the audit log says
//
// Backoff is short (10 ms, doubling), so that a test of retries takes no time.
// Requests are signed, and every request that a receiver gets must verify: by
// the official library of Standard Webhooks, not by relay's own.
// Everything ends with the test. Postgres' binaries must be installed, or
// RELAY_TEST_DATABASE_URL name a server; see package testdb.
package relaytest

import (
	"context"
	"encoding/json"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// Patience bounds every wait of this package: what has not happened by then
// fails the test.
const Patience = 20 * time.Second

// Options change what Start starts. Each field's zero value works.
type Options struct {
	// Endpoints stand in the configuration file, as it were, beside those that
	// messages write out as a URL.
	Endpoints []relay.Endpoint
	// Store changes how endpoints are registered in the database, see
	// [Relay.Register]. Its collaborators are filled in; secrets are sealed with
	// [SealingKey] if there is no Sealer.
	Store endpoint.StoreOptions
	// Policy defaults to 5 attempts, 10 ms apart and doubling, without jitter.
	Policy policy.Options
	// Delivery may call loopback addresses on any port, in addition to what is
	// set here, and signs with [Secret] if no secret is. The Receiver of the
	// Relay trusts the secrets; to others of the test, say so.
	Delivery delivery.Options
	// Consumer's collaborators are filled in; the rest is passed on.
	Consumer consumer.Options
	// Audit's worker name defaults to "relaytest".
	Audit audit.Options
	// DatabaseURL names a migrated database. Defaults to a fresh one.
	DatabaseURL string
	// NATS is a server to use. Defaults to a fresh one.
	NATS *embedded.NATS
	// NATSURL is where relay finds the server, for tests that put something in
	// between. Defaults to a connection within the process.
	NATSURL string
	// Log turns relay's log on, in the test's output.
	Log bool
}

// Relay is a running relay, and the hands to use it with.
type Relay struct {
	Conn     *nats.Conn          // a producer's connection
	JS       jetstream.JetStream // the same, for the streams
	DB       *pgxpool.Pool       // for questions to the audit log
	Receiver *Receiver
	NATS     *embedded.NATS
	Consumer *consumer.Consumer
	Policies *policy.Set
	Store    *endpoint.Store // of endpoints in the database
	URL      string          // of the database

	t    testing.TB
	stop func()
}

// Start starts a relay and waits until it works. It stops with the test.
func Start(t testing.TB, options ...Options) *Relay {
	t.Helper()
	var o Options
	if len(options) > 0 {
		o = options[0]
	}
	r := &Relay{t: t, NATS: o.NATS, URL: o.DatabaseURL, Receiver: NewReceiver(t)}
	if r.NATS == nil {
		r.NATS = StartNATS(t)
	}
	if r.URL == "" {
		r.URL = testdb.New(t)
	}
	if len(o.Delivery.Secrets) == 0 {
		o.Delivery.Secrets = []relay.Secret{Secret}
	}
	trusted, err := receiverHalf(o.Delivery.Secrets)
	r.check(err)
	r.Receiver.Trust(trusted...)
	conn, err := r.NATS.Connect()
	r.check(err)
	r.open(conn, consumer.StreamOptions{AckWait: o.Consumer.AckWait})
	r.run(o)
	return r
}

// Observe looks at relays that run elsewhere: it publishes, receives and asks
// the audit log, and delivers nothing. It creates the streams.
func Observe(t testing.TB, natsURL, databaseURL string, streams consumer.StreamOptions) *Relay {
	t.Helper()
	r := &Relay{t: t, URL: databaseURL, Receiver: NewReceiver(t), stop: func() {}}
	conn, err := nats.Connect(natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	r.check(err)
	r.open(conn, streams)
	return r
}

// StartNATS starts a NATS server that ends with the test.
func StartNATS(t testing.TB) *embedded.NATS {
	t.Helper()
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: t.TempDir(), Port: -1})
	if err != nil {
		t.Fatalf("relaytest: %v", err)
	}
	t.Cleanup(server.Shutdown)
	return server
}

// open makes the streams and the two connections of a test's own.
func (r *Relay) open(conn *nats.Conn, streams consumer.StreamOptions) {
	r.t.Helper()
	r.Conn = conn
	r.t.Cleanup(r.Conn.Close)
	var err error
	r.JS, err = jetstream.New(r.Conn)
	r.check(err)
	_, err = consumer.Setup(r.t.Context(), r.JS, streams)
	r.check(err)
	r.DB, err = pgxpool.New(r.t.Context(), r.URL)
	r.check(err)
	r.t.Cleanup(r.DB.Close)
}

// run wires a relay as cmd/relay does and starts it.
func (r *Relay) run(o Options) {
	r.t.Helper()
	log := zerolog.Nop()
	if o.Log {
		log = zerolog.New(zerolog.NewTestWriter(r.t)).With().Timestamp().Logger()
	}
	conn, err := r.dial(o)
	r.check(err)
	pool, err := audit.Pool(r.t.Context(), r.URL)
	r.check(err)
	registry, service := r.register(o, pool, conn, log)
	sender, err := delivery.New(open(o.Delivery))
	r.check(err)
	if o.Audit.Worker == "" {
		o.Audit.Worker = "relaytest"
	}
	if o.Audit.Lease == 0 {
		o.Audit.Lease = o.Consumer.AckWait
	}
	o.Audit.Logger = log
	record := audit.New(pool, o.Audit)

	c := o.Consumer
	c.Conn, c.Log, c.Calendar, c.Sender, c.Logger = conn, record, record, sender, log
	c.Endpoints = endpoints{registry, r.Store}
	c.Bind = record.Bind
	p := quick(o.Policy)
	changed := p.OnCircuit
	p.OnCircuit = func(ch policy.Circuit) {
		record.Circuit(ch.Key, ch.URL, ch.Name, string(ch.State), ch.Until)
		r.Consumer.CircuitChanged(relay.Endpoint{Key: ch.Key, Name: ch.Name, Tenant: ch.Tenant, URL: ch.URL}, string(ch.State), ch.Until)
		if changed != nil {
			changed(ch)
		}
	}
	policies := policy.New(p)
	c.Policy = policies
	c.Pauses, err = consumer.NewPauses(consumer.PausesOptions{
		Conn: conn, Rests: policies, Worker: o.Audit.Worker, Logger: log,
	})
	r.check(err)
	policies.Share(c.Pauses)
	r.Policies = policies
	r.Consumer, err = consumer.New(c)
	r.check(err)
	r.start(record.Run, policies.Run, r.Store.Run, service.Run)
	r.await(service)
	r.t.Cleanup(func() { pool.Close(); conn.Close(); sender.CloseIdle() })
	r.t.Cleanup(r.Stop)
}

// start runs the consumer and what it needs, and stops them in order: the
// consumer finishes what is in hand before the audit log ends.
func (r *Relay) start(needed ...func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	after, cancelAfter := context.WithCancel(context.Background())
	var consuming, recording sync.WaitGroup
	for _, run := range needed {
		recording.Go(func() { _ = run(after) })
	}
	ended := make(chan error, 1)
	consuming.Go(func() { ended <- r.Consumer.Run(ctx) })
	r.stop = sync.OnceFunc(func() {
		cancel()
		consuming.Wait()
		cancelAfter()
		recording.Wait()
	})
	select {
	case <-r.Consumer.Ready():
	case err := <-ended:
		r.t.Fatalf("relaytest: relay ended: %v", err)
	}
}

// Stop stops the relay as SIGTERM would: what is in hand is finished. It may
// be called again.
func (r *Relay) Stop() { r.stop() }

func (r *Relay) dial(o Options) (*nats.Conn, error) {
	if o.NATSURL != "" {
		return nats.Connect(o.NATSURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	}
	return r.NATS.Connect(nats.MaxReconnects(-1))
}

// quick makes backoff short where the test does not say.
func quick(p policy.Options) policy.Options {
	if p.Schedule == nil {
		p.Schedule = []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond}
		p.Jitter = -1
	}
	return p
}

// open lets a sender call this machine.
func open(d delivery.Options) delivery.Options {
	d.Allow = append(d.Allow, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	d.AnyPort = true
	return d
}

// Publish publishes an envelope and returns its webhook id: the field "id", or
// one that is made up.
func (r *Relay) Publish(envelope map[string]any) string {
	r.t.Helper()
	id, ok := envelope["id"].(string)
	if !ok {
		id = "test_" + nats.NewInbox()[len(nats.InboxPrefix):]
		envelope = maps.Clone(envelope) // the test may publish it again, as another webhook
		envelope["id"] = id
	}
	body, err := json.Marshal(envelope)
	r.check(err)
	r.PublishMsg(&nats.Msg{Subject: consumer.SubjectOutbound, Data: body})
	return id
}

// PublishMsg publishes any message and waits until JetStream has stored it.
func (r *Relay) PublishMsg(m *nats.Msg) uint64 {
	r.t.Helper()
	ack, err := r.JS.PublishMsg(r.t.Context(), m)
	r.check(err)
	return ack.Sequence
}

// Next waits for the receiver's next request.
func (r *Relay) Next() Request {
	r.t.Helper()
	return r.Receiver.Next()
}

// Eventually waits until done reports true, at most [Patience].
func (r *Relay) Eventually(done func() bool) bool {
	r.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(Patience); time.Now().Before(end); <-tick.C {
		if done() {
			return true
		}
	}
	return done()
}

func (r *Relay) check(err error) {
	if err != nil {
		r.t.Helper()
		r.t.Fatalf("relaytest: %v", err)
	}
}
