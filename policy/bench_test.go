package policy

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

// BenchmarkRefuses asks for endpoints in every state.
func BenchmarkRefuses(b *testing.B) {
	states := map[string]func(b *testing.B, s *Set) relay.Endpoint{
		"unknown": func(*testing.B, *Set) relay.Endpoint { return relay.Endpoint{Key: "a"} },
		"quick": func(b *testing.B, s *Set) relay.Endpoint {
			b.Helper()
			return called(b, s, relay.Endpoint{Key: "a"}, call200)
		},
		"rate": func(b *testing.B, s *Set) relay.Endpoint {
			b.Helper()
			return called(b, s, relay.Endpoint{Key: "a", Rate: 1e12}, call200)
		},
		"rate used up": func(b *testing.B, s *Set) relay.Endpoint {
			b.Helper()
			return called(b, s, relay.Endpoint{Key: "a", Rate: 1e-6}, call200)
		},
		"open": func(b *testing.B, s *Set) relay.Endpoint {
			b.Helper()
			for range 4 {
				called(b, s, relay.Endpoint{Key: "a"}, call500)
			}
			return called(b, s, relay.Endpoint{Key: "a"}, call500)
		},
	}
	for state, prepare := range states {
		b.Run(state, func(b *testing.B) {
			s := New(Options{})
			ep := prepare(b, s)
			b.ReportAllocs()
			for b.Loop() {
				s.Refuses(ep)
			}
		})
	}
}

func BenchmarkRefusesParallel(b *testing.B) {
	s := New(Options{})
	ep := called(b, s, relay.Endpoint{Key: "a"}, call200)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Refuses(ep)
		}
	})
}

func called(b *testing.B, s *Set, ep relay.Endpoint, send func(context.Context) relay.Attempt) relay.Endpoint {
	b.Helper()
	s.Do(b.Context(), ep, relay.Webhook{}, relay.Claim{}, send)
	return ep
}

// BenchmarkDoShared delivers to one healthy endpoint, alone and beside other processes
// that have paused no endpoint, or a thousand.
func BenchmarkDoShared(b *testing.B) {
	for _, c := range []struct {
		name   string
		shared bool
		paused int
	}{{"alone", false, 0}, {"shared", true, 0}, {"shared, 1000 paused", true, 1000}} {
		b.Run(c.name, func(b *testing.B) {
			s := New(Options{})
			if c.shared {
				s.Share(deaf{})
			}
			for i := range c.paused {
				s.Pause(relay.Pause{Key: fmt.Sprint(i), Kind: relay.PauseCircuit, Until: time.Now().Add(time.Hour)})
			}
			ep := called(b, s, relay.Endpoint{Key: "a"}, call200)
			b.ReportAllocs()
			for b.Loop() {
				s.Do(b.Context(), ep, relay.Webhook{}, relay.Claim{}, call200)
			}
		})
	}
}

// deaf are other processes that nobody hears of.
type deaf struct{}

func (deaf) Paused(relay.Pause)                      {}
func (deaf) Ended(string)                            {}
func (deaf) Resumed(string)                          {}
func (deaf) Lease(context.Context, relay.Pause) bool { return true }
