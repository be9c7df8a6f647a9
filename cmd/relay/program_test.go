package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// command runs a command of the program in this process and returns what it
// wrote to standard output, and the exit status.
func command(t *testing.T, args ...string) (stdout string, status int) {
	t.Helper()
	var out bytes.Buffer
	var errs journal
	p := &program{stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
	status = p.run(args, nil)
	if said := errs.take(); said != "" {
		t.Logf("relay %s: %s", strings.Join(args, " "), said)
	}
	return out.String(), status
}

// must runs a command that has to succeed, and holds its output to some texts.
func must(t *testing.T, want []string, args ...string) string {
	t.Helper()
	out, status := command(t, args...)
	if status != 0 {
		t.Fatalf("relay %s: status %d\n%s", strings.Join(args, " "), status, out)
	}
	for _, text := range want {
		if !strings.Contains(out, text) {
			t.Errorf("relay %s: no %q in\n%s", strings.Join(args, " "), text, out)
		}
	}
	return out
}

// set are the flags that lead a command to a test's servers.
func set(r *relaytest.Relay, args ...string) []string {
	return append(args, "--set", "nats.url="+r.NATS.ClientURL(), "--set", "postgres.url="+r.URL)
}

func TestInit(t *testing.T) {
	server := relaytest.StartNATS(t)
	at := func(args ...string) []string { return append(args, "--set", "nats.url="+server.ClientURL()) }
	if out, status := command(t, at("init", "--check")...); status != exitFailed || strings.Count(out, "missing") != 6 {
		t.Errorf("before: status %d\n%s", status, out)
	}
	if out := must(t, nil, at("init")...); strings.Count(out, "created") != 6 {
		t.Error(out)
	}
	if out := must(t, nil, at("init", "--check")...); strings.Count(out, "unchanged") != 6 {
		t.Error(out)
	}
	more := at("init", "--set", "consumer.ack_wait=50s")
	if out := must(t, nil, more...); strings.Count(out, "updated") != 2 || strings.Count(out, "unchanged") != 4 {
		t.Error(out)
	}
}

func TestMigrate(t *testing.T) {
	at := []string{"--set", "postgres.url=" + testdb.New(t)}
	must(t, []string{"nothing to do: the schema has version"}, append(at, "migrate")...)
	must(t, []string{"this relay brings"}, append(at, "migrate", "--check")...)
}

// One webhook that is delivered and one that dies, told by explain, and brought
// back by replay.
func TestSendExplainReplay(t *testing.T) {
	r := relaytest.Start(t)
	r.Receiver.Answer(http.StatusInternalServerError)
	must(t, []string{"stored in WEBHOOKS as 1", "webhook-id order-1"},
		set(r, "send", "--id", "order-1", "--url", r.Receiver.URL+"/hook?token=t0p", `{"n": 1}`)...)
	r.RequireDelivered("order-1")
	story := must(t, []string{
		"order-1 is delivered", "accepted as message 1 of the queue", "POST " + r.Receiver.URL + "/hook\n",
		"attempt 1: 500 Internal Server Error in", "attempt 2: 200 OK in", "after its acceptance",
	}, set(r, "explain", "order-1")...)
	if strings.Contains(story, "t0p") {
		t.Errorf("the story shows the query:\n%s", story)
	}
	must(t, []string{`"status": "delivered"`, `"number": 2`}, set(r, "explain", "order-1", "--json")...)

	r.Receiver.Answer(http.StatusNotFound)
	must(t, nil, set(r, "send", "--id", "order-2", "--url", r.Receiver.URL, "--raw", "not JSON")...)
	w := r.RequireDead("order-2")
	must(t, []string{
		"order-2 is dead: 404 Not Found", "given up: 404 Not Found",
		"webhooks.dead." + w.EndpointKey + "." + w.Key.String(), "relay replay " + w.EndpointKey,
	}, set(r, "explain", "order-2")...)
	must(t, []string{"done: replayed 1\n"}, set(r, "replay", w.EndpointKey)...)
	r.RequireDelivered("order-2")
	must(t, []string{"order-2 is delivered", "replayed, for the 1. time"}, set(r, "explain", "order-2")...)
	must(t, []string{"done: replayed 0\n"}, set(r, "replay", "all")...)

	if _, status := command(t, set(r, "replay", "no.such.endpoint")...); status != exitUsage {
		t.Errorf("replay of nothing: status %d", status)
	}
	if _, status := command(t, set(r, "explain", "order-3")...); status != exitFailed {
		t.Errorf("explain of nothing: status %d", status)
	}
}

// What waits says for what, and until when.
func TestExplainWhatWaits(t *testing.T) {
	r := relaytest.Start(t)
	must(t, nil, set(r, "send", "--id", "later", "--url", r.Receiver.URL, "--scheduled-at", "1h", "{}")...)
	w := r.RequireStatus("later", "pending")
	if w.Place != "schedule" {
		t.Errorf("it waits in %s", w.Place)
	}
	must(t, []string{"later is pending, not attempted yet", "scheduled: attempt 1 of 5 comes in ", "given up if not delivered by"},
		set(r, "explain", "later")...)

	held := make(chan struct{})
	r.Receiver.Always(func(http.ResponseWriter, *http.Request) { <-held })
	defer close(held)
	must(t, nil, set(r, "send", "--id", "slow", "--url", r.Receiver.URL, "{}")...)
	r.Next()
	must(t, []string{"slow is being sent at this moment", "an attempt is under way in relaytest"}, set(r, "explain", "slow")...)
}

// What explain calls "attempt 2 of 3" is what policy counts by.
func TestAttemptsOfAnEndpoint(t *testing.T) {
	waits := []time.Duration{time.Second, time.Minute}
	l := loaded{Config: Config{Policy: PolicyConfig{MaxAttempts: 5}, Endpoints: map[string]EndpointConfig{
		"waits": {Schedule: waits}, "both": {Schedule: waits, MaxAttempts: 7}, "neither": {},
		"owned": {Tenant: "a", MaxAttempts: 9},
	}}}
	for name, want := range map[string]int{"waits": 3, "both": 7, "neither": 5, "": 5} {
		if got := l.maxAttempts("", name); got != want {
			t.Errorf("%q: %d attempts, want %d", name, got, want)
		}
	}
	for tenant, want := range map[string]int{"a": 9, "b": 5, "": 5} {
		if got := l.maxAttempts(tenant, "owned"); got != want {
			t.Errorf("of %q: %d attempts, want %d", tenant, got, want)
		}
	}
}

func TestDoctor(t *testing.T) {
	r := relaytest.Start(t)
	out, _ := command(t, set(r, "doctor")...)
	for _, want := range []string{
		"ok    configuration", "ok    NATS ", "ok    NATS version", "ok    NATS max_payload", "warn  NATS fsync", "ok    JetStream",
		"ok    WEBHOOKS/relay", "ok    WEBHOOKS_DEAD", "ok    clock of NATS", "ok    Postgres ", "ok    postgres clock",
		"ok    postgres version", "ok    postgres synchronous_commit", "ok    schema version", "warn  rights", "warn  signing",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	stream, err := r.JS.Stream(t.Context(), consumer.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	changed := stream.CachedInfo().Config
	changed.MaxMsgsPerSubject = 7
	if _, err := r.JS.UpdateStream(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	out, status := command(t, set(r, "doctor")...)
	if status != exitFailed || !strings.Contains(out, "fail  WEBHOOKS_DEAD                is different: max_msgs_per_subject is 7, want 1\n") || !strings.Contains(out, "→ run relay init") {
		t.Errorf("status %d\n%s", status, out)
	}
}

// relay run refuses what it cannot work on, and says which command mends it.
func TestRunNeedsItsStreams(t *testing.T) {
	server := relaytest.StartNATS(t)
	var out journal
	p := &program{stdout: &out, stderr: &out}
	status := p.run([]string{
		"run", "--set", "nats.url=" + server.ClientURL(), "--set", "postgres.url=" + testdb.New(t), "--set", "admin.address=127.0.0.1:0",
	}, nil)
	if said := out.take(); status != exitFailed || !strings.Contains(said, "run relay init") {
		t.Errorf("status %d: %s", status, said)
	}
}

// relay run refuses the database of another partition: events of two streams may
// have the same key.
func TestRunRefusesTheDatabaseOfOtherStreams(t *testing.T) {
	r := relaytest.Start(t)
	server := relaytest.StartNATS(t)
	other := relaytest.Observe(t, server.ClientURL(), r.URL, consumer.StreamOptions{})
	other.Publish(map[string]any{"url": other.Receiver.URL})
	var out journal
	p := &program{stdout: &out, stderr: &out}
	status := p.run([]string{
		"run", "--set", "nats.url=" + server.ClientURL(), "--set", "postgres.url=" + r.URL, "--set", "admin.address=127.0.0.1:0",
	}, nil)
	said := out.take()
	for _, want := range []string{"the record of another stream", "a database of its own", "DELETE FROM relay.stream"} {
		if status != exitFailed || !strings.Contains(said, want) {
			t.Errorf("status %d, no %q: %s", status, want, said)
		}
	}
	if n := len(other.Receiver.Requests()); n > 0 {
		t.Errorf("%d requests were made", n)
	}
}

// relay with a NATS server inside makes the streams by itself, and keeps what was
// published over a restart.
func TestEmbeddedNATSKeepsItsStreams(t *testing.T) {
	dir := t.TempDir()
	c := Default()
	c.NATS.Embedded, c.NATS.Data, c.NATS.Port = true, dir, 0
	for round := range 2 {
		s := &servers{}
		if err := s.openNATS(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(s.conn)
		if err != nil {
			t.Fatal(err)
		}
		ack, err := js.Publish(t.Context(), consumer.SubjectOutbound, []byte("{}"))
		if err != nil || ack.Sequence != uint64(round+1) {
			t.Errorf("round %d: %+v, %v", round, ack, err)
		}
		s.close()
	}
}

func TestDemo(t *testing.T) {
	out := must(t, []string{
		"circuit open", "waits in: lane", "circuit closed", "→ dead letters", "done: replayed 1", "order-4     1           1       response  200",
		"That was relay.",
	}, "dev", "--demo")
	if n := strings.Count(out, "signature verified"); n < 15 {
		t.Errorf("%d verified requests in\n%s", n, out)
	}
}

func TestMaxConnsIsWrittenIntoTheURL(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://u:p@h/db":                   "postgres://u:p@h/db?pool_max_conns=8",
		"postgres://u@/db?host=%2Ftmp%2Fx":      "postgres://u@/db?host=%2Ftmp%2Fx&pool_max_conns=8",
		"postgres://h/db?pool_max_conns=3":      "postgres://h/db?pool_max_conns=3",
		"host=h user=u":                         "host=h user=u pool_max_conns=8",
		"host='/tmp/a b' pool_max_conns=3 port": "host='/tmp/a b' pool_max_conns=3 port",
	} {
		if got := withMaxConns(url, 8); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

func TestVersionsOfNATS(t *testing.T) {
	for version, want := range map[string]level{
		"2.10.29": levelFail, "2.11.0": levelFail, "2.12.0": levelWarn, "2.13.9-RC.1": levelWarn,
		"2.14.0": levelOK, "2.15.2": levelOK, "3.0.0": levelOK, "": levelFail,
	} {
		var fs findings
		if examineVersion(&fs, version); len(fs) != 1 || fs[0].Level != want {
			t.Errorf("%q: %s", version, fmt.Sprint(fs))
		}
	}
}
