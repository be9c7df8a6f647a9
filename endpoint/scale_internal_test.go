package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// registered writes n endpoints into a database of their own, as n puts would have,
// and returns its pool and the sealer of their secrets.
func registered(tb testing.TB, n int, questions pgx.QueryTracer) (*pgxpool.Pool, *Sealer) {
	tb.Helper()
	config, err := pgxpool.ParseConfig(testdb.New(tb))
	if err != nil {
		tb.Fatal(err)
	}
	config.ConnConfig.Tracer = questions
	pool, err := pgxpool.NewWithConfig(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	sealer, err := NewSealer(NewSealingKey())
	if err != nil {
		tb.Fatal(err)
	}
	s := NewStore(StoreOptions{Pool: pool, Registry: &Registry{}, Sealer: sealer})
	write := func(i int) ([]any, error) {
		one := settings{
			Tenant: fmt.Sprint("tenant-", i%1000), Name: fmt.Sprint("orders-", i), URL: fmt.Sprintf("https://shop-%d.example/hooks/orders", i),
			Secrets: []signing{{Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}, Headers: map[string]secret{"X-Api-Key": "0123456789abcdef"},
			Timeout: duration(20 * time.Second), Rate: 50, Schedule: []duration{duration(time.Second), duration(time.Minute)},
		}
		key := nameKey(one.Tenant, one.Name)
		sealed, err := s.seal(key, one)
		return []any{key, one.Tenant, one.Name, one.URL, json.RawMessage(sealed)}, err
	}
	_, err = pool.CopyFrom(tb.Context(), pgx.Identifier{"relay", "endpoint_settings"},
		[]string{"endpoint_key", "tenant", "name", "url", "settings"}, pgx.CopyFromSlice(n, write))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := pool.Exec(tb.Context(), "ANALYZE relay.endpoint_settings"); err != nil {
		tb.Fatal(err)
	}
	return pool, sealer
}

// loaded is a store that knows a table.
func loaded(tb testing.TB, pool *pgxpool.Pool, sealer *Sealer) *Store {
	tb.Helper()
	s := NewStore(StoreOptions{Pool: pool, Registry: &Registry{}, Sealer: sealer})
	if err := s.Load(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkRegistered is what a hundred thousand registered endpoints cost: ten
// thousand with -short.
func BenchmarkRegistered(b *testing.B) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	pool, sealer := registered(b, n, nil)
	before := heap()
	s := loaded(b, pool, sealer)
	b.Run("start", func(b *testing.B) {
		for b.Loop() {
			loaded(b, pool, sealer)
		}
		b.ReportMetric(float64(heap()-before)/float64(n), "B/endpoint")
	})
	refresh := func(b *testing.B) {
		b.Helper()
		if err := s.refresh(b.Context(), patience); err != nil {
			b.Fatal(err)
		}
	}
	change := func(b *testing.B, sql string) {
		b.Helper()
		if _, err := pool.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("poll/nothing changed", func(b *testing.B) {
		for b.Loop() {
			refresh(b)
		}
	})
	b.Run("poll/one changed", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			change(b, "UPDATE relay.endpoint_settings SET pause_reason = pause_reason WHERE name = 'orders-7'")
			b.StartTimer()
			refresh(b)
		}
	})
	b.Run("poll/all changed", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			change(b, "UPDATE relay.endpoint_settings SET pause_reason = pause_reason")
			b.StartTimer()
			refresh(b)
		}
	})
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			requireListed(b, s.o.Registry, n)
		}
	})
	b.Run("seen by another process", func(b *testing.B) { benchmarkSeen(b, loaded(b, pool, sealer), s) })
}

// benchmarkSeen is how long it takes until one process knows what another was told.
func benchmarkSeen(b *testing.B, one, two *Store) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	go func() { _ = two.Run(ctx) }()
	i := 0
	for b.Loop() {
		i++
		request := fmt.Sprintf(`{"tenant": "tenant-8", "name": "orders-8", "url": "https://shop-8.example/", "burst": %d}`, i)
		if _, err := one.Put(b.Context(), []byte(request), ""); err != nil {
			b.Fatal(err)
		}
		for {
			if ep, err := two.o.Registry.Find("tenant-8", "orders-8", ""); err == nil && ep.Burst == i {
				break
			}
			<-time.After(time.Millisecond)
		}
	}
}

// requireListed walks through all pages of a list.
func requireListed(tb testing.TB, r *Registry, n int) {
	tb.Helper()
	got, after := 0, place{}
	for more := true; more; {
		page, _ := r.page(after, listed+1, func(*relay.Endpoint) bool { return true })
		if more = len(page) > listed; more {
			page = page[:listed]
		}
		got, after = got+len(page), placeOf(page[len(page)-1])
	}
	if got != n {
		tb.Fatalf("%d are listed, want %d", got, n)
	}
}

// cut ends every question to Postgres once there are none left.
type cut struct{ left atomic.Int64 }

func (c *cut) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if c.left.Add(-1) < 0 {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		return ended
	}
	return ctx
}

func (*cut) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A change of more endpoints than can be read at once is taken over as far as it
// was read: a reading that breaks off is not begun anew, for ever.
func TestAChangeOfManyIsTakenOverPageByPage(t *testing.T) {
	t.Parallel()
	const n = 2*pageSize + 1
	questions := &cut{}
	questions.left.Store(1000)
	pool, sealer := registered(t, n, questions)
	s := loaded(t, pool, sealer)
	requireListed(t, s.o.Registry, n)
	if _, err := pool.Exec(t.Context(), "UPDATE relay.endpoint_settings SET paused_at = now()"); err != nil {
		t.Fatal(err)
	}
	for pages := 1; pages <= 3; pages++ {
		questions.left.Store(2) // the latest revision, and a page
		if err := s.refresh(t.Context(), patience); (err == nil) != (pages == 3) {
			t.Fatalf("page %d: %v", pages, err)
		}
		_, held := s.o.Registry.page(place{}, 1, func(ep *relay.Endpoint) bool { return ep.Held != "" })
		if want := min(pages*pageSize, n); held != want {
			t.Fatalf("after page %d %d are held, want %d", pages, held, want)
		}
	}
}
