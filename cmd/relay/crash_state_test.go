package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// What a server forgets: these tests lay older files under a NATS server that
// was killed, as a disk that had not written them, or a backup, would.

var storeDir = regexp.MustCompile(`store_dir: "([^"]+)"`)

// store is where the server keeps everything.
func (n *natsProcess) store() string {
	n.t.Helper()
	config, err := os.ReadFile(n.config)
	if err != nil {
		n.t.Fatal(err)
	}
	return storeDir.FindStringSubmatch(string(config))[1]
}

// stopped kills the server, does something to its files, and starts it again.
func (n *natsProcess) stopped(do func(store string) error) {
	n.t.Helper()
	n.kill()
	if err := do(n.store()); err != nil {
		n.t.Fatal(err)
	}
	n.start()
}

// await returns when the observer is connected again.
func (s *stage) await() {
	s.t.Helper()
	if !s.Eventually(func() bool { return s.Conn.IsConnected() && s.Conn.FlushTimeout(time.Second) == nil }) {
		s.t.Fatal("not connected to NATS")
	}
}

// peek takes the one message of the queue and puts it back, and says how often
// it was delivered according to JetStream. No relay may be running.
func (s *stage) peek() int {
	s.t.Helper()
	durable, err := s.JS.Consumer(s.t.Context(), consumer.StreamQueue, consumer.DurableQueue)
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := durable.Next(jetstream.FetchMaxWait(relaytest.Patience))
	if err != nil {
		s.t.Fatal(err)
	}
	of, err := m.Metadata()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := m.Nak(); err != nil {
		s.t.Fatal(err)
	}
	return int(of.NumDelivered)
}

// counts are the files in which the server keeps what its consumer of the queue
// has delivered; none before that is anything.
func (n *natsProcess) counts() []string {
	n.t.Helper()
	found, err := filepath.Glob(filepath.Join(n.store(), "jetstream", "*", "streams", consumer.StreamQueue, "obs", consumer.DurableQueue, "o.dat"))
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

// C10: JetStream counts a message's deliveries anew, because the state of its
// consumer is older than what happened. The attempts go on where they were.
func TestDeliveriesCountedAnew(t *testing.T) {
	t.Parallel()
	server := startNATSProcess(t)
	s := promptStageOn(t, "nats://"+server.address)
	s.Receiver.Answer(500, 500, 500) // then 200
	id := s.Publish(map[string]any{"url": s.Receiver.URL})
	s.peek()
	if !s.Eventually(func() bool { return len(server.counts()) == 1 }) {
		t.Fatal("the server keeps no state of its consumer")
	}
	var before []byte
	server.stopped(func(string) (err error) {
		before, err = os.ReadFile(server.counts()[0])
		return err
	})
	s.await()
	const slow = "policy.schedule=50ms,50ms,2s"
	relay := s.startPrompt("", slow)
	if !s.Eventually(func() bool { return s.rows(id)["response"] == 3 }) {
		t.Fatalf("the rows %v, want three", s.rows(id))
	}
	relay.kill()
	counted := s.peek()
	server.stopped(func(string) error { return os.WriteFile(server.counts()[0], before, 0o600) })
	s.await()
	if again := s.peek(); counted <= 3 || again > 3 {
		t.Fatalf("counted %d deliveries, and then %d: the count did not go back", counted, again)
	}
	s.startPrompt("", slow)
	s.RequireDelivered(id)
	s.requireEmpty()
	s.requireCounts(id, 4, 4)
	for i, a := range s.Attempts(id) {
		if a.Number != i+1 {
			t.Errorf("attempt %d has the number %d", i+1, a.Number)
		}
	}
}

// C12: a process stands still in the middle of a request for longer than its
// claim. Another one takes the event over: a second request, and no third.
func TestAPauseInTheMiddleOfARequest(t *testing.T) {
	t.Parallel()
	s := promptStageOn(t, relaytest.StartNATS(t).ClientURL())
	release := make(chan struct{})
	var first sync.Once
	s.Receiver.Always(func(http.ResponseWriter, *http.Request) { first.Do(func() { <-release }) })
	paused := s.startPrompt("")
	id := s.Publish(map[string]any{"url": s.Receiver.URL})
	s.Next()
	standStill(t, paused.Process)
	close(release) // its answer arrives while it stands still
	s.startPrompt("")
	s.RequireDelivered(id)
	for _, signal := range []os.Signal{syscall.SIGCONT, syscall.SIGTERM} {
		if err := paused.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	<-paused.done // it has recorded what it had in hand
	if paused.ProcessState.ExitCode() != 0 {
		t.Errorf("the paused relay ended as %v", paused.ProcessState)
	}
	s.requireEmpty()
	w, rows := s.RequireDelivered(id), s.rows(id)
	if n := len(s.Receiver.Requests()); n != 2 || rows["response"] != 1 || rows["unrecorded"] != 1 || w.Attempts != 1 {
		t.Errorf("%d requests, the rows %v, recorded %+v; want two requests, one of them unrecorded", n, rows, w)
	}
}

// standStill stops a process and waits until each of its threads has stopped:
// the signal alone only asks for it.
func standStill(t *testing.T, p *os.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(relaytest.Patience); time.Now().Before(end); <-tick.C {
		states, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid))
		if err != nil || len(states) == 0 {
			out, err := exec.CommandContext(t.Context(), "ps", "-o", "state=", "-p", strconv.Itoa(p.Pid)).Output()
			if err != nil {
				t.Fatalf("ask ps for the state of a process: %v", err)
			}
			if strings.HasPrefix(strings.TrimSpace(string(out)), "T") {
				return
			}
			continue
		}
		if !slices.ContainsFunc(states, runs) {
			return
		}
	}
	t.Fatal("the process does not stop")
}

