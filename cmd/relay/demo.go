package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/consumer"
)

// demoSettings make the story short: waits of a second instead of minutes, and
// whatever ports are free.
var demoSettings = []string{
	"nats.port=0", "admin.address=127.0.0.1:0", "log.level=error",
	"policy.schedule=1s,2s,4s", "policy.jitter=0", "policy.circuit.delay=2s", "consumer.sweep=500ms",
}

// demoPatience bounds the whole story; it takes half a minute.
const demoPatience = 2 * time.Minute

// demo runs relay on servers that are thrown away, and has it live through what
// relay is for. It reads neither the environment nor a file: it must not touch
// anybody's data.
func demo(ctx context.Context, p *program) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, demoPatience, fmt.Errorf("the story did not end within %s", demoPatience))
	defer cancel()
	dir, err := os.MkdirTemp("", "relay-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	set := append([]string{"nats.data=" + dir, "postgres.data="}, demoSettings...)
	l, err := loadDev(sources{set: append(set, p.sources.set...)})
	if err != nil {
		return err
	}
	t := &teller{out: p.stdout}
	t.say("Starting a NATS server, a Postgres and a receiver that misbehaves …")
	s := &servers{log: newLogger(l.Log, p.stderr)}
	defer s.close()
	if t.receiver, err = startReceiver(ctx, "127.0.0.1:0", l.Signing.Secrets, t.heard); err != nil {
		return err
	}
	defer t.receiver.stop()
	if err := s.openDev(ctx, &l); err != nil {
		return err
	}
	t.conn, t.pool, t.server = s.conn, s.pool, s.nats.ClientURL()
	if t.nats, err = exec.LookPath("nats"); err != nil {
		t.say("The nats command line is not installed: what it would do is done over the Go library. make demo brings it.")
	}
	return t.during(ctx, s, l)
}

// during tells the story while relay works, and then has relay stop in order.
func (t *teller) during(ctx context.Context, s *servers, l loaded) error {
	t.events = make(chan *nats.Msg, 1024)
	sub, err := t.conn.ChanSubscribe(consumer.SubjectEvents+">", t.events)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection ends too
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- s.serve(working, l, func() (loaded, error) { return l, nil })
		stop()
	}()
	err = t.tell(working)
	stop()
	if failed := <-ended; failed != nil {
		return failed
	}
	return err
}

// told is an event of relay's.
type told struct {
	Event     string  `json:"event"`
	WebhookID string  `json:"webhook_id"`
	Attempt   int     `json:"attempt"`
	Status    int     `json:"status"`
	TookMS    float64 `json:"took_ms"`
	Reason    string  `json:"reason"`
	Place     string  `json:"place"`
	AfterMS   int64   `json:"after_ms"`
}

// say writes a line. It is safe for concurrent use.
func (t *teller) say(format string, a ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, format+"\n", a...)
}

// heard is what the receiver got.
func (t *teller) heard(line string) { t.say("  receiver  %s", line) }

// until says what relay tells, until an event ends the wait.
func (t *teller) until(ctx context.Context, end func(told) bool) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case msg := <-t.events:
			var e told
			if err := json.Unmarshal(msg.Data, &e); err != nil {
				return fmt.Errorf("an event that cannot be read: %w", err)
			}
			if line := e.line(); line != "" {
				t.say("  relay     %s  %s", time.Now().Format("15:04:05.000"), line)
			}
			if end(e) {
				return nil
			}
		}
	}
}

// line says an event for people; "" for what another line says already.
func (e told) line() string {
	wait := (time.Duration(e.AfterMS) * time.Millisecond).Round(100 * time.Millisecond)
	switch e.Event {
	case "attempt":
		if e.Status == 0 {
			return fmt.Sprintf("%s  attempt %d: %s", e.WebhookID, e.Attempt, e.Reason)
		}
		return fmt.Sprintf("%s  attempt %d: %d in %.1f ms", e.WebhookID, e.Attempt, e.Status, e.TookMS)
	case "retry":
		return fmt.Sprintf("%s  again in %s", e.WebhookID, wait)
	case "defer":
		return fmt.Sprintf("%s  not sent: %s (waits in: %s)", e.WebhookID, e.Reason, e.Place)
	case "failed", "dead":
		return fmt.Sprintf("%s  %s: %s → %s", e.WebhookID, e.Event, e.Reason, e.Place)
	case "circuit":
		return "circuit " + e.Reason
	default:
		return e.WebhookID + "  " + e.Event
	}
}

// teller tells the story: what is done, what the receiver hears and what relay
// says about it, as it happens.
type teller struct {
	mu  sync.Mutex
	out io.Writer

	conn     *nats.Conn
	nats     string // the nats command line, "" where there is none
	server   string // where it finds the server
	pool     querier
	receiver *devReceiver
	events   chan *nats.Msg
}
