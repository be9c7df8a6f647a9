package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const sideOne = "one endpoint"

// endpoints100k: as many events for one endpoint, and for one each.
func endpoints100k(ctx context.Context, m *machine) error {
	n := 100_000
	if m.Short {
		n = 20_000
	}
	n = m.n(n)
	o := options{side: sideRelay, sync: syncDefault}
	return errors.Join(
		m.as(ctx, sideOne, o, fmt.Sprintf("--events %d", n)),
		m.as(ctx, sideRelay, o, fmt.Sprintf("--events %d --endpoints %d", n, n)))
}

func endpointGoals() []goal {
	return []goal{
		atLeast("throughput against one endpoint", 0.7, ratio(sideRelay, sideOne, throughput)),
		atMost("memory above idle, MiB", 150, median(sideRelay, memoryGrown)),
	}
}

// auditSize: the same burst on databases of different sizes, which are made
// once and kept.
func auditSize(ctx context.Context, m *machine) error {
	sizes := []int{0, 1_000_000, 10_000_000}
	if m.Short {
		sizes = sizes[:2]
	}
	for _, rows := range sizes {
		database := "audit_" + strconv.Itoa(rows)
		if err := m.filled(ctx, database, int(float64(rows)*m.Scale)); err != nil {
			return err
		}
		o := options{side: sideRelay, sync: syncDefault, database: database}
		if err := m.as(ctx, rowsSide(rows), o, m.burstFlags()); err != nil {
			return err
		}
	}
	return nil
}

func rowsSide(rows int) string { return strconv.Itoa(rows/1_000_000) + " million rows" }

func auditGoals() []goal {
	return []goal{
		atMost("CPU per delivery, 1 million rows against none", 1.15, ratio(rowsSide(1_000_000), rowsSide(0), cpuAll)),
		atMost("CPU per delivery, 10 million rows against none", 1.15, ratio(rowsSide(10_000_000), rowsSide(0), cpuAll)),
	}
}

