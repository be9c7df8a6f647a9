package consumer_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

// fill has JetStream take other messages until it takes no more. What it
// returns makes room again.
func fill(t *testing.T, r *relaytest.Relay) (empty func()) {
	t.Helper()
	other, err := r.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	if err != nil {
		t.Fatal(err)
	}
	for size := 256 << 10; size > 0; size /= 4 {
		for err = nil; err == nil; {
			_, err = r.JS.Publish(t.Context(), "other", make([]byte, size))
		}
	}
	return func() {
		t.Helper()
		if err := other.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// C13: JetStream has no room. Producers are told, and what it has confirmed
// before waits until there is room for its next step: a retry that cannot be
// scheduled is neither lost nor early.
func TestAFullJetStreamTellsProducersAndLosesNothing(t *testing.T) {
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: t.TempDir(), Port: -1, MaxStore: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	const wait = 3 * time.Second
	r := relaytest.Start(t, relaytest.Options{
		NATS:     server,
		Policy:   policy.Options{Schedule: []time.Duration{wait}, Jitter: -1},
		Consumer: consumer.Options{AckWait: time.Second, MaxSleep: 100 * time.Millisecond},
	})
	release := make(chan struct{})
	r.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusInternalServerError)
	})
	id := r.Publish(map[string]any{"url": r.Receiver.URL})
	r.Next()
	empty := fill(t, r)
	if _, err := r.JS.Publish(t.Context(), consumer.SubjectOutbound, []byte(`{"url":"https://a.example/"}`)); err == nil {
		t.Error("JetStream confirmed an event that it has no room for")
	}
	close(release)
	redelivered := func() int {
		durable, err := r.JS.Consumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue)
		if err != nil {
			t.Fatal(err)
		}
		return durable.CachedInfo().NumRedelivered
	}
	if !r.Eventually(func() bool { return redelivered() == 1 }) || stored(t, r, consumer.StreamLater) != 0 {
		t.Fatalf("delivered again: %d, scheduled: %d; want the move to fail", redelivered(), stored(t, r, consumer.StreamLater))
	}
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	empty()
	r.RequireDelivered(id)
	requireEmpty(t, r)
	as := r.Attempts(id)
	if n := len(r.Receiver.Requests()); n != 2 || len(as) != 2 || as[1].Started.Sub(as[0].Started) < wait {
		t.Errorf("%d requests and the attempts %+v; want two, at least %v apart", n, as, wait)
	}
}

// C14: the dead-letter stream takes no letter. The event stays on its queue,
// recorded as dead, and nothing is sent again; when there is room it is buried.
func TestALetterThatIsRefusedIsWrittenLater(t *testing.T) {
	r := relaytest.Start(t)
	r.Receiver.Always(relaytest.Status(http.StatusNotFound))
	dead, err := r.JS.Stream(t.Context(), consumer.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	limited, as := dead.CachedInfo().Config, dead.CachedInfo().Config
	limited.MaxMsgs = 1
	if _, err := r.JS.UpdateStream(t.Context(), limited); err != nil {
		t.Fatal(err)
	}
	r.RequireDead(r.Publish(map[string]any{"url": r.Receiver.URL}))
	requireEmpty(t, r)
	putBack, err := r.Conn.SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED." + consumer.StreamQueue + "." + consumer.DurableQueue)
	if err != nil {
		t.Fatal(err)
	}
	id := r.Publish(map[string]any{"url": r.Receiver.URL})
	w := r.RequireStatus(id, "dead")
	if _, err := putBack.NextMsg(relaytest.Patience); err != nil {
		t.Fatalf("the message was not put back: %v", err)
	}
	if queue, letters := stored(t, r, consumer.StreamQueue), stored(t, r, consumer.StreamDead); queue != 1 || letters != 1 {
		t.Fatalf("%d in the queue and %d letters; want the message, and the letter of the other one", queue, letters)
	}

	if _, err := r.JS.UpdateStream(t.Context(), as); err != nil {
		t.Fatal(err)
	}
	forget(t, r)
	r.Letter(w)
	requireEmpty(t, r)
	if rows := r.Attempts(id); len(r.Receiver.Requests()) != 2 || len(rows) != 1 {
		t.Errorf("%d requests for two events, the rows of the second are %+v", len(r.Receiver.Requests()), rows)
	}
}

// forget makes the queue's consumer anew, which forgets that the message was to
// wait for half a minute.
func forget(t *testing.T, r *relaytest.Relay) {
	t.Helper()
	if err := r.JS.DeleteConsumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue); err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Setup(context.WithoutCancel(t.Context()), r.JS, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
}
