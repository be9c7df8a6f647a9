package audit_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// TestManyAtOnce takes 10,000 events through claims and records, in two
// processes, and counts.
func TestManyAtOnce(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url)
	var mu sync.Mutex
	rows := map[string]int{}
	observe := func(kind string, n int, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		rows[kind] += n
	}
	logs := []*audit.Log{
		run(t, pool, audit.Options{Worker: "w1", Observe: observe}),
		run(t, connect(t, url), audit.Options{Worker: "w2", Observe: observe}),
	}
	const events = 10_000
	numbers := make(chan int)
	var wg sync.WaitGroup
	for range 128 {
		wg.Go(func() {
			for n := range numbers {
				w := event()
				w.EndpointKey = fmt.Sprintf("endpoint-%d", n%17)
				l := logs[n%2]
				c, err := l.Claim(t.Context(), w)
				if err != nil || c.Verdict.Action != relay.Send {
					t.Errorf("claim: %+v, %v", c.Verdict, err)
				}
				v, a := relay.Verdict{Action: relay.Delivered}, answered(200)
				if n%5 == 0 {
					v, a = relay.Verdict{Action: relay.Retry, After: time.Minute}, answered(503)
				}
				if _, err := l.Record(t.Context(), w, c, []relay.Attempt{a}, v); err != nil {
					t.Errorf("record: %v", err)
				}
			}
		})
	}
	for n := range events {
		numbers <- n
	}
	close(numbers)
	wg.Wait()

	check(t, query[int](t, pool, "SELECT count(*) FROM relay.webhooks WHERE status = 'delivered'"), events*4/5)
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.webhooks WHERE status = 'pending'"), events/5)
	check(t, query[int64](t, pool, "SELECT sum(success_count)::bigint FROM relay.endpoints"), int64(events*4/5))
	check(t, query[int64](t, pool, "SELECT sum(failure_count)::bigint FROM relay.endpoints"), int64(events/5))
	requireExactCounts(t, pool)
	mu.Lock()
	defer mu.Unlock()
	check(t, maps.Clone(rows), map[string]int{"claim": events, "record": events})
}

// TestTwoProcessesCompete lets two processes fight over the same few events:
// of each attempt only one may be made at a time.
func TestTwoProcessesCompete(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url)
	logs := []*audit.Log{
		run(t, pool, audit.Options{Worker: "w1"}),
		run(t, connect(t, url), audit.Options{Worker: "w2"}),
	}
	const events, attempts = 20, 10
	ws := make([]relay.Webhook, events)
	busy := make([]sync.Mutex, events)
	for i := range ws {
		ws[i] = event()
	}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			l, open := logs[i%2], rand.Perm(events)
			for len(open) > 0 {
				e := open[rand.IntN(len(open))]
				c, err := l.Claim(t.Context(), ws[e])
				if err != nil {
					t.Error(err)
					return
				}
				switch c.Verdict.Action {
				case relay.Send:
				case relay.Wait:
					continue
				default:
					check(t, c.Verdict.Action, relay.Failed)
					open = without(open, e)
					continue
				}
				if !busy[e].TryLock() {
					t.Errorf("event %d is claimed twice", e)
					return
				}
				v := relay.Verdict{Action: relay.Retry}
				if c.Made == attempts-1 {
					v.Action = relay.Failed
				}
				busy[e].Unlock() // before the record: after it, another may claim
				if got, err := l.Record(t.Context(), ws[e], c, []relay.Attempt{answered(500)}, v); err != nil || got != v {
					t.Errorf("record: %v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.webhooks WHERE status = 'failed' AND attempts = 10"), events)
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.attempts"), events*attempts)
	requireExactCounts(t, pool)
}

func without(list []int, e int) (out []int) {
	for _, x := range list {
		if x != e {
			out = append(out, x)
		}
	}
	return out
}

// TestAnySequence plays any order of claims, records, crashes, repetitions and
// late records with one event, and holds the log against the rules.
func TestAnySequence(t *testing.T) {
	pool := connect(t, testdb.New(t))
	logs := []*audit.Log{
		run(t, pool, audit.Options{Worker: "w0"}),
		run(t, pool, audit.Options{Worker: "w1"}),
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := event()
		type held struct {
			w        relay.Webhook
			c        relay.Claim
			v        relay.Verdict
			attempts []relay.Attempt
		}
		var open, recorded []held // claims not recorded yet, and records that may be repeated
		ended := ""               // the terminal status of this generation
		rt.Repeat(map[string]func(*rapid.T){
			"claim": func(rt *rapid.T) {
				c := claim(t, logs[rapid.IntRange(0, 1).Draw(rt, "worker")], w)
				if c.Verdict.Action == relay.Send {
					open = append(open, held{w: w, c: c})
				}
			},
			"record": func(rt *rapid.T) {
				if len(open) == 0 {
					return
				}
				i := rapid.IntRange(0, len(open)-1).Draw(rt, "claim")
				h := open[i]
				open = append(open[:i:i], open[i+1:]...)
				h.v.Action = rapid.SampledFrom([]relay.Action{
					relay.Delivered, relay.Retry, relay.Retry, relay.Defer, relay.Failed, relay.Dead,
				}).Draw(rt, "action")
				h.v.After = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "after")
				if h.v.Action.Terminal() {
					h.v.After = 0
				}
				if h.v.Action != relay.Defer {
					h.attempts = []relay.Attempt{answered(map[bool]int{true: 200, false: 500}[h.v.Action == relay.Delivered])}
				}
				record(t, logs[0], h.w, h.c, h.v, h.attempts...)
				recorded = append(recorded, h)
			},
			"record again": func(rt *rapid.T) {
				if len(recorded) == 0 {
					return
				}
				h := rapid.SampledFrom(recorded).Draw(rt, "record")
				before := state(t, pool, w)
				record(t, logs[1], h.w, h.c, h.v, h.attempts...)
				if after := state(t, pool, w); after != before && h.v.Action != relay.Delivered {
					rt.Fatalf("a repeated record changed %q into %q", before, after)
				}
			},
			"time passes": func(*rapid.T) {
				exec(t, pool, `UPDATE relay.webhooks SET claimed_until = claimed_until - interval '1 h',
					next_due = next_due - interval '1 h' WHERE accepted_at = $1 AND seq = $2`, w.Key.Time, int64(w.Key.Seq))
			},
			"replay": func(*rapid.T) {
				if ended != "" {
					w.Generation++
					ended = ""
				}
			},
			"": func(rt *rapid.T) {
				ended = requireLegal(t, rt, pool, w, ended)
			},
		})
	})
	requireExactCounts(t, pool)
}
