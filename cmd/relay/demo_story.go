package main

import (
	"context"
	"fmt"
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
		t.delivery, t.retries, t.outage, t.deadLetter, t.record,
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
	t.say("  $ nats pub -J %s '%s'", consumer.SubjectOutbound, envelope)
	msg := nats.NewMsg(consumer.SubjectOutbound)
	msg.Data = []byte(envelope)
	_, err := publish(ctx, t.conn, msg)
	return err
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
		job, err := ask(ctx, t.conn, consumer.SubjectReplay, "all")
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

// record shows the audit log.
func (t *teller) record(ctx context.Context) error {
	t.chapter("5. Every attempt stands in Postgres, the unlucky ones too")
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
