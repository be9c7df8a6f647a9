package policy_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

// told are the other processes: they note what they are told, and grant or deny
// every lease.
type told struct {
	mu      sync.Mutex
	denies  bool
	paused  []relay.Pause
	resumed []string
	leases  []relay.Pause
	ended   []string
}

func (o *told) Paused(p relay.Pause) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.paused = append(o.paused, p)
}

func (o *told) Resumed(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.resumed = append(o.resumed, key)
}

func (o *told) Ended(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = append(o.ended, key)
}

func (o *told) Lease(_ context.Context, p relay.Pause) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.leases = append(o.leases, p)
	return !o.denies
}

func (o *told) require(t *testing.T, paused, resumed, leases int) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.paused) != paused || len(o.resumed) != resumed || len(o.leases) != leases {
		t.Fatalf("%d pauses, %d resumptions, %d leases; want %d, %d, %d", len(o.paused), len(o.resumed), len(o.leases), paused, resumed, leases)
	}
}

// shared is a set beside other processes.
func shared(o policy.Options) (*policy.Set, *told) {
	s, others := policy.New(o), &told{}
	s.Share(others)
	return s, others
}

func pausedFor(d time.Duration, kind relay.PauseKind) relay.Pause {
	return relay.Pause{Key: orders.Key, Kind: kind, Until: time.Now().Add(d), Openings: 2}
}

// What this process finds out is told, once each, and a healthy endpoint costs no
// question.
func TestOthersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, others := shared(exact)
		requireDelivered(t, s)
		fail(t, s, 4)
		others.require(t, 0, 0, 0)
		fail(t, s, 1)
		others.require(t, 1, 0, 0)
		want := relay.Pause{Key: orders.Key, Kind: relay.PauseCircuit, Until: time.Now().Add(30 * time.Second), Openings: 1}
		if others.paused[0] != want {
			t.Errorf("told %+v, want %+v", others.paused[0], want)
		}
		requireRefused(t, s, policy.CircuitOpen)
		others.require(t, 1, 0, 0)
		time.Sleep(30 * time.Second)
		fail(t, s, 1)
		others.require(t, 2, 0, 1)
		if p := others.leases[0]; p.Kind != relay.PauseProbe || time.Until(p.Until) <= 30*time.Second || time.Until(p.Until) > time.Minute {
			t.Errorf("the lease is %+v, want a little longer than the timeout of 30 s", p)
		}
		time.Sleep(30 * time.Second)
		requireDelivered(t, s)
		others.require(t, 2, 1, 2)
		requireDelivered(t, s)
		others.require(t, 2, 1, 2)
	})
}

func TestOthersAreToldOfARest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, others := shared(exact)
		do(t, s, answer(429, "7"))
		others.require(t, 1, 0, 0)
		want := relay.Pause{Key: orders.Key, Kind: relay.PauseThrottle, Until: time.Now().Add(7 * time.Second)}
		if others.paused[0] != want {
			t.Errorf("told %+v, want %+v", others.paused[0], want)
		}
		time.Sleep(7 * time.Second)
		requireDelivered(t, s)
		others.require(t, 1, 0, 0)
	})
}

// What another process has paused is refused as if it had been found here,
// whether its endpoint was ever called or not.
func TestPausedElsewhere(t *testing.T) {
	for _, known := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s, others := shared(exact)
			if known {
				requireDelivered(t, s)
			}
			s.Pause(pausedFor(10*time.Second, relay.PauseCircuit))
			if rest := s.Rest(orders.Key); rest != 10*time.Second {
				t.Errorf("rests for %s", rest)
			}
			if v := requireSame(t, s, orders, policy.CircuitOpen); v.After != 10*time.Second || v.Place != relay.Parked {
				t.Errorf("%+v", v)
			}
			requireCircuits(t, s, 0, 0)
			time.Sleep(10 * time.Second)
			others.require(t, 0, 0, 0)
			requireDelivered(t, s) // a probe
			others.require(t, 0, 1, 1)
			requireDelivered(t, s)
			others.require(t, 0, 1, 1)
		})
	}
}

