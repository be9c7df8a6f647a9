package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/relaywebhooks/relay/bench"
)

// The sides of a comparison.
const (
	sideRelay = "relay"
	sideFloor = "floor"
)

// The sync settings of NATS.
const (
	syncAlways  = "always"
	syncSecond  = "1s" // what the README advises where not every message is synced
	syncDefault = "2m" // what plain NATS does
)

// target is one relay, or one floor, on a database and streams of its own.
type target struct {
	m        *machine
	o        options
	dir      string
	database string
	url      string // of the database
	nats     int    // ports
	admin    int
	receiver int
	peers    []*target // further relays on the same streams
	server   string    // of a peer: the NATS server that it uses
	process  *exec.Cmd
	ended    chan struct{}
}

// options say what a target is.
type options struct {
	side     string
	sync     string
	aside    bool   // a floor that sets events for hanging endpoints aside
	database string // an existing one, which is kept; "": a new one
	bin      string // of a relay that is built otherwise; "": the machine's
	set      []string
}

// start makes a target and waits until it is ready.
func (m *machine) start(ctx context.Context, o options) (*target, error) {
	m.made++
	t := &target{m: m, o: o, database: o.database, dir: filepath.Join(m.dir, "streams_"+strconv.Itoa(m.made))}
	if t.database == "" {
		t.database = "bench_" + strconv.Itoa(m.made)
		if err := m.sql(ctx, "CREATE DATABASE "+t.database); err != nil {
			return nil, err
		}
	}
	t.url = m.databaseURL(t.database)
	if err := m.sql(ctx, "CHECKPOINT"); err != nil { // what is left to write of earlier runs
		return nil, err
	}
	var err error
	for _, port := range []*int{&t.nats, &t.admin, &t.receiver} {
		if *port, err = freePort(ctx); err != nil {
			return nil, err
		}
	}
	if o.side == sideRelay {
		if err := t.relay(ctx, "migrate").Run(); err != nil {
			return nil, fmt.Errorf("relay migrate: %w", err)
		}
	}
	if o.database != "" { // its streams are new each time
		if err := sqlOn(ctx, t.url, "DELETE FROM relay.stream"); err != nil {
			return nil, err
		}
	}
	_, err = t.launch(ctx)
	return t, err
}

// peer starts one more relay on the streams and the database of this one.
func (t *target) peer(ctx context.Context) (*target, error) {
	p := &target{m: t.m, o: t.o, url: t.url, receiver: t.receiver, server: t.natsURL()}
	var err error
	if p.admin, err = freePort(ctx); err != nil {
		return nil, err
	}
	t.peers = append(t.peers, p)
	_, err = p.launch(ctx)
	return p, err
}

// launch starts the process, on whatever is in the target's stores, and returns
// how long it took to be ready.
func (t *target) launch(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if t.o.side == sideFloor {
		t.process = exec.CommandContext(ctx, t.m.floor, "-postgres", t.url, "-dir", t.dir,
			"-port", strconv.Itoa(t.nats), "-sync", t.o.sync, "-metrics", t.address(), "-aside="+strconv.FormatBool(t.o.aside))
	} else {
		t.process = t.relay(ctx, "run")
	}
	t.process.Cancel = func() error { return t.process.Process.Signal(syscall.SIGTERM) }
	t.process.WaitDelay = time.Minute
	if t.m.Keep {
		t.process.Stderr = os.Stderr
	}
	if err := t.process.Start(); err != nil {
		return 0, err
	}
	t.ended = make(chan struct{})
	go func() {
		defer close(t.ended)
		_ = t.process.Wait() // that it ended is what matters
	}()
	err := t.ready(ctx)
	return time.Since(began), err
}

// relay is a relay command with the target's settings.
func (t *target) relay(ctx context.Context, args ...string) *exec.Cmd {
	set := []string{
		"postgres.url=" + t.url, "admin.address=" + t.address(), "log.level=warn",
		"delivery.allow=127.0.0.0/8", "delivery.ports=" + strconv.Itoa(t.receiver),
	}
	if t.server != "" {
		set = append(set, "nats.url="+t.server)
	} else {
		set = append(set, "nats.embedded=true", "nats.data="+t.dir, "nats.port="+strconv.Itoa(t.nats), "nats.sync="+t.o.sync)
	}
	for _, kv := range slices.Concat(set, t.o.set, t.m.Set) {
		args = append(args, "--set", kv)
	}
	return exec.CommandContext(ctx, cmp.Or(t.o.bin, t.m.bin), args...)
}

func (t *target) natsURL() string { return "nats://127.0.0.1:" + strconv.Itoa(t.nats) }

func (t *target) address() string { return "127.0.0.1:" + strconv.Itoa(t.admin) }

// ready waits until the process can work.
func (t *target) ready(ctx context.Context) error {
	page := "/readyz"
	if t.o.side == sideFloor {
		page = "/metrics"
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		if _, err := get(ctx, "http://"+t.address()+page); err == nil {
			return nil
		}
		select {
		case <-t.ended:
			return fmt.Errorf("%s ended before it was ready: %v", t.o.side, t.process.ProcessState)
		case <-tick.C:
		}
	}
	return fmt.Errorf("%s is not ready after two minutes", t.o.side)
}

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("no answer within a minute"))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := new(http.Client).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return body, err
}

// stop ends the process as SIGTERM does.
func (t *target) stop() {
	_ = t.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-t.ended:
	case <-time.After(time.Minute):
		_ = t.process.Process.Kill()
		<-t.ended
	}
}

// close ends the process and removes its stores.
func (t *target) close(ctx context.Context) error {
	t.stop()
	err := os.RemoveAll(t.dir)
	if t.o.database == "" {
		err = errors.Join(err, t.m.sql(context.WithoutCancel(ctx), "DROP DATABASE "+t.database+" WITH (FORCE)"))
	}
	return err
}

// bench runs relay bench on the target.
func (t *target) bench(ctx context.Context, flags string) (bench.Report, error) {
	file := t.dir + ".json"
	defer os.Remove(file) //nolint:errcheck // the whole directory goes in the end
	args := append([]string{"bench"}, strings.Fields(flags)...)
	args = append(args, "--listen", "127.0.0.1:"+strconv.Itoa(t.receiver), "--json", file, "--set", "nats.url="+t.natsURL(),
		"--pid", strconv.Itoa(t.m.pid), "--metrics", "http://"+t.address()+"/metrics")
	cmd := exec.CommandContext(ctx, t.m.bin, args...)
	said, err := cmd.CombinedOutput()
	if t.m.Keep {
		fmt.Printf("%s", said)
	}
	text, noReport := os.ReadFile(file)
	if noReport != nil {
		return bench.Report{}, fmt.Errorf("relay bench %s: %w: %s", flags, err, said)
	}
	var r bench.Report
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("relay bench %s: %w", flags, err)
	}
	return r, nil
}
