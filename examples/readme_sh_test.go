package examples_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// printedReceiver is where the receiver of relay dev listens, as the README
// prints it. Under test it has another port: this one may be taken. Everything
// else in the README's commands runs as it is printed.
const printedReceiver = "127.0.0.1:8423"

// TestREADMECommands runs the README's commands in their order, as somebody
// would who reads it from top to bottom beside a relay dev.
func TestREADMECommands(t *testing.T) {
	s := newShell(t)
	var dev *devRelay
	var told strings.Builder
	for _, b := range blocks(t, "sh") {
		switch {
		case strings.TrimSpace(b.text) == "relay dev":
			if dev != nil {
				t.Fatalf("%v: relay dev runs already", b)
			}
			dev = s.startDev()
		case isMake(b):
			requireTargets(t, b)
		case dev == nil:
			t.Fatalf("%v: nothing runs yet", b)
		default:
			script := strings.ReplaceAll(b.text, printedReceiver, dev.receiver)
			out := s.run(b, dev.patiently()+script)
			t.Logf("%v:\n%s", b, out)
			told.WriteString(out)
		}
	}
	for _, want := range []string{
		"hello-1 is failed: the only attempt failed", "(2 rows)", "order-17-paid is delivered",
		"2 Subjects in stream WEBHOOKS_DEAD", `"state":"done","replayed":2`, " 0 fail",
	} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("nothing told %q", want)
		}
	}
	dev.awaitIdle()
	dev.requireStatuses(map[string]string{
		"hello-1": "delivered", "order-17-paid": "delivered", "invoice-17": "delivered", "order-18-paid": "delivered",
		"order-20-paid": "dead", "order-21-paid": "dead",
	})
	if err := dev.stop(); err != nil {
		t.Errorf("relay dev ended with %v", err)
	}
}

// isMake reports whether a block only calls make, or says where its results
// are: the tests cannot run the tests, and have built the rest already.
func isMake(b block) bool {
	for line := range strings.Lines(b.text) {
		if !strings.HasPrefix(line, "make ") && !strings.HasPrefix(line, "export PATH=") {
			return false
		}
	}
	return true
}

// requireTargets checks that make knows what a block asks of it.
func requireTargets(t *testing.T, b block) {
	t.Helper()
	for line := range strings.Lines(b.text) {
		targets, ok := strings.CutPrefix(strings.TrimSpace(line), "make ")
		if !ok {
			continue
		}
		dry := exec.CommandContext(t.Context(), "make", append([]string{"--dry-run"}, strings.Fields(targets)...)...)
		dry.Dir = root
		if out, err := dry.CombinedOutput(); err != nil {
			t.Errorf("%v: make %s: %v\n%s", b, targets, err, out)
		}
	}
}

// shell is where commands run: a folder and an environment of its own, with
// the programs under test at the head of the path.
type shell struct {
	t   *testing.T
	dir string
	env []string
}

func newShell(t *testing.T, env ...string) *shell {
	t.Helper()
	program(t, "nats")
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // Postgres may run as another user
		t.Fatal(err)
	}
	clean := []string{"PATH=" + programs.dir + string(filepath.ListSeparator) + os.Getenv("PATH"), "HOME=" + dir, "NO_COLOR=1"}
	return &shell{t: t, dir: dir, env: append(clean, env...)}
}

func (s *shell) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), name, args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	return cmd
}

// run runs a script of the block in bash, which stops at the first command that
// fails, and returns what it wrote.
func (s *shell) run(b block, script string) string {
	s.t.Helper()
	var out bytes.Buffer
	cmd := s.command("bash", "-euo", "pipefail", "-c", script)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("%v: %v\n%s\n%s", b, err, script, out.String())
	}
	return out.String()
}

// devRelay is a running relay dev.
type devRelay struct {
	*running
	receiver string // host and port
	js       jetstream.JetStream
	db       *pgxpool.Pool
}

// startDev starts relay dev on free ports and tells the shell where they are.
func (s *shell) startDev() *devRelay {
	s.t.Helper()
	cmd := s.command(program(s.t, "relay"), "dev", "--receiver", "127.0.0.1:0")
	cmd.Env = append(cmd.Env, "RELAY_NATS_PORT=0", "RELAY_ADMIN_ADDRESS=127.0.0.1:0")
	cmd.Cancel = func() error { return nil } // start ends it, with one signal: a second one would be its death
	r := start(s.t, cmd)
	server := strings.TrimSpace(r.await("  NATS "))
	database := strings.Trim(strings.TrimSpace(r.await("  Postgres  psql ")), "'")
	receiver, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(r.await("  receiver ")), "http://"), "/")
	_, port, _ := strings.Cut(strings.TrimPrefix(server, "nats://"), ":")
	s.env = append(s.env, "NATS_URL="+server, "RELAY_NATS_PORT="+port)
	return s.observe(&devRelay{running: r, receiver: receiver}, server, database)
}

// observe connects to the servers of a relay dev.
func (s *shell) observe(d *devRelay, server, database string) *devRelay {
	s.t.Helper()
	conn, err := nats.Connect(server)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(conn.Close)
	if d.js, err = jetstream.New(conn); err != nil {
		s.t.Fatal(err)
	}
	if d.db, err = pgxpool.New(s.t.Context(), database); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(d.db.Close)
	return d
}

// patiently returns a line of bash that makes it wait before each command until
// relay is idle, as somebody does who reads one answer before they type the
// next line.
func (d *devRelay) patiently() string {
	d.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			d.awaitIdle()
			_ = conn.Close()
		}
	}()
	return fmt.Sprintf("trap 'cat < /dev/tcp/%s' DEBUG\n", strings.Replace(l.Addr().String(), ":", "/", 1))
}

// awaitIdle waits until nothing is on the two queues: then everything is
// recorded, and its letters are stored.
func (d *devRelay) awaitIdle() {
	d.t.Helper()
	var left uint64
	var err error
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(relaytest.Patience); time.Now().Before(end); <-tick.C {
		if left, err = d.queued(); err == nil && left == 0 {
			return
		}
	}
	d.t.Errorf("%d webhooks are not done: %v", left, err)
}

func (d *devRelay) queued() (n uint64, err error) {
	for _, name := range []string{consumer.StreamQueue, consumer.StreamLater} {
		stream, err := d.js.Stream(d.t.Context(), name)
		if err != nil {
			return 0, err
		}
		n += stream.CachedInfo().State.Msgs
	}
	return n, nil
}

func (d *devRelay) requireStatuses(want map[string]string) {
	d.t.Helper()
	for id, status := range want {
		var got string
		err := d.db.QueryRow(d.t.Context(), "SELECT max(status) FROM relay.webhooks WHERE webhook_id = $1", id).Scan(&got)
		if err != nil || got != status {
			d.t.Errorf("%s is %q (%v), want %s", id, got, err, status)
		}
	}
}