// runs reports whether a thread of Linux is not stopped, by its stat file: the
// state follows the name in brackets.
func runs(stat string) bool {
	text, err := os.ReadFile(stat)
	_, state, _ := strings.Cut(string(text), ") ")
	return err == nil && !strings.HasPrefix(state, "T")
}

// C17: the streams are restored from a backup that is older than the record.
// What was delivered is not sent again, what died gets its letter again, and
// what comes now under an old sequence is another event.
func TestStreamsFromAnOldBackup(t *testing.T) {
	t.Parallel()
	server := startNATSProcess(t)
	s := promptStageOn(t, "nats://"+server.address)
	answers := map[string][]int{"/retried": {500}, "/dead": {404}, "/replayed": {404}} // then 200
	var mu sync.Mutex
	s.Receiver.Always(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if codes := answers[r.URL.Path]; len(codes) > 0 {
			answers[r.URL.Path] = codes[1:]
			w.WriteHeader(codes[0])
		}
	})
	publish := func(name string) string {
		return s.Publish(map[string]any{"url": s.Receiver.URL + "/" + name, "id": name})
	}
	for _, name := range []string{"plain", "retried", "dead", "replayed"} {
		publish(name)
	}
	backup := t.TempDir()
	server.stopped(func(store string) error { return os.CopyFS(backup, os.DirFS(store)) })
	s.await()

	relay := s.startPrompt("")
	publish("later")
	s.RequireDead("dead")
	if _, err := s.Conn.Request(consumer.SubjectReplay, []byte(s.RequireDead("replayed").EndpointKey), relaytest.Patience); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plain", "retried", "replayed", "later"} {
		s.RequireDelivered(name)
	}
	s.requireEmpty()
	relay.kill()
	requests, rows := len(s.Receiver.Requests()), s.allRows()
	server.stopped(func(store string) error {
		if err := os.RemoveAll(filepath.Join(store, "jetstream")); err != nil {
			return err
		}
		return os.CopyFS(store, os.DirFS(backup))
	})
	s.await()
	if queue, letters := s.stored(consumer.StreamQueue), s.letters(); queue != 4 || letters != 0 {
		t.Fatalf("%d in the queue and %d letters: that is not the backup", queue, letters)
	}

	s.startPrompt("")
	s.requireEmpty()
	s.RequireDead("dead")
	if n, all := len(s.Receiver.Requests()), s.allRows(); n != requests || all != rows || s.letters() != 1 {
		t.Errorf("%d requests and %d rows, want %d and %d as before; %d letters, want 1", n, all, requests, rows, s.letters())
	}
	if w := s.RequireDelivered(publish("restored")); w.Key.Seq != s.Webhooks("later")[0].Key.Seq {
		t.Errorf("the new event has the sequence %d, which no old one had: that proves less", w.Key.Seq)
	}
	if n := len(s.Receiver.Requests()); n != requests+1 {
		t.Errorf("%d requests after one more event, want %d", n, requests+1)
	}
}

func (s *stage) allRows() (n int) {
	s.t.Helper()
	if err := s.DB.QueryRow(s.t.Context(), "SELECT count(*) FROM relay.attempts").Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// C16: nobody can cut the power of a test, but the server that relay brings can
// be asked whether it writes before it confirms.
func TestTheServerInsideWritesBeforeItConfirms(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	c := Default()
	c.NATS.Embedded, c.NATS.Data, c.NATS.Port = true, t.TempDir(), 0
	c.NATS.ConfigFile = filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(c.NATS.ConfigFile, fmt.Appendf(nil, "http: %q\n", address), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &servers{}
	if err := s.openNATS(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	page, err := readVarz(t.Context(), "http://"+address)
	if err != nil || !page.JetStream.Config.SyncAlways {
		t.Errorf("the server inside relay does not sync always: %+v, %v", page, err)
	}
}
