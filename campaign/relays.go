package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The times of a campaign: short, so that much happens in little time.
const (
	ackWait        = 3 * time.Second
	requestTimeout = time.Second
	slots          = 32 // for each of the two queues of a process
	slowCalls      = 32 // beside the slots
	mostInFlight   = 2*slots + slowCalls
	sweepEach      = time.Second
	jitter         = 0.1
	startPatience  = 30 * time.Second
)

// schedule are the waits between attempts. The last one is beyond
// consumer.max_sleep, so that schedules are part of every run.
var schedule = []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond}

// station is the place of one relay process: its cables, its ports, and the
// process that stands there now.
type station struct {
	w        *world
	name     string
	nats     []*cable
	postgres *cable
	port     int // of /readyz and /metrics
	binary   string

	mu      sync.Mutex
	process *child
	ready   bool
}

func (w *world) newStation(name, binary string) (_ *station, err error) {
	s := &station{w: w, name: name, binary: binary}
	for _, server := range w.nats {
		line, err := newCable(server.address)
		if err != nil {
			return nil, err
		}
		s.nats = append(s.nats, line)
	}
	database, err := url.Parse(w.postgres.TCPURL())
	if err != nil {
		return nil, fmt.Errorf("campaign: database URL: %w", err)
	}
	if s.postgres, err = newCable(database.Host); err != nil {
		return nil, err
	}
	s.port, err = freePort()
	return s, err
}

func (s *station) arguments() []string {
	servers := make([]string, len(s.nats))
	for i, line := range s.nats {
		servers[i] = "nats://" + line.address()
	}
	waits := make([]string, len(schedule))
	for i, wait := range schedule {
		waits[i] = wait.String()
	}
	database := url.URL{Scheme: "postgres", User: url.UserPassword(roleName, rolePassword), Host: s.postgres.address(), Path: "/relay"}
	_, port, _ := net.SplitHostPort(s.w.endpoints.address()) // our own listener has a port
	args := []string{"run"}
	for _, kv := range []string{
		"nats.url=" + strings.Join(servers, ","), "postgres.url=" + database.String() + "?sslmode=disable",
		"signing.secrets=" + secret, "delivery.allow=127.0.0.0/8", "delivery.ports=" + port,
		"delivery.timeout=" + requestTimeout.String(), "delivery.connect_timeout=500ms",
		"consumer.ack_wait=" + ackWait.String(), "consumer.slots=" + strconv.Itoa(slots), "consumer.sweep=" + sweepEach.String(),
		"consumer.max_sleep=1s", "consumer.drain=10s",
		"policy.schedule=" + strings.Join(waits, ","), "policy.jitter=" + fmt.Sprint(jitter),
		"policy.circuit.delay=500ms", "policy.concurrency=16", "admin.address=127.0.0.1:" + strconv.Itoa(s.port), "log.format=json",
	} {
		args = append(args, "--set", kv)
	}
	if s.binary != s.w.older { // which may not know of these, and has less in flight
		args = append(args, "--set", "sealing.keys="+s.w.sealing)
		args = append(args, "--set", "policy.slow_calls="+strconv.Itoa(slowCalls))
	}
	return args
}

// start runs relay and waits until it works.
func (s *station) start() error {
	working := make(chan struct{})
	var once sync.Once
	process, err := spawn(func(line string) {
		s.hear(line)
		if strings.Contains(line, "relay is working") {
			once.Do(func() { close(working) })
		}
	}, s.binary, s.arguments()...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.process = process
	s.mu.Unlock()
	select {
	case <-working:
	case <-process.ended:
		return fmt.Errorf("campaign: %s ended before it worked: %v", s.name, process.ProcessState)
	case <-time.After(startPatience):
		return fmt.Errorf("campaign: %s does not work after %v", s.name, startPatience)
	}
	s.w.history.note(entry{What: sayStart, Worker: s.worker(), Name: s.name, Note: s.program()})
	return nil
}

// program is what the station runs, for the history.
func (s *station) program() string {
	if s.binary == s.w.older {
		return older
	}
	return ""
}

// alarming are the words in relay's log that no fault excuses.
var alarming = []string{"DATA RACE", "panic", "no partition of relation"}

func (s *station) hear(line string) {
	_, _ = fmt.Fprintf(s.w.log, "%s %s\n", s.name, line)
	for _, word := range alarming {
		if strings.Contains(line, word) {
			s.w.history.note(entry{What: sayTrouble, Name: s.name, Note: line})
		}
	}
}

func (s *station) now() *child {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// worker is how the process calls itself in its rows.
func (s *station) worker() string {
	host, err := os.Hostname()
	if err != nil {
		host = "relay"
	}
	return host + "/" + strconv.Itoa(s.now().Process.Pid)
}

// kill is kill -9.
func (s *station) kill() {
	s.w.history.note(entry{What: sayGone, Worker: s.worker(), Name: s.name})
	s.now().kill()
}

// pause stops the process for a while, as a long collection or a frozen
// virtual machine would.
func (s *station) pause(d time.Duration) {
	s.w.history.note(entry{What: sayPaused, Worker: s.worker(), Name: s.name, Millis: d.Milliseconds()})
	s.now().signal(syscall.SIGSTOP)
}

// stop is SIGTERM. It returns when the process has ended, with what it says of
// itself in the history.
func (s *station) stop() {
	process := s.now()
	if !process.running() {
		return
	}
	process.signal(syscall.SIGTERM)
	select {
	case <-process.ended:
	case <-time.After(startPatience):
		s.w.history.note(entry{What: sayTrouble, Name: s.name, Note: "SIGTERM did not end it"})
		process.kill()
	}
	s.w.history.note(entry{What: sayEnded, Worker: s.worker(), Name: s.name, Status: process.ProcessState.ExitCode()})
}

// ask fetches a page of the process's admin server.
func (s *station) ask(ctx context.Context, page string) (int, string) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(s.port)+page, nil)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := s.w.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(body)
}

// usage notes what the process holds: goroutines, descriptors and memory.
func (s *station) usage(ctx context.Context, when string) {
	if !s.now().running() {
		return
	}
	e := entry{What: sayUsage, Worker: s.worker(), Name: when}
	_, metrics := s.ask(ctx, "/metrics")
	for line := range strings.Lines(metrics) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "go_goroutines":
			e.Seq = uint64(number)
		case "process_open_fds":
			e.Number = int(number)
		case "process_resident_memory_bytes":
			e.Millis = int64(number) >> 20
		}
	}
	s.w.history.note(e)
}
