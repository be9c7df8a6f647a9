package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// The crash tests run the real program, built with the tag crash, and kill it
// at each point of a webhook's way. What the audit log says afterwards must
// cover what the receiver saw.

const (
	crashTimeout = time.Second     // of one exchange
	crashAckWait = 3 * time.Second // so that a dead process is noticed soon
)

// crashBinary is built once for all tests of this package.
var crashBinary = sync.OnceValues(func() (string, error) { return buildBinary("relay", "-tags", "crash", ".") })

// stage is what stands around the processes under test: servers, a receiver,
// and an observer of the audit log.
type stage struct {
	*relaytest.Relay // for its questions; it delivers nothing
	t                *testing.T
	natsURL          string
	inside           []string // not empty: settings of the NATS server that runs inside relay
}

func newStage(t *testing.T) *stage {
	t.Helper()
	return stageOn(t, relaytest.StartNATS(t).ClientURL(), testdb.New(t))
}

func stageOn(t *testing.T, natsURL, databaseURL string) *stage {
	t.Helper()
	return &stage{
		Relay: relaytest.Observe(t, natsURL, databaseURL, consumer.StreamOptions{AckWait: crashAckWait}),
		t:     t, natsURL: natsURL,
	}
}

// relay is one process under test.
type process struct {
	*exec.Cmd
	t    *testing.T
	done chan struct{}
}

// start runs relay run, to crash at a point or (with "") not at all, and waits
// until it is ready.
func (s *stage) start(crashAt string, set ...string) *process {
	s.t.Helper()
	path, err := crashBinary()
	if err != nil {
		s.t.Fatal(err)
	}
	receiver, err := url.Parse(s.Receiver.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	args := []string{"run"}
	server := s.inside
	if len(server) == 0 {
		server = []string{"nats.url=" + s.natsURL}
	}
	for _, kv := range slices.Concat(server, []string{
		"postgres.url=" + s.URL, "delivery.allow=127.0.0.0/8", "delivery.ports=" + receiver.Port(),
		"delivery.timeout=" + crashTimeout.String(), "delivery.connect_timeout=" + crashTimeout.String(),
		"consumer.ack_wait=" + crashAckWait.String(), "consumer.sweep=500ms", "policy.schedule=100ms,200ms,400ms,800ms",
		"policy.jitter=0", "admin.address=127.0.0.1:0", "log.format=json", "signing.secrets=" + string(relaytest.Secret),
	}, set) {
		args = append(args, "--set", kv)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "CRASH_AT="+crashAt)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	p := &process{Cmd: cmd, t: s.t, done: make(chan struct{})}
	ready := make(chan struct{})
	go p.watch(bufio.NewScanner(stderr), ready)
	s.t.Cleanup(p.kill)
	select {
	case <-ready:
	case <-p.done:
		if crashAt == "" {
			s.t.Fatal("relay ended before it was ready")
		}
	case <-time.After(relaytest.Patience):
		s.t.Fatal("relay is not ready")
	}
	return p
}

// watch passes the log on to the test and notes when relay works.
func (p *process) watch(lines *bufio.Scanner, ready chan<- struct{}) {
	defer close(p.done)
	told := false
	for lines.Scan() {
		p.t.Log(lines.Text())
		if strings.Contains(lines.Text(), "relay is stopping") {
			_ = p.Process.Signal(syscall.SIGTERM) // again at once, as some supervisors do
		}
		if !told && strings.Contains(lines.Text(), "relay is working") {
			told = true
			close(ready)
		}
	}
	_ = p.Wait() // how it ended is the test's to ask
}

func (p *process) kill() {
	_ = p.Process.Kill()
	<-p.done
}

// died waits until the process has killed itself.
func (p *process) died() {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(relaytest.Patience):
		p.t.Fatal("relay did not reach the crash point")
	}
	if state, ok := p.ProcessState.Sys().(syscall.WaitStatus); !ok || state.Signal() != syscall.SIGKILL {
		p.t.Fatalf("relay ended as %v, not by its crash point", p.ProcessState)
	}
}

// rows counts the attempts of a webhook by kind.
func (s *stage) rows(id string) map[string]int {
	s.t.Helper()
	kinds := map[string]int{}
	for _, a := range s.Attempts(id) {
		kinds[a.Kind]++
	}
	return kinds
}

