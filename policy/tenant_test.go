package policy_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

// of is one of a tenant's endpoints.
func of(tenant string, i int) relay.Endpoint {
	return relay.Endpoint{Key: fmt.Sprint(tenant, i), Tenant: tenant}
}

// beSlow delivers webhooks to an endpoint that takes 300 ms, four at a time, and
// counts them.
func (w *worker) beSlow(ctx context.Context, ep relay.Endpoint) int64 {
	var delivered atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				v := w.do(context.WithoutCancel(ctx), ep, lasting(300*time.Millisecond))
				if v.Action == relay.Delivered {
					delivered.Add(1)
					continue
				}
				<-time.After(v.After)
			}
		})
	}
	all.Wait()
	return delivered.Load()
}

// A tenant's thousand endpoints hang. The only endpoint of another one is slow,
// and is called as if it were alone; and so is one of no tenant.
func TestATenantsEndpointsLeaveRoomForAnothers(t *testing.T) {
	for _, test := range []struct{ hangs, slow string }{{"a", "b"}, {"a", ""}, {"", "b"}} {
		t.Run(fmt.Sprintf("%q hangs beside %q", test.hangs, test.slow), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const endpoints = 1000
				w := &worker{policy.New(patient), make(chan bool, 256)}
				ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
				defer cancel()
				var all sync.WaitGroup
				for i := range 3 * endpoints {
					all.Go(func() { w.hang(ctx, of(test.hangs, i%endpoints)) })
				}
				<-time.After(10 * time.Second) // it has taken what it can get
				delivered := w.beSlow(ctx, of(test.slow, 0))
				all.Wait()
				t.Logf("%d delivered", delivered)
				if delivered < 4*130 { // of 4 × 140 s / 0.3 s, less the first moments
					t.Errorf("%d delivered, want 1,800 or so", delivered)
				}
				requireSlow(t, w.Set, 0, 0)
			})
		})
	}
}

// Where there are no tenants, and where one has a share of its own.
func TestSharesOfTenants(t *testing.T) {
	for _, test := range []struct {
		name   string
		o      policy.Options
		tenant string
		hang   int // at most, of 80 slow calls
		reason string
	}{
		{"no tenants", policy.Options{}, "", 70, "relay's slow calls are used up"},
		{"a tenant", policy.Options{}, "a", 40, "its tenant's share of relay's slow calls is used up"},
		{"a share of all", policy.Options{Tenant: policy.TenantOptions{Share: 0.6}}, "a", 48, "its tenant's share of relay's slow calls is used up"},
		{"a share of its own", policy.Options{Tenant: policy.TenantOptions{Share: 0.6}, Tenants: map[string]policy.TenantOptions{"a": {Share: 0.75}}}, "a", 60, "its tenant's share of relay's slow calls is used up"},
		{"a share of another", policy.Options{Tenants: map[string]policy.TenantOptions{"b": {Share: 0.75}}}, "a", 40, "its tenant's share of relay's slow calls is used up"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := test.o
				o.SlowCalls, o.Circuit = 80, patient.Circuit
				s := policy.New(o)
				for i := range 80 {
					go s.Do(t.Context(), of(test.tenant, i), relay.Webhook{}, relay.Claim{}, lasting(300*time.Millisecond))
				}
				time.Sleep(time.Second) // all are known to be slow
				var last relay.Verdict
				var mu sync.Mutex
				for i := range 80 {
					go func() {
						if _, v := s.Do(t.Context(), of(test.tenant, i), relay.Webhook{}, relay.Claim{}, lasting(10*time.Second)); v.Action == relay.Defer {
							mu.Lock()
							defer mu.Unlock()
							last = v
						}
					}()
				}
				synctest.Wait()
				_, calls := s.Slow()
				mu.Lock()
				defer mu.Unlock()
				if calls != test.hang || last.Reason != policy.Busy+": "+test.reason {
					t.Errorf("%d calls in flight, want %d; the others: %+v", calls, test.hang, last)
				}
				if v, refused := s.Refuses(of("c", 0)); refused {
					t.Errorf("another tenant: %+v", v)
				}
				time.Sleep(10 * time.Second)
			})
		})
	}
}