// A probe of an endpoint that another process paused is like one of this
// process's own: one at a time, and its failure opens the circuit, for longer
// than last time.
func TestProbingWhatAnotherPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := exact
		o.Circuit.MaxDelay = time.Hour
		s, others := shared(o)
		requireDelivered(t, s)
		s.Pause(pausedFor(time.Second, relay.PauseCircuit))
		time.Sleep(time.Second)
		answers := make(chan send)
		go do(t, s, until(answers))
		synctest.Wait()
		requireCircuits(t, s, 0, 1)
		requireRefused(t, s, policy.CircuitOpen)
		answers <- answer(500)
		synctest.Wait()
		requireCircuits(t, s, 1, 0)
		others.require(t, 1, 0, 1)
		if p := others.paused[0]; p.Openings != 3 || time.Until(p.Until) != 4*30*time.Second {
			t.Errorf("told %+v, want the third opening for two minutes", p)
		}
	})
}

// While another process has the lease, nobody calls, and nobody asks more often
// than once a second.
func TestAnotherProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, others := shared(exact)
		fail(t, s, 5)
		others.denies = true
		time.Sleep(30 * time.Second)
		for range 5 {
			if v := requireRefused(t, s, policy.CircuitOpen); v.After > time.Second {
				t.Errorf("comes back after %s, but the probe may end soon", v.After)
			}
		}
		others.require(t, 1, 0, 1)
		s.Pause(pausedFor(40*time.Second, relay.PauseProbe)) // now it is known
		if v := requireRefused(t, s, policy.CircuitOpen); v.After != time.Second {
			t.Errorf("%+v", v)
		}
		time.Sleep(39 * time.Second)
		requireRefused(t, s, policy.CircuitOpen)
		others.require(t, 1, 0, 1)
		others.denies = false
		time.Sleep(time.Second) // its holder died
		requireDelivered(t, s)
		others.require(t, 1, 1, 2)
	})
}

// When another process finds that the endpoint is well, this one's circuit
// closes, and that is no news to the others.
func TestAnotherFoundItWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var states []policy.State
		o := exact
		o.OnCircuit = func(c policy.Circuit) { states = append(states, c.State) }
		s, others := shared(o)
		fail(t, s, 5)
		s.Pause(pausedFor(time.Minute, relay.PauseProbe))
		s.Resume(orders.Key, false) // it only ran out
		requireCircuits(t, s, 1, 0)
		s.Resume(orders.Key, true)
		requireCircuits(t, s, 0, 0)
		requireDelivered(t, s)
		others.require(t, 1, 0, 0)
		if want := []policy.State{policy.Open, policy.Closed}; !slices.Equal(states, want) {
			t.Errorf("the circuit was reported as %v, want %v", states, want)
		}
	})
}

// An endpoint that is forgotten here may be on another process's mind.
func TestForgettingIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, others := shared(exact)
		fail(t, s, 5)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = s.Run(ctx) }()
		time.Sleep(3 * time.Hour)
		cancel()
		<-ended
		requireCircuits(t, s, 0, 0)
		others.require(t, 1, 0, 0)
	})
}

// Somebody who wakes an endpoint wakes it in every process, and the call that
// follows is a probe.
func TestWakingWhatAnotherPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, others := shared(exact)
		fail(t, s, 5)
		s.Pause(pausedFor(time.Hour, relay.PauseCircuit))
		s.Wake(orders.Key)
		if rest := s.Rest(orders.Key); rest != 0 || len(others.ended) != 1 {
			t.Errorf("rests for %s, and others were told %v", rest, others.ended)
		}
		requireDelivered(t, s)
		others.require(t, 1, 1, 1)

		fail(t, s, 5)
		s.Pause(relay.Pause{Key: orders.Key, Kind: relay.PauseOver, Until: time.Now()})
		if rest := s.Rest(orders.Key); rest != 0 || len(others.ended) != 1 {
			t.Errorf("rests for %s, and others were told %v", rest, others.ended)
		}
		requireDelivered(t, s)
		others.require(t, 2, 2, 2)
	})
}