// TestCrashPoints kills relay at each point of DESIGN's way and reliability's
// table, starts it again, and holds what the receiver saw against the record.
func TestCrashPoints(t *testing.T) {
	for name, c := range map[string]struct {
		at                 consumer.Point
		answers            []int // then 200
		status             string
		requests           int // that reach the receiver
		responses, unknown int // rows
		letters            int
	}{
		"C0 before the request":                  {at: consumer.AfterClaim, status: "delivered", requests: 1, responses: 1, unknown: 1},
		"C2 after the answer, before the commit": {at: consumer.BeforeRecord, status: "delivered", requests: 2, responses: 1, unknown: 1},
		"C3 after the commit, before the ack":    {at: consumer.AfterRecord, status: "delivered", requests: 1, responses: 1},
		"C4 right before the ack":                {at: consumer.BeforeAck, status: "delivered", requests: 1, responses: 1},
		"C4 right after the ack":                 {at: consumer.AfterAck, status: "delivered", requests: 1, responses: 1},
		"C5 letter stored, not acknowledged":     {at: consumer.AfterMove, answers: []int{404}, status: "dead", requests: 1, responses: 1, letters: 1},
		"C6 dead in the record, no letter yet":   {at: consumer.AfterRecord, answers: []int{404}, status: "dead", requests: 1, responses: 1, letters: 1},
		"a retry recorded, not yet asleep":       {at: consumer.AfterRecord, answers: []int{500}, status: "delivered", requests: 2, responses: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.Receiver.Answer(c.answers...)
			crashing := s.start(string(c.at) + ":1")
			id := s.Publish(map[string]any{"url": s.Receiver.URL})
			crashing.died()
			s.start("")
			w := s.RequireStatus(id, c.status)
			if c.letters > 0 {
				s.Letter(w)
			}
			s.requireEmpty()
			rows := s.rows(id)
			if got := len(s.Receiver.Requests()); got != c.requests || rows["response"] != c.responses || rows["unrecorded"] != c.unknown {
				t.Errorf("%d requests and the rows %v; want %d requests, %d responses, %d unrecorded", got, rows, c.requests, c.responses, c.unknown)
			}
			if got := s.letters(); got != c.letters {
				t.Errorf("%d dead letters, want %d", got, c.letters)
			}
			if w.Attempts != rows["response"] {
				t.Errorf("%d attempts counted, %d answered", w.Attempts, rows["response"])
			}
		})
	}
}

// C1: kill -9 in the middle of a request. The request has its row.
func TestCrashInTheMiddleOfARequest(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	release := make(chan struct{})
	defer close(release)
	s.Receiver.Always(func(http.ResponseWriter, *http.Request) { <-release })
	relay := s.start("", "delivery.timeout=2s")
	id := s.Publish(map[string]any{"url": s.Receiver.URL})
	s.Next()
	relay.kill()
	s.Receiver.Always(relaytest.Status(http.StatusOK))
	s.start("")
	s.RequireDelivered(id)
	if rows := s.rows(id); len(s.Receiver.Requests()) != 2 || rows["response"] != 1 || rows["unrecorded"] != 1 {
		t.Errorf("%d requests and the rows %v", len(s.Receiver.Requests()), rows)
	}
}

// A process that dies five times over one event is not given it a sixth time.
func TestAnEventThatKillsRelayIsPoison(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	id := s.Publish(map[string]any{"url": s.Receiver.URL})
	for range 5 {
		s.start(string(consumer.AfterClaim)+":1", "consumer.ack_wait=2s").died()
	}
	s.start("", "consumer.ack_wait=2s")
	if w := s.RequireDead(id); !strings.Contains(w.Reason, "poison") || s.rows(id)["unrecorded"] != 5 {
		t.Errorf("recorded %+v with the rows %v", w, s.rows(id))
	}
	if n := len(s.Receiver.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// SIGTERM with requests under way: they are finished, recorded and
// acknowledged, and the exit status is 0.
func TestSIGTERMMakesNoDuplicate(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	release := make(chan struct{})
	s.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusOK)
	})
	relay := s.start("", "delivery.timeout=2s")
	const n = 20
	for i := range n {
		s.Publish(map[string]any{"url": s.Receiver.URL, "id": fmt.Sprint("term_", i)})
	}
	s.Next()
	if err := relay.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	close(release)
	<-relay.done
	if relay.ProcessState.ExitCode() != 0 {
		t.Errorf("relay ended as %v", relay.ProcessState)
	}
	s.start("")
	for i := range n {
		s.RequireDelivered(fmt.Sprint("term_", i))
	}
	if got := len(s.Receiver.Requests()); got != n {
		t.Errorf("%d requests for %d webhooks", got, n)
	}
	s.requireEmpty()
}

func (s *stage) requireEmpty() {
	s.t.Helper()
	if !s.Eventually(func() bool { return s.stored(consumer.StreamQueue) == 0 && s.stored(consumer.StreamLater) == 0 }) {
		s.t.Errorf("%d messages are left on %s, %d on %s", s.stored(consumer.StreamQueue), consumer.StreamQueue,
			s.stored(consumer.StreamLater), consumer.StreamLater)
	}
}

func (s *stage) letters() int { return s.stored(consumer.StreamDead) }

func (s *stage) stored(stream string) int {
	s.t.Helper()
	found, err := s.JS.Stream(s.t.Context(), stream)
	if err != nil {
		s.t.Fatal(err)
	}
	return int(found.CachedInfo().State.Msgs)
}
