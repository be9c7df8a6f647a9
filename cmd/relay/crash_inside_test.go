package main

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// stageInside is a stage whose NATS server runs inside relay. Its streams are
// there already, as an earlier version has left them: with durable consumers that
// the server keeps in files, and an event that it gave out and that nobody
// acknowledged.
func stageInside(t *testing.T) (s *stage, given string) {
	t.Helper()
	dir := t.TempDir()
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	s = stageOn(t, server.ClientURL(), testdb.New(t))
	given = s.Publish(map[string]any{"url": s.Receiver.URL})
	s.peek()
	at, err := url.Parse(server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	server.Shutdown()
	s.inside = []string{"nats.embedded=true", "nats.data=" + dir, "nats.port=" + at.Port()}
	return s, given
}

// kill -9 of a relay takes its NATS server along, and with that what the server
// knew of the messages in hand: it kept that in memory. One that was asleep is not
// early, one that was being sent has its rows, and none is lost.
func TestKillWithTheServerInside(t *testing.T) {
	t.Parallel()
	s, given := stageInside(t)
	const wait = 5 * time.Second
	release := make(chan struct{})
	defer close(release)
	s.Receiver.Always(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/sick":
			w.WriteHeader(http.StatusInternalServerError)
		case "/slow":
			<-release
		}
	})
	killed := s.start("", "policy.schedule="+wait.String(), "delivery.timeout=2s")
	s.await()
	s.RequireDelivered(given)
	s.requireInMemory()
	asleep := s.Publish(map[string]any{"url": s.Receiver.URL + "/sick"})
	if !s.Eventually(func() bool { w := s.Webhooks(asleep); return len(w) == 1 && w[0].Place == string(relay.Asleep) }) {
		t.Fatalf("not asleep: %+v", s.Webhooks(asleep))
	}
	sending := s.Publish(map[string]any{"url": s.Receiver.URL + "/slow"})
	for s.Receiver.Next().Path != "/slow" {
	}
	killed.kill()

	s.Receiver.Always(relaytest.Status(http.StatusOK))
	s.start("", "policy.schedule="+wait.String())
	s.await()
	s.RequireDelivered(sending)
	if rows := s.rows(sending); rows["response"] != 1 || rows["unrecorded"] != 1 {
		t.Errorf("the event that was being sent has the rows %v", rows)
	}
	s.RequireDelivered(asleep)
	if as := s.Attempts(asleep); len(as) != 2 || as[1].Started.Sub(as[0].Started) < wait {
		t.Errorf("the event that was asleep has the attempts %+v; want two, at least %v apart", as, wait)
	}
	s.requireEmpty()
}

// requireInMemory holds that the server keeps no file of what it has given out.
func (s *stage) requireInMemory() {
	s.t.Helper()
	for stream, name := range map[string]string{consumer.StreamQueue: consumer.DurableQueue, consumer.StreamLater: consumer.DurableDue} {
		durable, err := s.JS.Consumer(s.t.Context(), stream, name)
		if err != nil {
			s.t.Fatal(err)
		}
		if !durable.CachedInfo().Config.MemoryStorage {
			s.t.Errorf("the server keeps the consumer %s of %s in a file", name, stream)
		}
	}
}

// A server that can be started without relay keeps its consumers in files: it is
// somebody else's, or has a configuration file of its own.
func TestWhoseConsumersAreInMemory(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		embedded bool
		config   string
		want     bool
	}{{true, "", true}, {true, "nats.conf", false}, {false, "", false}} {
		c := Default()
		c.NATS.Embedded, c.NATS.ConfigFile = tc.embedded, tc.config
		if got := c.streamOptions().MemoryConsumers; got != tc.want {
			t.Errorf("embedded %v, configuration file %q: in memory %v, want %v", tc.embedded, tc.config, got, tc.want)
		}
	}
}
