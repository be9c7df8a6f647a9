package consumer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// startJetStream is a server without any of relay's streams.
func startJetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	conn, err := relaytest.StartNATS(t).Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// What differs is named, setting by setting; what relay does not care for stays
// as the operator set it.
func TestCompareSaysWhatDiffers(t *testing.T) {
	t.Parallel()
	js := startJetStream(t)
	if _, err := consumer.Setup(t.Context(), js, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	dead, err := js.Stream(t.Context(), consumer.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	config := dead.CachedInfo().Config
	config.MaxAge, config.MaxBytes = time.Hour, 1<<30
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	found, err := consumer.Compare(t.Context(), js, consumer.StreamOptions{AckWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		consumer.StreamQueue: "", consumer.StreamQueue + "/" + consumer.DurableQueue: "ack_wait is 45s, want 1m0s",
		consumer.StreamLater: "", consumer.StreamLater + "/" + consumer.DurableDue: "ack_wait is 45s, want 1m0s",
		consumer.StreamDead: "max_age is 1h0m0s, want 720h0m0s",
	}
	for _, c := range found {
		if got := strings.Join(c.Differs, "; "); got != want[c.Name] || (c.Done == "different") != (got != "") {
			t.Errorf("%s is %s: %q, want %q", c.Name, c.Done, got, want[c.Name])
		}
	}
	if _, err := consumer.Setup(t.Context(), js, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	again, err := js.Stream(t.Context(), consumer.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	if c := again.CachedInfo().Config; c.MaxAge != 30*24*time.Hour || c.MaxBytes != 1<<30 {
		t.Errorf("updated to max_age %v and max_bytes %d", c.MaxAge, c.MaxBytes)
	}
}

// The window of Nats-Msg-Id is what it was said to be. Who says nothing leaves it as
// an operator has set it.
func TestTheDuplicateWindowIsSetWhereItIsSaid(t *testing.T) {
	t.Parallel()
	js := startJetStream(t)
	for _, step := range []struct{ said, is time.Duration }{
		{0, 2 * time.Minute}, {100 * time.Millisecond, 100 * time.Millisecond}, {0, 100 * time.Millisecond}, {time.Hour, time.Hour},
	} {
		o := consumer.StreamOptions{DuplicateWindow: step.said}
		if _, err := consumer.Setup(t.Context(), js, o); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]time.Duration{consumer.StreamQueue: step.is, consumer.StreamLater: 2 * time.Minute, consumer.StreamDead: 2 * time.Minute} {
			stream, err := js.Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if got := stream.CachedInfo().Config.Duplicates; got != want {
				t.Errorf("said %s: %s has %s, want %s", step.said, name, got, want)
			}
		}
		changes, err := consumer.Compare(t.Context(), js, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if c.Done != "unchanged" {
				t.Errorf("said %s: %s is %s: %q", step.said, c.Name, c.Done, c.Differs)
			}
		}
	}
	if _, err := consumer.Setup(t.Context(), js, consumer.StreamOptions{DuplicateWindow: 100 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	publish := func() bool {
		ack, err := js.Publish(t.Context(), consumer.SubjectOutbound, []byte("{}"), jetstream.WithMsgID("same"))
		if err != nil {
			t.Fatal(err)
		}
		return !ack.Duplicate
	}
	publish()
	for end := time.Now().Add(relaytest.Patience); !publish(); { // JetStream looks for what is over now and then
		if time.Now().After(end) {
			t.Fatal("an id is remembered for longer than the window")
		}
	}
}

// A server that is relay's own keeps what its consumers have in hand in memory,
// also where an earlier version has left consumers that keep it in a file. What
// they had given out is given out again. Who does not ask for it changes nothing.
func TestConsumersMoveIntoMemory(t *testing.T) {
	t.Parallel()
	js := startJetStream(t)
	setup := func(o consumer.StreamOptions) map[string]string {
		changes, err := consumer.Setup(t.Context(), js, o)
		if err != nil {
			t.Fatal(err)
		}
		done := map[string]string{}
		for _, c := range changes {
			done[c.Name] = c.Done
		}
		return done
	}
	next := func() jetstream.Msg {
		durable, err := js.Consumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue)
		if err != nil {
			t.Fatal(err)
		}
		m, err := durable.Next(jetstream.FetchMaxWait(relaytest.Patience))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	setup(consumer.StreamOptions{AckWait: time.Hour})
	if _, err := js.Publish(t.Context(), consumer.SubjectOutbound, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	next() // for an hour, by this AckWait

	inMemory := consumer.StreamOptions{MemoryConsumers: true, AckWait: time.Hour}
	found, err := consumer.Compare(t.Context(), js, inMemory)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range found {
		if c.Done != "unchanged" {
			t.Errorf("%s is %s: %q, which nobody but relay run can mend", c.Name, c.Done, c.Differs)
		}
	}
	for _, step := range []struct {
		o    consumer.StreamOptions
		done string
	}{{inMemory, "made anew"}, {inMemory, "unchanged"}, {consumer.StreamOptions{AckWait: time.Hour}, "unchanged"}, {consumer.StreamOptions{}, "updated"}} {
		done := setup(step.o)
		for _, name := range []string{consumer.StreamQueue + "/" + consumer.DurableQueue, consumer.StreamLater + "/" + consumer.DurableDue} {
			if done[name] != step.done {
				t.Errorf("with %+v, %s is %s, want %s", step.o, name, done[name], step.done)
			}
		}
	}
	next() // given out again
	durable, err := js.Consumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue)
	if err != nil {
		t.Fatal(err)
	}
	if c := durable.CachedInfo().Config; !c.MemoryStorage || c.AckWait != 45*time.Second || c.MaxAckPending != consumer.DefaultMaxAckPending {
		t.Errorf("the consumer made anew is %+v", c)
	}
}
