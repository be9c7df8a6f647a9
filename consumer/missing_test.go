package consumer_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// requireStreams waits until what is wrong with the streams says all the texts;
// without texts, until nothing is wrong.
func requireStreams(t *testing.T, r *relaytest.Relay, texts ...string) {
	t.Helper()
	began := time.Now()
	var wrong error
	if !r.Eventually(func() bool { wrong = r.Consumer.Stats().Streams; return (wrong != nil) == (len(texts) > 0) }) {
		t.Fatalf("the streams: %v, want %q", wrong, texts)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it was said after %v", took)
	}
	for _, text := range texts {
		if !strings.Contains(wrong.Error(), text) {
			t.Errorf("no %q in %q", text, wrong)
		}
	}
}

// A stream that is gone is named; when it is there again relay works on it
// without a restart.
func TestAStreamThatIsGoneIsNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{consumer.StreamQueue, consumer.StreamLater, consumer.StreamDead} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := relaytest.Start(t)
			r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
			if err := r.JS.DeleteStream(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			requireStreams(t, r, "the stream "+name+" is not there", "relay init makes it")
			if _, err := consumer.Setup(t.Context(), r.JS, consumer.StreamOptions{}); err != nil {
				t.Fatal(err)
			}
			requireStreams(t, r)
			r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
			r.Receiver.Answer(410)
			r.RequireDead(r.Publish(map[string]any{"url": r.Receiver.URL}))
			requireEmpty(t, r)
		})
	}
}

// A server that finds its disk full turns JetStream off and stays up.
func TestJetStreamTurnedOffIsNamed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	_, js := s.client()
	if _, err := consumer.Setup(t.Context(), js, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	r := relaytest.Start(t, relaytest.Options{NATSURL: s.ClientURL()})
	publish := func(id string) {
		if !r.Eventually(func() bool {
			_, err := js.PublishMsg(t.Context(), raw(r.Receiver.URL, nil, "Relay-Id", id))
			return err == nil
		}) {
			t.Fatalf("%s cannot be published", id)
		}
	}
	publish("before")
	r.RequireDelivered("before")
	s.replace(false)
	requireStreams(t, r, "JetStream does not answer for any of relay's streams", "disk is full", "restarted")
	s.replace(true)
	requireStreams(t, r)
	publish("after")
	r.RequireDelivered("after")
}

// A limit on the stream of what waits would remove events: relay lays nothing
// there until the limit is gone.
func TestAStreamThatWouldLoseEventsGetsNone(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	limit(t, r, consumer.StreamLater, func(c *jetstream.StreamConfig) { c.MaxBytes = 1 })
	requireStreams(t, r, consumer.StreamLater+" has max_bytes 1", "relay init takes it away")
	id := r.Publish(map[string]any{"url": r.Receiver.URL, "scheduled_at": time.Now().Add(time.Hour).Format(time.RFC3339)})
	requireRefusal(t, r, consumer.StreamLater, "max_bytes 1", "take the limit away")
	r.RequireStatus(id, "pending")
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
	requireStored(t, r, consumer.StreamQueue, 1) // the one that cannot wait elsewhere
	if _, err := consumer.Setup(t.Context(), r.JS, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	requireStreams(t, r)
	if !r.Eventually(func() bool { return count(t, r, "webhooks.later.>") == 1 && stored(t, r, consumer.StreamQueue) == 0 }) {
		t.Error("it was not scheduled when the limit was gone")
	}
	requireNoRefusal(t, r)
}

// Nor does a lane drain into it, nor a replay go there.
func TestNothingIsReleasedIntoAStreamThatWouldLoseIt(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, circuitOptions())
	r.Receiver.Always(relaytest.Status(500))
	const n = 10
	for i := range n {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("lossy_", i), "max_attempts": 50})
	}
	if !r.Eventually(func() bool { return count(t, r, "webhooks.parked.>") > n/2 }) {
		t.Fatalf("%d parked", count(t, r, "webhooks.parked.>"))
	}
	dying := relaytest.NewReceiver(t)
	dying.Answer(410)
	letter := r.Publish(map[string]any{"url": dying.URL, "id": "letter"})
	r.RequireDead(letter)
	limit(t, r, consumer.StreamLater, func(c *jetstream.StreamConfig) { c.MaxMsgs = n + 1 })
	requireStreams(t, r, "max_msgs 11")
	parked := count(t, r, "webhooks.parked.>")
	r.Receiver.Always(relaytest.Status(200))
	if job := ask(t, r, consumer.SubjectReplay, "all"); job.State != "running" || job.Replayed != 0 {
		t.Errorf("the job is %+v", job)
	}
	if got := count(t, r, "webhooks.parked.>"); got != parked {
		t.Errorf("%d parked, of %d: some were released", got, parked)
	}
	limit(t, r, consumer.StreamLater, func(c *jetstream.StreamConfig) { c.MaxMsgs = -1 })
	r.RequireDelivered(letter)
	for i := range n {
		r.RequireDelivered(fmt.Sprint("lossy_", i))
	}
	requireStreams(t, r)
	requireNoRefusal(t, r)
	requireEmpty(t, r)
}
