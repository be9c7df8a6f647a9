package nats_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// world is everyone who has to do with webhooks, and what they know.
type world struct {
	t                               *testing.T
	look, relay, producer, operator *client
	receiver                        *relaytest.Receiver
	consumer                        *consumer.Consumer
	late                            atomic.Pointer[relay.Webhook]
	slow, sick, gone                atomic.Bool
	count                           func(sql string) int // asks the audit log for a number

	mu    sync.Mutex
	heard map[string][]string // webhook ids by event
}

// answer is the receiver's.
func (w *world) answer(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/sick" && w.sick.Load():
		rw.WriteHeader(http.StatusInternalServerError)
	case r.URL.Path == "/gone" && w.gone.Load():
		rw.WriteHeader(http.StatusNotFound)
	case r.URL.Path == "/slow":
		for tick := time.Tick(20 * time.Millisecond); w.slow.Load(); <-tick {
		}
	}
}

func (w *world) publish(id, path string, more map[string]any) {
	w.t.Helper()
	envelope := map[string]any{"id": id, "url": w.receiver.URL + path, "payload": map[string]any{"n": 1}}
	maps.Copy(envelope, more)
	body, err := json.Marshal(envelope)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.producer.js.Publish(w.t.Context(), "webhooks.outbound", body); err != nil {
		w.t.Fatal(err)
	}
}

// listen lets the operator hear what relay tells.
func (w *world) listen() {
	_, err := w.operator.Subscribe("relay.events.>", func(m *nats.Msg) {
		var e struct {
			ID string `json:"webhook_id"`
		}
		if json.Unmarshal(m.Data, &e) == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			event := strings.Split(m.Subject, ".")[2]
			w.heard[event] = append(w.heard[event], e.ID)
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	flush(w.t, w.operator)
}

func (w *world) hear(t *testing.T, event, id string) {
	t.Helper()
	eventually(t, "operator hears "+event+" of "+id, func(context.Context) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Contains(w.heard[event], id)
	})
}

// endpoints are the registry and the store behind it.
type endpoints struct {
	*endpoint.Registry
	*endpoint.Store
}

// lateLog is an audit log that knows of a schedule which did not fire.
type lateLog struct {
	*audit.Log
	late *atomic.Pointer[relay.Webhook]
}

func (l lateLog) Overdue(context.Context, time.Duration, relay.Webhook, int) ([]relay.Webhook, error) {
	if w := l.late.Swap(nil); w != nil {
		return []relay.Webhook{*w}, nil
	}
	return nil, nil
}

// run starts a relay as cmd/relay does, on the connection of the user relay.
func (w *world) run() (stop func()) {
	t := w.t
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	pool, err := audit.Pool(t.Context(), testdb.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	w.count = func(sql string) (n int) {
		if err := pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	record := audit.New(pool, audit.Options{Logger: log})
	registry, err := endpoint.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	sender, err := delivery.New(delivery.Options{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AnyPort: true, Secrets: []relay.Secret{relaytest.Secret},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.CloseIdle)
	policies := policy.New(policy.Options{
		Schedule: []time.Duration{10 * time.Millisecond}, Jitter: -1,
		Circuit: policy.CircuitOptions{Failures: 2, Executions: 2, Delay: 300 * time.Millisecond, DelayJitter: -1},
		OnCircuit: func(c policy.Circuit) {
			w.consumer.CircuitChanged(relay.Endpoint{Key: c.Key, Name: c.Name, URL: c.URL}, string(c.State), c.Until)
		},
	})
	pauses, err := consumer.NewPauses(consumer.PausesOptions{Conn: w.relay.Conn, Rests: policies, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	policies.Share(pauses)
	w.consumer, err = consumer.New(consumer.Options{
		Conn: w.relay.Conn, Pauses: pauses, Log: record, Calendar: lateLog{record, &w.late}, Bind: record.Bind, Policy: policies, Sender: sender,
		Endpoints: endpoints{registry, endpoint.NewStore(endpoint.StoreOptions{Pool: pool, Registry: registry})},
		Slots:     4, SlowCalls: 1, AckWait: ackWait, // so that a backlog comes about
		MaxSleep: 500 * time.Millisecond, Sweep: 200 * time.Millisecond, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.slow.Store(true)
	store := endpoint.NewStore(endpoint.StoreOptions{Pool: pool, Registry: registry, OnChange: endpoint.Announce(w.relay.Conn), Logger: log})
	if err := store.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	service := endpoint.NewService(endpoint.ServiceOptions{Conn: w.relay.Conn, Store: store, Logger: log})
	return w.start(record.Run, policies.Run, store.Run, service.Run)
}

func (w *world) start(needed ...func(context.Context) error) (stop func()) {
	t := w.t
	ctx, cancel := context.WithCancel(context.Background())
	after, cancelAfter := context.WithCancel(context.Background())
	var consuming, recording sync.WaitGroup
	for _, run := range needed {
		recording.Go(func() {
			if err := run(after); err != nil {
				t.Errorf("relay: %v", err)
			}
		})
	}
	consuming.Go(func() {
		if err := w.consumer.Run(ctx); err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		consuming.Wait()
		cancelAfter()
		recording.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func (w *world) ask(t *testing.T, subject, text string) *nats.Msg {
	t.Helper()
	m, err := w.operator.Request(subject, []byte(text), patience)
	if err != nil {
		t.Fatalf("ask %s %q: %v", subject, text, err)
	}
	return m
}
