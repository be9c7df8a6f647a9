package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// natsBinary is the real nats-server, built once from the module that relay
// embeds.
var natsBinary = sync.OnceValues(func() (string, error) {
	return buildBinary("nats-server", "github.com/nats-io/nats-server/v2")
})

// natsProcess is a NATS server that can be killed and started again on what it
// had stored.
type natsProcess struct {
	t            *testing.T
	path, config string
	address      string
	cmd          *exec.Cmd
}

func startNATSProcess(t *testing.T) *natsProcess {
	t.Helper()
	path, err := natsBinary()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &natsProcess{t: t, path: path, config: filepath.Join(t.TempDir(), "nats.conf"), address: listener.Addr().String()}
	_ = listener.Close()
	config := fmt.Sprintf("listen: %q\nmax_payload: %d\njetstream { store_dir: %q, sync_interval: always }\n",
		n.address, relay.MaxBody+64<<10, t.TempDir())
	if err := os.WriteFile(n.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	t.Cleanup(n.kill)
	return n
}

func (n *natsProcess) start() {
	n.t.Helper()
	n.cmd = exec.Command(n.path, "-c", n.config)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	deadline := time.Now().Add(relaytest.Patience)
	for {
		conn, err := nats.Connect("nats://" + n.address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("nats-server does not answer: %v", err)
		}
	}
}

func (n *natsProcess) kill() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait() // its status is ours
}

// kill -9 of relay, of NATS and of Postgres under load loses nothing and
// leaves no request without a row.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	server, db := startNATSProcess(t), testdb.Server(t)
	s := stageOn(t, "nats://"+server.address, db.URL())
	s.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
		switch rand.IntN(10) {
		case 0:
			w.WriteHeader(http.StatusInternalServerError)
		case 1:
			<-time.After(50 * time.Millisecond)
		}
	})
	start := func() *process { return s.start("", "policy.circuit.delay=500ms") }
	relays := []*process{start(), start()}

	const n = 3_000
	var publishing sync.WaitGroup
	var accepted sync.Map
	publishing.Go(func() {
		for i := range n {
			id := fmt.Sprint("load_", i)
			if s.publishOnce(id) == nil {
				accepted.Store(id, true)
			}
		}
	})
	killed := 0
	for round := range 2 {
		s.awaitRequests((6*round + 1) * n / 12)
		relays[round].kill()
		killed++
		relays[round] = start()
		s.awaitRequests((6*round + 3) * n / 12)
		server.kill()
		server.start()
		s.awaitRequests((6*round + 5) * n / 12)
		db.Kill()
		if err := db.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	publishing.Wait()
	s.account(&accepted, killed)
}

// publishOnce publishes under one message id until JetStream confirms, so that
// an answer that was lost makes no second event.
func (s *stage) publishOnce(id string) error {
	m := nats.NewMsg(consumer.SubjectOutbound)
	m.Header.Set("Relay-Url", s.Receiver.URL)
	m.Header.Set("Relay-Id", id)
	m.Header.Set(nats.MsgIdHdr, id)
	var err error
	for end := time.Now().Add(relaytest.Patience); time.Now().Before(end); {
		if _, err = s.JS.PublishMsg(s.t.Context(), m); err == nil {
			return nil
		}
	}
	s.t.Errorf("publish %s: %v", id, err)
	return err
}

// awaitRequests waits until n requests have come, for as long as more come.
func (s *stage) awaitRequests(n int) {
	s.t.Helper()
	for had := len(s.Receiver.Requests()); had < n; had = len(s.Receiver.Requests()) {
		if !s.Eventually(func() bool { return len(s.Receiver.Requests()) > had }) {
			s.t.Fatalf("%d requests, want %d", had, n)
		}
	}
}

// account holds the audit log against what was accepted and what the receiver
// got.
func (s *stage) account(accepted *sync.Map, killed int) {
	s.t.Helper()
	lost, total := s.open(accepted)
	for before := lost; before > 0; before = lost { // for as long as they become fewer
		if !s.Eventually(func() bool { lost, total = s.open(accepted); return lost < before }) {
			s.t.Fatalf("%d of %d accepted events are neither delivered nor dead", lost, total)
		}
	}
	requests := map[string]int{}
	for _, r := range s.Receiver.Requests() {
		requests[r.ID()]++
	}
	rows, unrecorded := s.recorded()
	for id, n := range requests {
		if rows[id] < n {
			s.t.Errorf("%s: %d requests and %d rows", id, n, rows[id])
		}
	}
	s.t.Logf("%d events, %d requests, %d unrecorded rows after %d kills of relay", total, len(s.Receiver.Requests()), unrecorded, killed)
	if most := killed * 256; unrecorded > most {
		s.t.Errorf("%d unrecorded rows, more than %d requests can have been in flight", unrecorded, most)
	}
	s.requireEmpty()
}

