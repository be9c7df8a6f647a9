package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

func startNATS(t *testing.T, o NATSOptions) *NATS {
	t.Helper()
	o.Log = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)
	n, err := StartNATS(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Shutdown)
	return n
}

func jetStream(t *testing.T, n *NATS) jetstream.JetStream {
	t.Helper()
	nc, err := n.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestRestartKeepsMessages(t *testing.T) {
	o := NATSOptions{Dir: filepath.Join(t.TempDir(), "nats"), DontListen: true}
	first := startNATS(t, o)
	js := jetStream(t, first)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "kept", []byte("still here")); err != nil {
		t.Fatal(err)
	}
	first.Shutdown()
	first.Shutdown() // twice does nothing
	stream, err := jetStream(t, startNATS(t, o)).Stream(t.Context(), "KEPT")
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil || string(m.Data) != "still here" {
		t.Errorf("after a restart: %q, %v", m.Data, err)
	}
}

func TestTwoServersOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	first := startNATS(t, NATSOptions{Dir: dir, DontListen: true})
	_, err := StartNATS(NATSOptions{Dir: dir, DontListen: true})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another data directory") {
		t.Errorf("error = %v, want one that names the directory and what to do", err)
	}
	first.Shutdown()
	startNATS(t, NATSOptions{Dir: dir, DontListen: true})
}

func TestPortInUse(t *testing.T) {
	port := freePort(t)
	first := startNATS(t, NATSOptions{Dir: t.TempDir(), Port: port})
	dir := t.TempDir()
	_, err := StartNATS(NATSOptions{Dir: dir, Port: port})
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(port)) || !strings.Contains(err.Error(), "nats.port") {
		t.Errorf("error = %v, want one that names port %d and nats.port", err, port)
	}
	first.Shutdown()
	startNATS(t, NATSOptions{Dir: dir, Port: port}) // neither port nor directory is held by the failed one
}

// TestNATSLogHasNoDecoration: every line of the log says something.
func TestNATSLogHasNoDecoration(t *testing.T) {
	lines := &logged{}
	n, err := StartNATS(NATSOptions{DontListen: true, Log: zerolog.New(lines)})
	if err != nil {
		t.Fatal(err)
	}
	n.Shutdown()
	said := lines.messages(t)
	for _, text := range said {
		if text == "" || strings.HasPrefix(text, "---") || strings.Contains(text, `\__`) || strings.Contains(text, "| |") {
			t.Errorf("the log has the line %q", text)
		}
	}
	if !slices.Contains(said, "Starting JetStream") {
		t.Errorf("the notices are missing: %q", said)
	}
}

func TestClientsFromOutside(t *testing.T) {
	n := startNATS(t, NATSOptions{Port: -1})
	nc, err := nats.Connect(n.ClientURL())
	if err != nil {
		t.Fatalf("connect to %s: %v", n.ClientURL(), err)
	}
	defer nc.Close()
	if got, want := nc.MaxPayload(), int64(1<<20+64<<10); got != want {
		t.Errorf("max_payload = %d, want %d", got, want)
	}
	if _, err := nc.JetStream(); err != nil {
		t.Error(err)
	}
	if got := startNATS(t, NATSOptions{DontListen: true}).ClientURL(); got != "" {
		t.Errorf("a server that does not listen has the URL %s", got)
	}
}

// TestHeard subscribes as clients and streams do, and asks who hears.
func TestHeard(t *testing.T) {
	n := startNATS(t, NATSOptions{Dir: t.TempDir(), DontListen: true})
	js := jetStream(t, n)
	heard := func(subject string, want bool) {
		t.Helper()
		if n.Heard(subject) != want {
			t.Errorf("%s is heard: %v, want %v", subject, !want, want)
		}
	}
	heard("relay.events.attempt.key", false)
	sub, err := js.Conn().SubscribeSync("relay.events.*.key")
	if err = errors.Join(err, js.Conn().Flush()); err != nil {
		t.Fatal(err)
	}
	heard("relay.events.attempt.key", true)
	heard("relay.events.attempt.other", false)
	if err := errors.Join(sub.Unsubscribe(), js.Conn().Flush()); err != nil {
		t.Fatal(err)
	}
	heard("relay.events.attempt.key", false)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TOLD", Subjects: []string{"relay.events.>"}}); err != nil {
		t.Fatal(err)
	}
	heard("relay.events.attempt.other", true)

	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte("max_connections: 100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n = startNATS(t, NATSOptions{Dir: t.TempDir(), DontListen: true, ConfigFile: file})
	heard("relay.events.attempt.key", true) // nobody here, but who knows
}

func TestTemporaryNATSLeavesNothing(t *testing.T) {
	n := startNATS(t, NATSOptions{DontListen: true})
	dir := filepath.Dir(n.lock.Name())
	n.Shutdown()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat %s after Shutdown: %v, want not exist", dir, err)
	}
}

func TestNATSOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nats.conf")
	conf := "max_payload: 2MB\nhost: 0.0.0.0\njetstream { sync_interval: 9s }\n" +
		"authorization { users: [ { user: a, password: b } ] }\n"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		options NATSOptions
		want    string // part of the error; "": none
	}{
		"zero value":              {NATSOptions{}, ""},
		"all interfaces":          {NATSOptions{Host: "0.0.0.0"}, "for anyone"},
		"other address":           {NATSOptions{Host: "192.0.2.1"}, "for anyone"},
		"IPv6 loopback":           {NATSOptions{Host: "::1"}, ""},
		"only inside":             {NATSOptions{Host: "0.0.0.0", DontListen: true}, ""},
		"users":                   {NATSOptions{ConfigFile: file}, ""},
		"no configuration file":   {NATSOptions{ConfigFile: file + "x"}, file + "x"},
		"sync now and then":       {NATSOptions{Sync: "2m"}, ""},
		"sync without unit":       {NATSOptions{Sync: "5"}, `"always" or a duration`},
		"sync backwards":          {NATSOptions{Sync: "-5s"}, `"always" or a duration`},
		"sync in another's words": {NATSOptions{Sync: "never"}, `"always" or a duration`},
	} {
		_, err := c.options.serverOptions()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error = %v, want %q", name, err, c.want)
		}
	}
	so, err := NATSOptions{ConfigFile: file, Sync: "always"}.serverOptions()
	if err != nil {
		t.Fatal(err)
	}
	if so.MaxPayload != 2<<20 || so.SyncAlways || so.SyncInterval != 9*time.Second || so.Host != "0.0.0.0" {
		t.Errorf("the file does not win: max_payload %d, always %v, interval %v, host %s",
			so.MaxPayload, so.SyncAlways, so.SyncInterval, so.Host)
	}
}

func TestUsersFromConfigFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nats.conf")
	conf := "authorization { users: [ { user: a, password: b } ] }\n"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	n := startNATS(t, NATSOptions{ConfigFile: file, Port: -1})
	nc, err := n.Connect(nats.UserInfo("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	if _, err := n.Connect(); err == nil || !strings.Contains(err.Error(), "credentials") {
		t.Errorf("without credentials: %v, want an error that speaks of them", err)
	}
	if _, err := nats.Connect(n.ClientURL()); err == nil {
		t.Error("a stranger was let in from outside")
	}
}
