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

// lasting answers 200 after so long, or times out if that is longer than 30 s.
func lasting(d time.Duration) send {
	return func(context.Context) relay.Attempt {
		<-time.After(min(d, 30*time.Second))
		if d > 30*time.Second {
			return relay.Attempt{Kind: relay.Error, Class: "timeout", Took: 30 * time.Second}
		}
		return relay.Attempt{Kind: relay.Response, Status: 200, Took: d}
	}
}

// worker is a relay with 256 slots. A call gives its slot back when it has
// lasted for 250 ms.
type worker struct {
	*policy.Set
	slots chan bool
}

func (w *worker) do(ctx context.Context, ep relay.Endpoint, f send) relay.Verdict {
	if v, refused := w.Refuses(ep); refused {
		return v
	}
	w.slots <- true
	give := sync.OnceFunc(func() { <-w.slots })
	defer give()
	slow := time.AfterFunc(250*time.Millisecond, give)
	defer slow.Stop()
	_, v := w.Do(ctx, ep, relay.Webhook{}, relay.Claim{}, f)
	return v
}

// However many endpoints hang, the quick ones are called, and new ones too as
// soon as those that hang are known to.
func TestHangingEndpointsLeaveRoomForQuickOnes(t *testing.T) {
	for _, test := range []struct{ hanging, budget int }{{1000, 1024}, {300, 104}} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := patient // no circuit helps
				o.SlowCalls = test.budget
				w := &worker{policy.New(o), make(chan bool, min(256, test.budget/4))}
				w.hangAndBeQuick(t, test.hanging, test.budget)
			})
		})
	}
}

func (w *worker) hangAndBeQuick(t *testing.T, hanging, budget int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for i := range 3 * hanging {
		all.Go(func() { w.hang(ctx, relay.Endpoint{Key: fmt.Sprint("hanging", i%hanging)}) })
	}
	var delivered atomic.Int64
	for i := range 10 {
		ep := relay.Endpoint{Key: fmt.Sprint("quick", i)}
		all.Go(func() { delivered.Add(w.beQuick(ctx, t, ep)) })
	}
	most := 0
	for ctx.Err() == nil {
		_, calls := w.Slow()
		most = max(most, calls)
		<-time.After(100 * time.Millisecond)
	}
	if v := w.do(t.Context(), relay.Endpoint{Key: "new"}, lasting(20*time.Millisecond)); v.Action != relay.Delivered {
		t.Errorf("a new endpoint: %+v", v)
	}
	all.Wait()
	t.Logf("at most %d slow calls at a time, %d delivered", most, delivered.Load())
	// A quick one delivers up to 3,000, less what its first call waited for.
	if most > budget+cap(w.slots) || most < budget/2 || delivered.Load() < 10*1000 {
		t.Error("want at most the budget and the slots at a time, and work for all")
	}
	requireSlow(t, w.Set, 0, 0)
}

// hang is a webhook for an endpoint that hangs; the next one is there already.
func (w *worker) hang(ctx context.Context, ep relay.Endpoint) {
	for ctx.Err() == nil {
		if v := w.do(context.WithoutCancel(ctx), ep, lasting(time.Hour)); v.Action == relay.Defer {
			<-time.After(v.After)
		}
	}
}

// beQuick delivers webhooks to a quick endpoint, and counts them. Only the first
// may be refused.
func (w *worker) beQuick(ctx context.Context, t *testing.T, ep relay.Endpoint) (delivered int64) {
	t.Helper()
	for ctx.Err() == nil {
		switch v := w.do(context.WithoutCancel(ctx), ep, lasting(20*time.Millisecond)); {
		case v.Action == relay.Delivered:
			delivered++
			<-time.After(30 * time.Millisecond)
		case delivered > 0:
			t.Errorf("a quick endpoint: %+v", v)
			return delivered
		default:
			<-time.After(v.After)
		}
	}
	return delivered
}

// An endpoint that answered fast and now hangs is not proven quick any more.
func TestAnEndpointTurnsFromQuickToHanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := patient
		o.SlowCalls = 4
		s := policy.New(o)
		for range 100 {
			requireSame(t, s, orders, "")
		}
		for range 4 {
			go do(t, s, lasting(10*time.Second))
		}
		synctest.Wait()
		requireSame(t, s, orders, "")
		requireSlow(t, s, 0, 0)
		time.Sleep(251 * time.Millisecond)
		requireSlow(t, s, 1, 4)
		requireSame(t, s, orders, policy.Busy+": relay's slow calls are used up")
		requireSame(t, s, relay.Endpoint{Key: "new"}, policy.Busy+": relay's slow calls are used up")
		if v, refused := s.Refuses(relay.Endpoint{Key: "newer"}); !refused || !strings.HasSuffix(v.Reason, "used up") {
			t.Errorf("an endpoint that was never called: %+v", v)
		}
		time.Sleep(10 * time.Second)
		requireSlow(t, s, 0, 0)
		requireSame(t, s, relay.Endpoint{Key: "new"}, "")
	})
}

func TestAnEqualShareOfHalfTheSlowCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := patient
		o.SlowCalls = 8
		s := policy.New(o)
		other := relay.Endpoint{Key: "other"}
		for range 3 {
			go do(t, s, lasting(10*time.Second))
		}
		go s.Do(t.Context(), other, relay.Webhook{}, relay.Claim{}, lasting(10*time.Second))
		time.Sleep(time.Second)
		requireSlow(t, s, 2, 4)
		requireSame(t, s, orders, policy.Busy+": its share of relay's slow calls is used up") // 8/2/2
		if v, refused := s.Refuses(other); refused {
			t.Errorf("below its share: %+v", v)
		}
		time.Sleep(10 * time.Second)
	})
}

func requireSlow(t *testing.T, s *policy.Set, endpoints, calls int) {
	t.Helper()
	if e, c := s.Slow(); e != endpoints || c != calls {
		t.Fatalf("%d slow endpoints with %d calls, want %d with %d", e, c, endpoints, calls)
	}
}