// open counts the events that were accepted, and those among them that have not
// come to an end.
func (s *stage) open(accepted *sync.Map) (open, total int) {
	done := s.terminal()
	accepted.Range(func(id, _ any) bool {
		total++
		if !done[id.(string)] { //nolint:forcetypeassert // it was stored as one
			open++
		}
		return true
	})
	return open, total
}

// terminal is which webhook ids have come to an end.
func (s *stage) terminal() map[string]bool {
	done := map[string]bool{}
	rows, err := s.DB.Query(s.t.Context(), `SELECT webhook_id FROM relay.webhooks WHERE status IN ('delivered', 'failed', 'dead')`)
	if err != nil {
		return done // Postgres may just be starting
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if rows.Scan(&id) == nil {
			done[id] = true
		}
	}
	return done
}

// recorded counts the rows of each webhook, and all the unrecorded ones.
func (s *stage) recorded() (rows map[string]int, unrecorded int) {
	s.t.Helper()
	rows = map[string]int{}
	found, err := s.DB.Query(s.t.Context(), `SELECT w.webhook_id, count(*), count(*) FILTER (WHERE a.kind = 'unrecorded')
		FROM relay.attempts a JOIN relay.webhooks w USING (accepted_at, seq) GROUP BY w.webhook_id`)
	if err != nil {
		s.t.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var id string
		var all, unknown int
		if err := found.Scan(&id, &all, &unknown); err != nil {
			s.t.Fatal(err)
		}
		rows[id], unrecorded = all, unrecorded+unknown
	}
	if err := errors.Join(found.Err()); err != nil {
		s.t.Fatal(err)
	}
	return rows, unrecorded
}

// C9: NATS dies right after a retry was put to sleep, and forgets the delay.
// The record does not: the retry is not early.
func TestALostDelayMakesNoEarlyRetry(t *testing.T) {
	t.Parallel()
	server := startNATSProcess(t)
	s := stageOn(t, "nats://"+server.address, testdb.New(t))
	s.Receiver.Answer(http.StatusInternalServerError)
	const wait = 5 * time.Second
	s.start("", "policy.schedule="+wait.String())
	id := s.Publish(map[string]any{"url": s.Receiver.URL})
	if !s.Eventually(func() bool { w := s.Webhooks(id); return len(w) == 1 && w[0].Place == string(relay.Asleep) }) {
		t.Fatalf("not asleep: %+v", s.Webhooks(id))
	}
	server.kill()
	server.start()
	s.RequireDelivered(id)
	as := s.Attempts(id)
	if len(as) != 2 || as[1].Started.Sub(as[0].Started) < wait {
		t.Errorf("attempts %+v; want two, at least %v apart", as, wait)
	}
}

// C8: NATS dies while a request is under way. Its result is recorded and
// acknowledged when NATS is back; nothing is sent twice.
func TestNATSMayDieInTheMiddleOfARequest(t *testing.T) {
	t.Parallel()
	server := startNATSProcess(t)
	s := stageOn(t, "nats://"+server.address, testdb.New(t))
	release := make(chan struct{})
	s.Receiver.Always(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusOK)
	})
	s.start("", "delivery.timeout=2s")
	id := s.Publish(map[string]any{"url": s.Receiver.URL})
	s.Next()
	server.kill()
	close(release)
	server.start()
	w := s.RequireDelivered(id)
	s.requireEmpty()
	if n := len(s.Receiver.Requests()); n != 1 || w.Attempts != 1 {
		t.Errorf("%d requests, recorded %+v", n, w)
	}
}

// A letter that was stored twice, because relay died before it acknowledged,
// does not come back when NATS dies after its replay.
func TestAReplayedLetterStaysGone(t *testing.T) {
	t.Parallel()
	server := startNATSProcess(t)
	s := stageOn(t, "nats://"+server.address, testdb.New(t))
	s.Receiver.Answer(http.StatusNotFound, http.StatusNotFound)
	crashing := s.start(string(consumer.AfterMove) + ":2")
	s.RequireDead(s.Publish(map[string]any{"url": s.Receiver.URL})) // letter 1 stays
	id := s.Publish(map[string]any{"url": s.Receiver.URL})
	crashing.died()
	s.start("")
	if !s.Eventually(func() bool { return s.stored(consumer.StreamQueue) == 0 }) {
		t.Fatal("the message was not acknowledged")
	}
	s.RequireDead(id)
	if _, err := s.Conn.Request(consumer.SubjectReplay, []byte("2-3"), relaytest.Patience); err != nil {
		t.Fatal(err)
	}
	s.RequireDelivered(id)
	if !s.Eventually(func() bool { return s.letters() == 1 }) {
		t.Fatal("the replayed letter was not removed")
	}
	server.kill()
	server.start()
	if !s.Eventually(s.Conn.IsConnected) || s.letters() != 1 {
		t.Errorf("%d letters, want 1", s.letters())
	}
}
