// Package examples_test runs what newcomers run: the two small programs of this
// folder, and every command, query and piece of Go in the README.
package examples_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/relaytest"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// programs is where the programs under test are built, once for all tests.
var programs struct {
	dir string
	mu  sync.Mutex
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "relay-examples-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs.dir = dir
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// program builds one of this module's programs, or the nats command line that
// tools/go.mod names, and returns its path.
func program(t *testing.T, name string) string {
	t.Helper()
	programs.mu.Lock()
	defer programs.mu.Unlock()
	path := filepath.Join(programs.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if name == "nats" {
		if err := os.Symlink(goOutput(t, "../tools", "tool", "-n", "nats"), path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	from := map[string]string{"relay": "cmd/relay", "publisher": "examples/publisher", "receiver": "examples/receiver"}[name]
	goOutput(t, root, "build", "-o", path, "./"+from)
	return path
}

// goOutput runs the go command in a folder and returns what it printed.
func goOutput(t *testing.T, dir string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// running is a program that runs beside a test.
type running struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	lines chan string // of its standard output
}

// start starts a program and ends it with the test.
func start(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{t: t, name: filepath.Base(cmd.Path), cmd: cmd, lines: make(chan string, 1000)}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Stderr == nil {
		cmd.Stderr = t.Output()
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.lines)
		for scan := bufio.NewScanner(stdout); scan.Scan(); {
			r.lines <- scan.Text()
		}
	}()
	t.Cleanup(func() { _ = r.stop() }) // its test has asked for the status already, if it is of interest
	return r
}

// stop ends the program as an operator would and returns how it ended. What it
// still writes is not read.
func (r *running) stop() error {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(relaytest.Patience, func() { _ = r.cmd.Process.Kill() })
	defer late.Stop()
	for range r.lines {
		continue
	}
	return r.cmd.Wait()
}

// await waits for a line that begins with prefix and returns the rest of it.
func (r *running) await(prefix string) string {
	r.t.Helper()
	late := time.After(relaytest.Patience)
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				r.t.Fatalf("%s ended before it wrote %q", r.name, prefix)
			}
			r.t.Logf("%s: %s", r.name, line)
			if rest, found := strings.CutPrefix(line, prefix); found {
				return rest
			}
		case <-late:
			r.t.Fatalf("%s did not write %q", r.name, prefix)
		}
	}
}

// startReceiver starts it in the middle of a rotation: with two secrets.
func startReceiver(t *testing.T) (*running, string) {
	t.Helper()
	const before = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	r := start(t, exec.Command(program(t, "receiver"), "-secret", secret+","+before, "-listen", "127.0.0.1:0"))
	return r, r.await("listening on ")
}

// TestPublisherAndReceiver lets the one publish, relay deliver and sign, and
// the other verify.
func TestPublisherAndReceiver(t *testing.T) {
	receiver, url := startReceiver(t)
	r := relaytest.Start(t, relaytest.Options{Delivery: delivery.Options{Secrets: []relay.Secret{secret}}})
	publish := func() string {
		cmd := exec.CommandContext(t.Context(), program(t, "publisher"), url+"/hook")
		cmd.Env = append(os.Environ(), "NATS_URL="+r.NATS.ClientURL())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("publisher: %v\n%s", err, out)
		}
		return string(out)
	}
	if out, want := publish(), "order-17-paid is message 1 of WEBHOOKS\ninvoice-17 is message 2 of WEBHOOKS\n"; out != want {
		t.Errorf("the publisher wrote %q, want %q", out, want)
	}
	got := map[string]bool{receiver.await("verified: "): true, receiver.await("verified: "): true}
	for _, want := range []string{
		`order-17-paid: application/json: "{\"order\":17,\"total\":\"12.50\"}"`,
		`invoice-17: text/csv: "order,total\n17,12.50\n"`,
	} {
		if !got[want] {
			t.Errorf("verified %v, want %s", got, want)
		}
	}
	r.RequireDelivered("order-17-paid")
	r.RequireDelivered("invoice-17")

	// Published again: JetStream knows the message id of the one, the receiver
	// the webhook id of the other.
	publish()
	if again := receiver.await("seen before: "); again != "invoice-17" {
		t.Errorf("seen before: %s", again)
	}
	r.RequireDelivered("invoice-17")
	if n := len(r.Webhooks("order-17-paid")); n != 1 {
		t.Errorf("order-17-paid is %d events, want 1", n)
	}
	if err := receiver.stop(); err != nil {
		t.Errorf("the receiver ended with %v", err)
	}
}

func TestReceiverRefusesWhatIsNotSigned(t *testing.T) {
	_, url := startReceiver(t)
	resp, err := http.Post(url, "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("an unsigned webhook was answered %s", resp.Status)
	}
}
