package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/consumer"
)

// querier is a pool or a connection.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// tell is the story.
func (t *teller) tell(ctx context.Context) error {
	for _, chapter := range []func(context.Context) error{
		t.delivery, t.retries, t.outage, t.deadLetter, t.invalid, t.record,
	} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	t.say("\nThat was relay. Next: relay dev runs it here to play with; README.md says the rest.")
	return nil
}

func (t *teller) chapter(title string) { t.say("\n── %s\n", title) }

// publish publishes an envelope as any NATS client would, and shows how.
func (t *teller) publish(ctx context.Context, id, path, more string) error {
	envelope := fmt.Sprintf(`{"id": %q, "url": "%s%s", "payload": {"order": %q}%s}`, id, t.receiver.URL, path, id, more)
	return t.pub(ctx, envelope)
}

// pub publishes a message with the nats command line.
func (t *teller) pub(ctx context.Context, body string) error {
	t.say("  $ nats pub -J %s '%s'", consumer.SubjectOutbound, body)
	if t.nats != "" {
		_, err := t.command(ctx, "pub", "-J", "--no-templates", consumer.SubjectOutbound, body)
		return err
	}
	msg := nats.NewMsg(consumer.SubjectOutbound)
	msg.Data = []byte(body)
	_, err := publish(ctx, t.conn, msg)
	return err
}

// command runs the nats command line, as a person would in a terminal.
func (t *teller) command(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, t.nats, append([]string{"--server", t.server}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("nats %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// replay asks relay to bring letters back.
func (t *teller) replay(ctx context.Context, which string) (job consumer.Job, err error) {
	if t.nats == "" {
		return ask[consumer.Job](ctx, t.conn, consumer.SubjectReplay, which)
	}
	answer, err := t.command(ctx, "req", "--raw", consumer.SubjectReplay, which)
	if err != nil {
		return job, err
	}
	if err := json.Unmarshal([]byte(answer), &job); err != nil {
		return job, fmt.Errorf("nats req %s %s: %w: %s", consumer.SubjectReplay, which, err, answer)
	}
	return job, nil
}

// is ends a wait at a webhook's event.
func is(event, id string) func(told) bool {
	return func(e told) bool { return e.Event == event && e.WebhookID == id }
}

func (t *teller) delivery(ctx context.Context) error {
	t.chapter("1. Somebody publishes an event to NATS; relay delivers it, signed")
	if err := t.publish(ctx, "order-1", "/ok", ""); err != nil {
		return err
	}
	return t.until(ctx, is("delivered", "order-1"))
}

func (t *teller) retries(ctx context.Context) error {
	t.chapter("2. A receiver fails twice; relay comes back after 1 s, then after 2 s (as shipped: 1, 2, 4, 8 minutes)")
	if err := t.publish(ctx, "order-2", "/fail/2", ""); err != nil {
		return err
	}
	return t.until(ctx, is("delivered", "order-2"))
}

// outage opens a circuit with five failures, publishes more, and heals.
func (t *teller) outage(ctx context.Context) error {
	t.chapter("3. A receiver is down: after five failures relay opens its circuit and parks what comes, using up no attempts")
	const ill, more = 5, 3
	for i := range ill {
		id := fmt.Sprintf("order-3%c", 'a'+i)
		if err := t.publish(ctx, id, "/sick/shop", ""); err != nil {
			return err
		}
		if err := t.until(ctx, is("attempt", id)); err != nil {
			return err
		}
	}
	if err := t.until(ctx, func(e told) bool { return e.Event == "circuit" && e.Reason == "open" }); err != nil {
		return err
	}
	for i := range more {
		id := fmt.Sprintf("order-3%c", 'a'+ill+i)
		if err := t.publish(ctx, id, "/sick/shop", ""); err != nil {
			return err
		}
		if err := t.until(ctx, is("defer", id)); err != nil {
			return err
		}
	}
	t.say("\n  The receiver recovers. relay notices by itself, with a single probe:\n")
	t.receiver.heal("shop")
	left := ill + more
	return t.until(ctx, func(e told) bool {
		if e.Event == "delivered" && strings.HasPrefix(e.WebhookID, "order-3") {
			left--
		}
		return left == 0
	})
}

// deadLetter uses up a webhook's attempts and brings it back.
func (t *teller) deadLetter(ctx context.Context) error {
	t.chapter("4. A receiver stays ill: the attempts are used up, the event becomes a dead letter with its reason")
	if err := t.publish(ctx, "order-4", "/sick/bank", `, "max_attempts": 2`); err != nil {
		return err
	}
	if err := t.until(ctx, is("failed", "order-4")); err != nil {
		return err
	}
	t.say("\n  Days later the receiver is well again, and somebody replays:\n")
	t.receiver.heal("bank")
	t.say("  $ nats req %s all", consumer.SubjectReplay)
	for { // the letter is laid down just after it is told
		job, err := t.replay(ctx, "all")
		if err != nil {
			return err
		}
		if job.Replayed > 0 {
			t.say("  %s: replayed %d", job.State, job.Replayed)
			return t.until(ctx, is("delivered", "order-4"))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// invalid publishes what relay cannot read.
func (t *teller) invalid(ctx context.Context) error {
	t.chapter("5. Somebody publishes nonsense: it is no crash and no loop, but a dead letter that names every fault")
	if err := t.pub(ctx, `{"id": "order-5", "url": "ftp://example.com", "max_attempts": 0, "paylod": {}}`); err != nil {
		return err
	}
	return t.until(ctx, is("dead", "order-5"))
}

// record shows the audit log.
func (t *teller) record(ctx context.Context) error {
	t.chapter("6. Every attempt stands in Postgres, the unlucky ones too")
	const sql = `SELECT w.webhook_id, a.generation, a.number, a.kind, coalesce(a.status::text, '–'), a.success,
       to_char(a.started_at, 'HH24:MI:SS.MS')
FROM relay.attempts a JOIN relay.webhooks w USING (accepted_at, seq)
ORDER BY a.started_at`
	t.say("  $ psql -c \"%s\"\n", strings.ReplaceAll(sql, "\n", "\n    "))
	rows, err := t.pool.Query(ctx, sql)
	if err != nil {
		return err
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  webhook_id\tgeneration\tnumber\tkind\tstatus\tsuccess\tstarted_at")
	var id, kind, status, started string
	var generation, number int
	var success bool
	_, err = pgx.ForEachRow(rows, []any{&id, &generation, &number, &kind, &status, &success, &started}, func() error {
		_, err := fmt.Fprintf(w, "  %s\t%d\t%d\t%s\t%s\t%t\t%s\n", id, generation, number, kind, status, success, started)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	t.say("%s", table.String())
	return nil
}