// paces are webhooks that are offered again whenever they come back; when each
// was sent is told.
func offer(ctx context.Context, t *testing.T, s *policy.Set, eps []relay.Endpoint, n int, ask bool) []time.Time {
	t.Helper()
	var mu sync.Mutex
	var sent []time.Time
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			ep := eps[i%len(eps)]
			for ctx.Err() == nil {
				v, refused := relay.Verdict{}, false
				if ask {
					v, refused = s.Refuses(ep)
				}
				if !refused {
					_, v = s.Do(ctx, ep, relay.Webhook{}, relay.Claim{}, func(context.Context) relay.Attempt {
						mu.Lock()
						defer mu.Unlock()
						sent = append(sent, time.Now())
						return relay.Attempt{Kind: relay.Response, Status: 200, Took: time.Millisecond}
					})
				}
				if v.Action == relay.Delivered {
					return
				}
				if v.Action != relay.Defer || !strings.HasPrefix(v.Reason, policy.RateLimited) {
					t.Errorf("refused with %+v", v)
					return
				}
				<-time.After(v.After)
			}
		})
	}
	all.Wait()
	return sent
}

// A tenant's rate holds over all of its endpoints, is used up, and holds up
// nobody else.
func TestATenantsRateHoldsOverItsEndpoints(t *testing.T) {
	for _, ask := range []bool{false, true} {
		t.Run(fmt.Sprintf("asked before: %t", ask), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rate, burst, n = 20, 10, 1000
				o := policy.Options{Tenants: map[string]policy.TenantOptions{"a": {Rate: rate, Burst: burst}}}
				s := policy.New(o)
				eps := make([]relay.Endpoint, 50)
				for i := range eps {
					eps[i] = of("a", i)
				}
				began := time.Now()
				var sent []time.Time
				var sending sync.WaitGroup
				sending.Go(func() { sent = offer(t.Context(), t, s, eps, n, ask) })
				if others := offer(t.Context(), t, s, []relay.Endpoint{of("b", 0), of("", 0)}, n, ask); time.Since(began) > 0 || len(others) != n {
					t.Errorf("others: %d after %s", len(others), time.Since(began))
				}
				sending.Wait()
				for i := range sent {
					if i >= burst && sent[i].Sub(sent[i-burst]) < time.Second/rate-time.Millisecond {
						t.Fatalf("%d calls within %s", burst+1, sent[i].Sub(sent[i-burst]))
					}
				}
				least := time.Duration(n-burst) * time.Second / rate
				if took := time.Since(began); len(sent) != n || took < least-time.Second || took > least*11/10 {
					t.Errorf("%d sent within %s, want %d within %s", len(sent), took, n, least)
				}
			})
		})
	}
}

// A new endpoint of a tenant is refused before any work is done for it, and a
// rate that is set later holds from the next call on.
func TestRefusesKnowsTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(policy.Options{})
		requireSame(t, s, of("a", 0), "")
		s.Replace(policy.Options{Tenant: policy.TenantOptions{Rate: 1}})
		requireSame(t, s, of("a", 0), "")
		for _, ep := range []relay.Endpoint{of("a", 0), of("a", 1)} {
			v := requireSame(t, s, ep, policy.RateLimited+": its tenant's rate is used up")
			if v.Place != relay.Asleep || v.After <= 0 || v.After > 10*time.Second {
				t.Errorf("%+v", v)
			}
		}
		requireSame(t, s, of("b", 0), "")
		s.Replace(policy.Options{})
		requireSame(t, s, of("a", 1), "")
	})
}

// What is forgotten of a tenant's endpoints gives it no new burst.
func TestATenantIsRememberedWhileItsRateIsUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(policy.Options{Idle: time.Second, Tenant: policy.TenantOptions{Rate: 0.1, Burst: 5}})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = s.Run(ctx) }()
		for range 5 {
			requireDo(t, s, of("a", 0), relay.Delivered)
		}
		time.Sleep(15 * time.Second)
		requireDo(t, s, of("a", 1), relay.Delivered)
		requireDo(t, s, of("a", 2), relay.Defer)
		time.Sleep(time.Minute)
		for i := range 5 {
			requireDo(t, s, of("a", i), relay.Delivered)
		}
		requireDo(t, s, of("a", 5), relay.Defer)
		cancel()
		synctest.Wait()
	})
}

func requireDo(t *testing.T, s *policy.Set, ep relay.Endpoint, want relay.Action) {
	t.Helper()
	if _, v := s.Do(t.Context(), ep, relay.Webhook{}, relay.Claim{}, answer(200)); v.Action != want {
		t.Fatalf("%s: %+v, want %s", ep.Key, v, want)
	}
}
