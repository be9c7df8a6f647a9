package nats_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// TestReadme runs the shell lines of README.md, one block after the other.
func TestReadme(t *testing.T) {
	s := startServer(t)
	w := &world{
		t: t, look: connect(t, s, onlooker), relay: connect(t, s, relayUser),
		producer: connect(t, s, producer), operator: connect(t, s, operator),
		receiver: relaytest.NewReceiver(t), heard: map[string][]string{},
	}
	w.gone.Store(true)
	w.receiver.Always(w.answer)
	w.listen()

	t.Setenv("NATS_URL", s.ClientURL())
	cli := newCLI(t, s, "")
	var blocks []string
	for _, part := range strings.Split(readFile(t, "README.md"), "```sh\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, strings.ReplaceAll(block, "https://example.com/hook", w.receiver.URL+"/gone"))
	}
	if len(blocks) != 4 {
		t.Fatalf("README.md has %d blocks of shell lines, want contexts, streams, publish, look", len(blocks))
	}
	cli.shell(t, blocks[0])
	cli.shell(t, blocks[1])
	changes, err := consumer.Compare(t.Context(), w.look.js, consumer.StreamOptions{})
	if err != nil || len(changes) != 6 {
		t.Fatalf("compare: %v, %v", changes, err)
	}
	for _, c := range changes {
		if c.Done != "unchanged" {
			t.Errorf("%s is %s", c.Name, c.Done)
		}
	}
	stop := w.run()
	defer stop()
	cli.shell(t, blocks[2])
	dead, err := w.look.js.Stream(t.Context(), consumer.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a dead letter", func(ctx context.Context) bool {
		info, err := dead.Info(ctx)
		return err == nil && info.State.Msgs == 1
	})
	w.gone.Store(false)
	if out := cli.shell(t, blocks[3]); !strings.Contains(out, "Relay-Meta-Reason") || !strings.Contains(out, `"replayed":1`) {
		t.Errorf("want a letter with its reason and one replay:\n%s", out)
	}
}

// shell runs lines that call nats.
func (c natsCLI) shell(t *testing.T, lines string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", lines)
	cmd.Env = append(cmd.Environ(), "HOME="+c.home, "XDG_CONFIG_HOME="+c.home,
		"PATH="+filepath.Dir(c.path)+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s\n%s", err, lines, out)
	}
	return string(out)
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
