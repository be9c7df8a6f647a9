package policy

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay"
)

func call200(context.Context) relay.Attempt {
	return relay.Attempt{Kind: relay.Response, Status: 200, Took: time.Millisecond}
}

func call500(context.Context) relay.Attempt {
	return relay.Attempt{Kind: relay.Response, Status: 500, Took: time.Millisecond}
}

func (s *Set) call(ctx context.Context, key string, send func(context.Context) relay.Attempt) relay.Verdict {
	_, v := s.Do(ctx, relay.Endpoint{Key: key, URL: "https://" + key + ".example/"}, relay.Webhook{}, relay.Claim{}, send)
	return v
}

func (s *Set) size() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.endpoints)
}

func TestReplaceKeepsState(t *testing.T) {
	s := New(Options{})
	var reported []Circuit
	for range 5 {
		s.call(t.Context(), "a", call500)
	}
	// Anything but the circuit: it stays open.
	s.Replace(Options{
		MaxAttempts: 9, Concurrency: 1, Timeout: time.Second,
		OnCircuit: func(c Circuit) { reported = append(reported, c) },
	})
	if v := s.call(t.Context(), "a", call200); v.Place != relay.Parked {
		t.Errorf("after other options changed: %+v", v)
	}
	// Other thresholds: a new circuit, and what was reported open is reported closed.
	s.Replace(Options{Circuit: CircuitOptions{Failures: 2}})
	if v := s.call(t.Context(), "a", call500); v.Action != relay.Retry {
		t.Errorf("after the thresholds changed: %+v", v)
	}
	if open, half := s.Circuits(); open != 0 || half != 0 || len(reported) != 1 || reported[0].State != Closed {
		t.Errorf("%d open, %d half-open, reported %+v", open, half, reported)
	}
	s.call(t.Context(), "a", call500)
	if open, _ := s.Circuits(); open != 1 || len(reported) != 2 {
		t.Errorf("two failures: %d open, reported %+v", open, reported)
	}
}

// A call that ends under a circuit that is no longer used changes nothing.
func TestReplaceWhileInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		end := make(chan bool)
		for range 5 {
			go s.call(t.Context(), "a", func(ctx context.Context) relay.Attempt {
				<-end
				return call500(ctx)
			})
		}
		synctest.Wait()
		s.Replace(Options{Circuit: CircuitOptions{Failures: 3}})
		s.call(t.Context(), "a", call200)
		close(end)
		synctest.Wait()
		if open, half := s.Circuits(); open != 0 || half != 0 {
			t.Errorf("%d open, %d half-open", open, half)
		}
	})
}

func TestRunForgetsTheIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed []string
		s := New(Options{OnCircuit: func(c Circuit) {
			if c.State == Closed {
				closed = append(closed, c.Key)
			}
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()

		end := make(chan bool)
		go s.call(t.Context(), "in flight", func(ctx context.Context) relay.Attempt {
			<-end
			return call200(ctx)
		})
		s.call(t.Context(), "idle", call200)
		for range 5 {
			s.call(t.Context(), "dead", call500)
		}
		s.call(t.Context(), "resting", func(context.Context) relay.Attempt {
			return relay.Attempt{Kind: relay.Response, Status: 429, Header: map[string][]string{"Retry-After": {"300"}}}
		})
		for range 15 {
			s.call(t.Context(), "busy", call200)
			time.Sleep(time.Minute)
		}
		if got := s.size(); got != 3 {
			t.Errorf("%d endpoints after 15 minutes, want in flight, dead and busy", got)
		}
		if s.Rest("dead") != 0 {
			t.Error("a probe is not let through")
		}
		close(end)
		time.Sleep(2 * time.Hour)
		if got := s.size(); got != 0 {
			t.Errorf("%d endpoints after two hours", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if open, half := s.Circuits(); open != 0 || half != 0 || len(closed) != 1 || closed[0] != "dead" {
			t.Errorf("%d open, %d half-open, closed %v", open, half, closed)
		}
	})
}

// An endpoint that asked for rest is not called because it was forgotten.
func TestRestingIsNotIdle(t *testing.T) {
	s := New(Options{})
	s.call(t.Context(), "a", func(context.Context) relay.Attempt {
		return relay.Attempt{Kind: relay.Response, Status: 429, Header: map[string][]string{"Retry-After": {"300"}}}
	})
	for later, want := range map[time.Duration]bool{4 * time.Minute: false, 6 * time.Minute: true} {
		if got := s.endpoints["a"].idle(time.Now().Add(later), patient{time.Minute, time.Minute}); got != want {
			t.Errorf("idle after %v: %t, want %t", later, got, want)
		}
	}
}

// Of very many endpoints only those are remembered that are worth it.
func TestRunForgetsTheWellAmongMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		keep := map[string]func(context.Context) relay.Attempt{
			"failed once": call500,
			"slow": func(context.Context) relay.Attempt {
				return relay.Attempt{Kind: relay.Response, Status: 200, Took: time.Second}
			},
			"gateway error": func(context.Context) relay.Attempt {
				return relay.Attempt{Kind: relay.Response, Status: 503, Took: time.Millisecond}
			},
		}
		for key, send := range keep {
			s.call(t.Context(), key, send)
		}
		paced := relay.Endpoint{Key: "paced", URL: "https://paced.example/", Rate: 1, Burst: 1}
		s.Do(t.Context(), paced, relay.Webhook{}, relay.Claim{}, call200)
		for i := range many {
			s.call(t.Context(), fmt.Sprint(i), call200)
		}
		time.Sleep(soonIdle + 2*lookEach)
		if got := s.size(); got != len(keep)+1 {
			t.Errorf("%d endpoints are remembered, want %d", got, len(keep)+1)
		}
		s.call(t.Context(), "one of few", call200)
		time.Sleep(soonIdle + 2*lookEach)
		if got := s.size(); got != len(keep)+2 {
			t.Errorf("of few, %d endpoints are remembered, want %d", got, len(keep)+2)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A call that found an endpoint just before it was forgotten makes it anew.
func TestForgottenInBetween(t *testing.T) {
	s := New(Options{})
	s.call(t.Context(), "a", call200)
	old := s.endpoints["a"]
	s.forget(old, time.Now().Add(time.Hour), patient{time.Minute, time.Minute})
	if k := (&call{options: s.options.Load()}); old.enter(k) {
		t.Error("a forgotten endpoint took a call")
	}
	s.call(t.Context(), "a", call200)
	if s.endpoints["a"] == old {
		t.Error("the forgotten endpoint is back")
	}
}

func BenchmarkDo(b *testing.B) {
	s := New(Options{})
	ep := relay.Endpoint{Key: "a", URL: "https://a.example/"}
	b.ReportAllocs()
	for b.Loop() {
		s.Do(b.Context(), ep, relay.Webhook{}, relay.Claim{}, call200)
	}
}

func BenchmarkDoWithRate(b *testing.B) {
	s := New(Options{})
	ep := relay.Endpoint{Key: "a", URL: "https://a.example/", Rate: 1e12}
	b.ReportAllocs()
	for b.Loop() {
		s.Do(b.Context(), ep, relay.Webhook{}, relay.Claim{}, call200)
	}
}

func BenchmarkDoParallel(b *testing.B) {
	s := New(Options{})
	ep := relay.Endpoint{Key: "a", URL: "https://a.example/"}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Do(context.Background(), ep, relay.Webhook{}, relay.Claim{}, call200)
		}
	})
}

func BenchmarkDoRefused(b *testing.B) {
	s := New(Options{})
	for range 5 {
		s.call(b.Context(), "a", call500)
	}
	ep := relay.Endpoint{Key: "a", URL: "https://a.example/"}
	b.ReportAllocs()
	for b.Loop() {
		s.Do(b.Context(), ep, relay.Webhook{}, relay.Claim{}, call200)
	}
}

// BenchmarkEndpoints measures the memory of an endpoint that was called once.
func BenchmarkEndpoints(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		s := New(Options{})
		before := heap()
		for i := range n {
			key := fmt.Sprintf("%026d", i)
			s.Do(b.Context(), relay.Endpoint{Key: key, URL: "https://shop.example/hooks/" + key}, relay.Webhook{}, relay.Claim{}, call200)
		}
		b.ReportMetric(float64(heap()-before)/n, "B/endpoint")
		started := time.Now()
		s.forgetIdle()
		b.ReportMetric(float64(time.Since(started).Microseconds()), "µs/sweep")
		runtime.KeepAlive(s)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
