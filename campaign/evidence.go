package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
)

// evidence is all that the checker knows: the history, the audit tables and
// the streams.
type evidence struct {
	history []entry
	events  []*event
	rows    []*row
	letters []letter
	left    map[string]uint64 // messages by stream
	strange int               // partitions that take any row
	began   time.Time
	cluster bool               // one NATS server of three makes no difference
	skewed  map[string]bool    // workers whose clock was stepped
	states  map[string][]state // of registered endpoints, by key and in order
}

// event is a row of relay.webhooks.
type event struct {
	key, id, status, place, reason, endpoint string
	seq                                      int64
	generation, attempts                     int
	claimed                                  bool

	rows []*row // its attempts, in order
}

func (e *event) terminal() bool {
	return e.status == "delivered" || e.status == "failed" || e.status == "dead"
}

func (e *event) count(which func(*row) bool) (n int) {
	for _, r := range e.rows {
		if which(r) {
			n++
		}
	}
	return n
}

// row is a row of relay.attempts.
type row struct {
	key, attempt, kind, class, worker string
	generation, number, status        int
	success                           bool
	started                           time.Time
	took                              time.Duration

	request *request // that it was matched with
}

// request is what the receiver saw.
type request struct {
	id, path, hash, fault string
	keys, version         string // of a registered endpoint
	number, status        int
	at                    time.Time

	row *row
}

// letter is a message of the dead-letter stream.
type letter struct{ key, id, generation, buried, replayed string }

const selectEvents = `SELECT relay.event_key(accepted_at, seq), webhook_id, status, place, coalesce(reason, ''), endpoint_key,
	seq, generation, attempts, claim IS NOT NULL FROM relay.webhooks`

const selectRows = `SELECT relay.event_key(accepted_at, seq), attempt_id::text, kind, coalesce(error_class, ''), coalesce(worker, ''),
	generation, number, coalesce(status, 0), success, started_at, coalesce(duration_ms, 0)
	FROM relay.attempts ORDER BY started_at, attempt_id`

const countDefaults = `SELECT count(*) FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
	JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'relay' AND p.partdefid <> 0`

// gather reads the history back, the tables and the streams.
func (w *world) gather(ctx context.Context) (e *evidence, err error) {
	e = &evidence{cluster: w.settings.Cluster, left: map[string]uint64{}, skewed: map[string]bool{}, states: map[string][]state{}}
	if e.history, err = readHistory(w.settings.file("history.jsonl")); err != nil {
		return nil, err
	}
	if len(e.history) > 0 {
		e.began = e.history[0].At
	}
	err = w.pool.QueryRow(ctx, countDefaults).Scan(&e.strange)
	return e, errors.Join(err, e.readEvents(ctx, w), e.readRows(ctx, w), e.readStreams(ctx, w), e.readStates(ctx, w))
}

func (e *evidence) readEvents(ctx context.Context, w *world) error {
	found, err := w.pool.Query(ctx, selectEvents)
	if err != nil {
		return fmt.Errorf("campaign: read the events: %w", err)
	}
	var v event
	_, err = pgx.ForEachRow(found, []any{
		&v.key, &v.id, &v.status, &v.place, &v.reason, &v.endpoint, &v.seq, &v.generation, &v.attempts, &v.claimed,
	}, func() error {
		e.events = append(e.events, new(v))
		return nil
	})
	return err
}

func (e *evidence) readRows(ctx context.Context, w *world) error {
	found, err := w.pool.Query(ctx, selectRows)
	if err != nil {
		return fmt.Errorf("campaign: read the attempts: %w", err)
	}
	var r row
	var took float64
	_, err = pgx.ForEachRow(found, []any{
		&r.key, &r.attempt, &r.kind, &r.class, &r.worker, &r.generation, &r.number, &r.status, &r.success, &r.started, &took,
	}, func() error {
		r.took = time.Duration(took * float64(time.Millisecond))
		e.rows = append(e.rows, new(r))
		return nil
	})
	return err
}

func (e *evidence) readStreams(ctx context.Context, w *world) error {
	for _, name := range []string{consumer.StreamQueue, consumer.StreamLater, consumer.StreamDead} {
		stream, err := w.js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("campaign: read %s: %w", name, err)
		}
		e.left[name] = stream.CachedInfo().State.Msgs
		if name == consumer.StreamDead {
			if err := e.readLetters(ctx, stream); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *evidence) readLetters(ctx context.Context, stream jetstream.Stream) error {
	state := stream.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // it was replayed
		}
		if err != nil {
			return fmt.Errorf("campaign: read the dead letters: %w", err)
		}
		e.letters = append(e.letters, letter{
			key: m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], id: m.Header.Get("Relay-Id"),
			generation: m.Header.Get("Relay-Meta-Generation"), buried: m.Header.Get("Relay-Meta-Buried"),
			replayed: m.Header.Get("Relay-Meta-Replayed"),
		})
	}
	return nil
}
