package audit_test

import (
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// mute is a cable to Postgres that can lose an answer: Postgres does what it was
// asked, and the connection ends before it can say so.
type mute struct {
	listener net.Listener
	network  string // of Postgres, and its address
	address  string

	mu    sync.Mutex
	deaf  bool // the next answer is lost, and nobody comes through any more
	conns map[net.Conn]struct{}
}

// muteTo returns the cable, and the URL of the database behind it.
func muteTo(t *testing.T, database string) (*mute, string) {
	t.Helper()
	c, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	m := &mute{network: "tcp", address: net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), conns: map[net.Conn]struct{}{}}
	if filepath.IsAbs(c.Host) {
		m.network, m.address = "unix", filepath.Join(c.Host, ".s.PGSQL."+strconv.Itoa(int(c.Port)))
	}
	if m.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := m.listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { m.carry(near) })
		}
	})
	t.Cleanup(func() {
		_ = m.listener.Close()
		m.end()
		running.Wait()
	})
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(c.User, c.Password), Host: m.listener.Addr().String(), Path: "/" + c.Database,
		RawQuery: "sslmode=disable&pool_max_conns=1",
	}
	return m, u.String()
}

func (m *mute) carry(near net.Conn) {
	defer near.Close()
	m.mu.Lock()
	open := !m.deaf
	m.conns[near] = struct{}{}
	m.mu.Unlock()
	if !open {
		return
	}
	far, err := net.Dial(m.network, m.address)
	if err != nil {
		return
	}
	defer far.Close()
	go func() { // ends with far
		_, _ = io.Copy(far, near)
		_ = far.Close()
	}()
	said := make([]byte, 64<<10)
	for {
		n, err := far.Read(said)
		if err != nil || m.isDeaf() {
			return
		}
		if _, err := near.Write(said[:n]); err != nil {
			return
		}
	}
}

func (m *mute) isDeaf() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deaf
}

func (m *mute) set(deaf bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deaf = deaf
}

func (m *mute) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for conn := range m.conns {
		_ = conn.Close()
	}
}

// C7: a claim and a record are committed, and nobody hears of it. They are asked
// for again, under their ids, and answered as if it were the first time.
func TestACommitThatNobodyHearsOf(t *testing.T) {
	database := testdb.New(t)
	direct := connect(t, database)
	cable, through := muteTo(t, database)
	l := run(t, connect(t, through), audit.Options{Worker: "w1"})
	delivered := relay.Verdict{Action: relay.Delivered, Place: relay.Gone}
	await(t, func() bool { _, looked := l.Skew(); return looked }) // at the clock; nothing else is asked from now on
	finish(t, l, event(), delivered)                               // the statements are prepared: one message asks and commits

	w := event()
	granted := make(chan relay.Claim, 1)
	cable.set(true)
	go func() {
		c, err := l.Claim(t.Context(), w)
		if err != nil {
			t.Error(err)
		}
		granted <- c
	}()
	count := func() int {
		return query[int](t, direct, "SELECT count(*) FROM relay.webhooks WHERE webhook_id = $1 AND claim IS NOT NULL", w.ID)
	}
	await(t, func() bool { return count() == 1 })
	requireSilence(t, granted)
	cable.set(false)
	c := hear(t, granted)
	check(t, c.Verdict.Action, relay.Send)
	check(t, state(t, direct, w), "processing at queue, generation 0, 0 attempts (0), streak 0, claimed, no time")

	finish(t, l, event(), delivered) // on the new connection, too
	recorded := make(chan relay.Verdict, 1)
	cable.set(true)
	go func() {
		v, err := l.Record(t.Context(), w, c, []relay.Attempt{answered(200)}, delivered)
		if err != nil {
			t.Error(err)
		}
		recorded <- v
	}()
	const after = "delivered at gone, generation 0, 1 attempts (1), streak 0, free, no time"
	await(t, func() bool { return state(t, direct, w) == after })
	requireSilence(t, recorded)
	cable.set(false)
	check(t, hear(t, recorded), delivered)
	check(t, state(t, direct, w), after)
	check(t, attempts(t, direct, w), []string{"1 response 200 by w1"})
	requireExactCounts(t, direct)
}

func requireSilence[T any](t *testing.T, answers <-chan T) {
	t.Helper()
	select {
	case a := <-answers:
		t.Fatalf("answered %+v, although the answer was to be lost", a)
	default:
	}
}

func hear[T any](t *testing.T, answers <-chan T) (a T) {
	t.Helper()
	select {
	case a = <-answers:
	case <-time.After(30 * time.Second):
		t.Fatal("no answer, although Postgres is there again")
	}
	return a
}
