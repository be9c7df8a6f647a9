package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// journal is a log that a test can wait for.
type journal struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines.Write(b)
}

// take returns what was logged since it was last called.
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.lines.Reset()
	return j.lines.String()
}

// startApp runs an app on real servers until the test ends, with a configuration
// file that SIGHUP reads again.
func startApp(t *testing.T, config string) (r *relaytest.Relay, log *journal) {
	t.Helper()
	r = relaytest.Observe(t, relaytest.StartNATS(t).ClientURL(), testdb.New(t), consumer.StreamOptions{})
	r.Receiver.Trust(devSecret)
	load := func() (loaded, error) { return loadDev(sources{file: config}) }
	l, err := load()
	if err != nil {
		t.Fatal(err)
	}
	zerolog.SetGlobalLevel(zerolog.InfoLevel) // whatever another test's program has set
	log = &journal{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	pool, err := withURL(l.Config, r.URL).openPool(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := &servers{log: zerolog.New(log), conn: r.Conn, pool: pool}
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, l, load) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		pool.Close()
	})
	if !r.Eventually(func() bool { return strings.Contains(log.take(), "relay is working") }) {
		t.Fatal("relay does not work")
	}
	return r, log
}

func withURL(c Config, url string) Config {
	c.Postgres.URL = databaseURL(url)
	return c
}

// reload writes the file, sends SIGHUP and returns what relay logged about it.
func reload(t *testing.T, r *relaytest.Relay, log *journal, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log.take()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	var said string
	r.Eventually(func() bool {
		said += log.take()
		return strings.Contains(said, "reloaded")
	})
	return said
}

func TestReload(t *testing.T) {
	const base = "admin: {address: '127.0.0.1:0'}\npolicy: {schedule: [10ms]}\n"
	config := file(t, base)
	r, log := startApp(t, config)
	publish := func(id string) {
		t.Helper()
		r.Publish(map[string]any{"id": id, "endpoint": "shop"})
	}
	publish("early")
	r.RequireDead("early")

	shop := base + "endpoints: {shop: {url: '" + r.Receiver.URL + "', headers: {X-Shop: a}}}\n"
	if said := reload(t, r, log, config, shop); !strings.Contains(said, "configuration reloaded") {
		t.Fatal(said)
	}
	publish("known")
	r.RequireDelivered("known")
	if got := r.Next().Header.Get("X-Shop"); got != "a" {
		t.Errorf("X-Shop: %q", got)
	}

	// One fault and nothing changes, not even what is right.
	said := reload(t, r, log, config, strings.Replace(shop, "a}", "b}", 1)+"delivery: {timeout: 30}\nlog: {level: loud}\n")
	for _, want := range []string{"the old one holds", `"faults":2`, "delivery.timeout = 30: is not a duration", "log.level = loud"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	publish("still")
	r.RequireDelivered("still")
	if got := r.Next().Header.Get("X-Shop"); got != "a" {
		t.Errorf("X-Shop after a bad reload: %q", got)
	}

	// What only a restart can change is named.
	said = reload(t, r, log, config, strings.Replace(shop, "a}", "c}", 1)+"consumer: {slots: 7}\npolicy: {success_codes: '500'}\n")
	if !strings.Contains(said, "already defined") {
		t.Errorf("two sections of one name: %s", said)
	}
	said = reload(t, r, log, config, strings.Replace(strings.Replace(shop, "a}", "c}", 1), "[10ms]", "[10ms], success_codes: 500", 1)+
		"consumer: {slots: 300}\n")
	if !strings.Contains(said, `"key":"consumer.slots"`) || strings.Contains(said, `"key":"policy`) {
		t.Error(said)
	}
	r.Receiver.Answer(http.StatusInternalServerError)
	publish("odd")
	r.RequireDelivered("odd")
	if got := r.Next().Header.Get("X-Shop"); got != "c" {
		t.Errorf("X-Shop after the reload: %q", got)
	}
}

// SIGTERM's way in the program: the readiness page says that relay is stopping.
func TestReadyFromTheFirstLookUntilTheDrain(t *testing.T) {
	working := make(chan struct{})
	a := &app{working: working}
	check := a.checks()["relay"]
	if err := check(t.Context()); err == nil || !strings.Contains(err.Error(), "starting") {
		t.Errorf("before it works it says %v", err)
	}
	close(working)
	if err := check(t.Context()); err != nil {
		t.Error(err)
	}
	a.draining.Store(true)
	if err := check(t.Context()); err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("while it drains it says %v", err)
	}
}

// Waiting for a server ends at once where waiting does not help.
func TestAwait(t *testing.T) {
	log := zerolog.Nop()
	tries := 0
	err := await(t.Context(), &log, "a server", func(context.Context) error {
		tries++
		return os.ErrPermission
	})
	if err == nil || tries != 1 {
		t.Errorf("%d tries, %v", tries, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c := Default()
	c.NATS.URL = "nats://127.0.0.1:1"
	if err := await(ctx, &log, "NATS", func(context.Context) error {
		_, err := c.dialNATS(log)
		return err
	}); err == nil {
		t.Error("connected to nothing")
	}
}