// filled makes a database with so many delivered events, and an attempt for
// each, all of today: the tables of a day are those that relay works on.
func (m *machine) filled(ctx context.Context, name string, rows int) error {
	if m.kept[name] {
		return nil
	}
	if err := m.sql(ctx, "CREATE DATABASE "+name); err != nil {
		return err
	}
	m.kept[name] = true
	url := m.databaseURL(name)
	if err := exec.CommandContext(ctx, m.bin, "migrate", "--set", "postgres.url="+url).Run(); err != nil {
		return fmt.Errorf("relay migrate: %w", err)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // it has been used
	const day = `(now() AT TIME ZONE 'UTC')::date`
	if _, err := conn.Exec(ctx, `SELECT relay.ensure_partitions(`+day+`, `+day+`)`); err != nil {
		return err
	}
	const step = 250_000
	for from := 0; from < rows; from += step {
		fmt.Printf("  filling %s: %d of %d rows\n", name, from, rows)
		for _, fill := range []string{fillWebhooks, fillAttempts} {
			if _, err := conn.Exec(ctx, fill, from+1, min(from+step, rows)); err != nil {
				return fmt.Errorf("fill %s: %w", name, err)
			}
		}
	}
	_, err = conn.Exec(ctx, "VACUUM ANALYZE relay.webhooks, relay.attempts")
	return err
}

// The rows lie in the first hours of today, a millisecond apart at most.
const (
	fillTime     = `(now() AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC' + i * interval '100 microseconds'`
	fillWebhooks = `
		INSERT INTO relay.webhooks (accepted_at, seq, webhook_id, endpoint_key, url, method, content_type, body,
			status, place, attempts, generation_attempts, last_status, delivered_at, expires_at)
		SELECT ` + fillTime + `, i, 'filled-' || i, 'filled' || i % 1000, 'http://127.0.0.1/filled?' || i, 'POST', 'application/json',
			decode(repeat(md5(i::text), 64), 'hex'), 'delivered', 'gone', 1, 1, 200, ` + fillTime + `, ` + fillTime + ` + interval '3 days'
		FROM generate_series($1::bigint, $2::bigint) i`
	fillAttempts = `
		INSERT INTO relay.attempts (accepted_at, seq, attempt_id, generation, number, kind, success, started_at, duration_ms, status, worker, endpoint_key)
		SELECT ` + fillTime + `, i, gen_random_uuid(), 0, 1, 'response', true, ` + fillTime + `, 1, 200, 'filled', 'filled' || i % 1000
		FROM generate_series($1::bigint, $2::bigint) i`
)

// ackWait of the relays of which one is killed: the default.
const ackWait = 45 * time.Second

// sideKilled keeps what became of the events that the killed relay had in hand.
const sideKilled = "share of the killed"

// threeRelays: three processes share the streams of the first; after twenty
// seconds the second is killed. A fifth of the endpoints takes a second to
// answer, so that there is something in its hands.
func threeRelays(ctx context.Context, m *machine) error {
	return m.with(ctx, options{side: sideRelay, sync: syncAlways}, func(first *target) error {
		second, err := first.peer(ctx)
		if err != nil {
			return err
		}
		defer second.stop()
		third, err := first.peer(ctx)
		if err != nil {
			return err
		}
		defer third.stop()
		killed := make(chan time.Time, 1)
		kill := time.AfterFunc(max(5*time.Second, time.Duration(20*m.Scale*float64(time.Second))), func() {
			_ = second.process.Process.Signal(syscall.SIGKILL)
			killed <- time.Now()
		})
		defer kill.Stop()
		flags := fmt.Sprintf("--events %d --rate 300 --endpoints 10 --slow 0.2 --slow-for 1s --patience 2m", max(m.n(24_000), 3000))
		if err := first.measure(ctx, sideRelay, flags); err != nil {
			return err
		}
		return first.shareBack(ctx, <-killed)
	})
}

// shareBack waits until every event is delivered, and keeps how long it took
// until another relay sent those that the killed one had claimed: each has an
// attempt of which nobody knows whether it was made.
func (t *target) shareBack(ctx context.Context, killed time.Time) error {
	conn, err := pgx.Connect(ctx, t.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // it has been used
	left, share, last := 1, 0, 0.0
	for end := killed.Add(2 * ackWait); left > 0 && time.Now().Before(end); {
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM relay.webhooks WHERE status <> 'delivered'`).Scan(&left); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(500 * time.Millisecond):
		}
	}
	if err := conn.QueryRow(ctx, shareOfDead, killed).Scan(&share, &last); err != nil {
		return err
	}
	return t.m.keep(line{Side: sideKilled, Sync: t.o.sync, Command: "kill -9", Extra: map[string]float64{
		"in_hand": float64(share), "back_seconds": last, "left": float64(left),
	}})
}

const shareOfDead = `
SELECT count(*), coalesce(extract(epoch FROM max(next.started_at) - $1::timestamptz), 0)::float8
FROM relay.attempts lost, LATERAL (
    SELECT min(started_at) AS started_at FROM relay.attempts a
    WHERE (a.accepted_at, a.seq) = (lost.accepted_at, lost.seq) AND a.kind <> 'unrecorded'
) next
WHERE lost.kind = 'unrecorded'`

func threeGoals() []goal {
	return []goal{
		atLeast("events that the killed relay had in hand", 1, median(sideKilled, extra("in_hand"))),
		atMost("seconds until the last of them was sent again", ackWait.Seconds()+1, most(sideKilled, extra("back_seconds"))),
		atMost("events that were not delivered", 0, most(sideKilled, extra("left"))),
		atMost("latest healthy delivery, s after its publish", ackWait.Seconds()+1, most(sideRelay, latest)),
		atMost("seconds without a delivery", 0, median(sideRelay, silent)),
		atMost("duplicates, which is what was in flight", 256, most(sideRelay, duplicates)),
		atMost("lost", 0, most(sideRelay, lost)),
	}
}
