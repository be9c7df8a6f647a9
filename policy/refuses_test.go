package policy_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

// requireSame holds Refuses against Do, which is asked after it.
func requireSame(t *testing.T, s *policy.Set, ep relay.Endpoint, reason string) relay.Verdict {
	t.Helper()
	v, refused := s.Refuses(ep)
	send := answer(200)
	if reason != "" {
		send = never(t)
	}
	_, did := s.Do(t.Context(), ep, relay.Webhook{}, relay.Claim{}, send)
	if reason == "" {
		if refused || did.Action != relay.Delivered {
			t.Fatalf("Refuses: %t, %+v; Do: %+v; want a delivery", refused, v, did)
		}
		return did
	}
	if !refused || v.Action != relay.Defer || v.Place != did.Place || !strings.HasPrefix(v.Reason, reason) || v.Reason != did.Reason || v.After <= 0 {
		t.Fatalf("Refuses: %t, %+v; Do: %+v; want a deferral because %q", refused, v, did, reason)
	}
	return v
}

func TestRefusesWhatDoRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(exact)
		requireSame(t, s, orders, "")

		fail(t, s, 5)
		if v := requireSame(t, s, orders, policy.CircuitOpen); v.After != 30*time.Second || v.Place != relay.Parked {
			t.Errorf("%+v", v)
		}
		time.Sleep(30 * time.Second)
		if v, refused := s.Refuses(orders); refused {
			t.Errorf("a probe is due: %+v", v)
		}
		requireCircuits(t, s, 1, 0) // it took no probe
		answers := make(chan send)
		go do(t, s, until(answers))
		synctest.Wait()
		requireSame(t, s, orders, policy.CircuitOpen)
		answers <- answer(200)
		synctest.Wait()
		requireSame(t, s, orders, "")

		do(t, s, answer(429, "7"))
		requireSame(t, s, orders, policy.Throttled)
		time.Sleep(7 * time.Second)
		requireSame(t, s, orders, "")

		limited := orders
		limited.Key, limited.Rate, limited.Burst = "limited", 2, 1
		for range 10 {
			requireSame(t, s, limited, "") // asking took no token
			v := requireSame(t, s, limited, policy.RateLimited)
			if v.After < 500*time.Millisecond {
				t.Errorf("%+v", v)
			}
			time.Sleep(500 * time.Millisecond)
		}

		narrow := orders
		narrow.Key, narrow.Concurrency = "narrow", 2
		for range 2 {
			requireSame(t, s, narrow, "")
			go s.Do(t.Context(), narrow, relay.Webhook{}, relay.Claim{}, until(answers))
			synctest.Wait()
		}
		if v, refused := s.Refuses(narrow); refused {
			t.Errorf("a slot is about to come free: %+v", v)
		}
		time.Sleep(101 * time.Millisecond)
		requireSame(t, s, narrow, policy.Busy)
		answers <- answer(200)
		answers <- answer(200)
		synctest.Wait()
		requireSame(t, s, narrow, "")
	})
}

// However many were refused before they took anything, those that Do refuses
// come no later.
func TestRefusesPushesNoTurnAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(exact)
		limited := relay.Endpoint{Key: "limited", Rate: 2, Burst: 1}
		requireSame(t, s, limited, "")
		for i := range 100_000 {
			v, refused := s.Refuses(limited)
			turn := time.Duration(i+1) * 500 * time.Millisecond
			if !refused || i < 600 && v.After != turn || v.After > 6*time.Minute {
				t.Fatalf("the %dth: %t, %+v", i+1, refused, v)
			}
		}
		_, v := s.Do(t.Context(), limited, relay.Webhook{}, relay.Claim{}, never(t))
		if v.After != 500*time.Millisecond {
			t.Errorf("Do: %+v", v)
		}
	})
}

// Settings that changed are known by the next call only, so Refuses lets it
// come.
func TestRefusesLetsNewSettingsPass(t *testing.T) {
	s := policy.New(exact)
	never := relay.Endpoint{Key: "limited", Rate: 1e-9, Burst: 1}
	requireSame(t, s, never, "")
	requireSame(t, s, never, policy.RateLimited)
	fast := never
	fast.Rate = 1e9
	requireSame(t, s, fast, "")
	requireSame(t, s, fast, "")
	fail(t, s, 5)
	requireSame(t, s, orders, policy.CircuitOpen)
	s.Replace(policy.Options{Circuit: policy.CircuitOptions{Failures: 9}})
	requireSame(t, s, orders, "") // by a new circuit
}

func TestRefusesAllocatesNothing(t *testing.T) {
	s := policy.New(exact)
	limited := relay.Endpoint{Key: "limited", Rate: 1e9}
	for _, ep := range []relay.Endpoint{orders, limited, {Key: "unknown"}} {
		if ep.Key != "unknown" {
			requireSame(t, s, ep, "")
		}
		n := testing.AllocsPerRun(100, func() {
			if v, refused := s.Refuses(ep); refused {
				t.Errorf("%s: %+v", ep.Key, v)
			}
		})
		if n > 0 {
			t.Errorf("%s: %v allocations", ep.Key, n)
		}
	}
}

// Who knows that an endpoint is well need not wait for its circuit's delay, nor
// for the rest that it asked for. The next call is a probe all the same.
func TestWakeEndsARest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(exact)
		s.Wake(orders.Key) // which is not known
		fail(t, s, 5)
		requireSame(t, s, orders, policy.CircuitOpen)
		s.Wake(orders.Key)
		if rest := s.Rest(orders.Key); rest != 0 {
			t.Errorf("it rests for %v", rest)
		}
		requireCircuits(t, s, 0, 1)
		do(t, s, answer(500)) // the probe fails
		requireSame(t, s, orders, policy.CircuitOpen)
		s.Wake(orders.Key)
		requireSame(t, s, orders, "")
		requireCircuits(t, s, 0, 0)
		s.Wake(orders.Key) // well already
		requireCircuits(t, s, 0, 0)

		do(t, s, answer(429, "7"))
		requireSame(t, s, orders, policy.Throttled)
		s.Wake(orders.Key)
		requireSame(t, s, orders, "")
	})
}
