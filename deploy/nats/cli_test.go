package nats_test

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/relaywebhooks/relay/consumer"
)

// natsCLI runs the real nats command line as a user.
type natsCLI struct {
	path string
	args []string
	home string
}

// newCLI builds the nats command line that tools/go.mod names, unless the build
// cache has it.
func newCLI(t *testing.T, s *server.Server, user string) natsCLI {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "tool", "-n", "nats")
	build.Dir = "../../tools"
	var stderr bytes.Buffer
	build.Stderr = &stderr
	path, err := build.Output()
	if err != nil {
		t.Fatalf("build the nats command line: %v\n%s", err, &stderr)
	}
	return natsCLI{
		path: strings.TrimSpace(string(path)), home: t.TempDir(),
		args: []string{"--server", s.ClientURL(), "--user", user, "--password", password(user), "--inbox-prefix", "_INBOX_" + user},
	}
}

// run returns what the command printed, and whether it ended well.
func (c natsCLI) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.path, slices.Concat(args, c.args)...)
	cmd.Env = append(cmd.Environ(), "HOME="+c.home, "XDG_CONFIG_HOME="+c.home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c natsCLI) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.run(t, args...)
	if err != nil {
		t.Fatalf("nats %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// TestStreamsFromFiles makes everything with the nats command line, and relay
// finds it as it wants it.
func TestStreamsFromFiles(t *testing.T) {
	s := startServer(t)
	cli := newCLI(t, s, provisioner)
	streams, consumers, of := files()
	for file := range streams {
		cli.must(t, "stream", "add", "--config", file)
	}
	for file := range consumers {
		cli.must(t, "consumer", "add", of[file], "--config", file)
	}
	changes, err := consumer.Compare(t.Context(), connect(t, s, provisioner).js, consumer.StreamOptions{})
	if err != nil || len(changes) != len(streams)+len(consumers) {
		t.Errorf("compare: %v, %v", changes, err)
	}
	for _, c := range changes {
		if c.Done != "unchanged" {
			t.Errorf("%s is %s", c.Name, c.Done)
		}
	}
}
