package nats_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
)

// seed fills the three streams, takes one message in hand, and returns the
// subject that would acknowledge it.
func seed(t *testing.T, o *client) string {
	t.Helper()
	for _, subject := range []string{
		"webhooks.outbound", "webhooks.outbound.orders", "webhooks.due.key", "webhooks.parked.key", "webhooks.dead.key.1-1",
	} {
		if _, err := o.js.Publish(t.Context(), subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	durable, err := o.js.Consumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue)
	if err != nil {
		t.Fatal(err)
	}
	m, err := durable.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	return m.Reply()
}

// state is what nobody but relay may change. What producers add to WEBHOOKS is
// left out.
type state struct {
	Config    jetstream.StreamConfig
	Created   time.Time
	FirstSeq  uint64
	Deleted   int
	Subjects  map[string]uint64
	LastSeq   uint64
	Consumers []jetstream.ConsumerInfo
}

// look describes all streams and consumers.
func look(t *testing.T, o *client) string {
	t.Helper()
	var all []state
	for info := range o.js.ListStreams(t.Context()).Info() {
		stream, err := o.js.Stream(t.Context(), info.Config.Name)
		if err != nil {
			t.Fatal(err)
		}
		full, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
		if err != nil {
			t.Fatal(err)
		}
		s := state{
			Config: full.Config, Created: full.Created, FirstSeq: full.State.FirstSeq, Deleted: full.State.NumDeleted,
			Subjects: full.State.Subjects, LastSeq: full.State.LastSeq,
		}
		for c := range stream.ListConsumers(t.Context()).Info() {
			c.TimeStamp, c.NumPending, c.NumWaiting, c.Cluster = time.Time{}, 0, 0, nil
			s.Consumers = append(s.Consumers, *c)
		}
		if s.Config.Name == consumer.StreamQueue {
			s.Subjects, s.LastSeq = nil, 0
		}
		all = append(all, s)
	}
	text, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// settle waits until the server has worked off the requests before it.
func settle(t *testing.T, o *client) {
	t.Helper()
	scratch := jetstream.StreamConfig{Name: "SCRATCH", Subjects: []string{"scratch"}, Storage: jetstream.MemoryStorage}
	for range 3 {
		if _, err := o.js.CreateStream(t.Context(), scratch); err != nil {
			t.Fatal(err)
		}
		if err := o.js.DeleteStream(t.Context(), scratch.Name); err != nil {
			t.Fatal(err)
		}
	}
}
