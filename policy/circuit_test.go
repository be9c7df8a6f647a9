package policy_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

// states collects what OnCircuit is told.
type states struct {
	mu  sync.Mutex
	got []policy.Circuit
}

func (s *states) add(c policy.Circuit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, c)
}

func (s *states) require(t *testing.T, want ...policy.State) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []policy.State
	for _, c := range s.got {
		got = append(got, c.State)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("the circuit was reported %v, want %v", got, want)
	}
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen states
		o := exact
		o.OnCircuit = seen.add
		s := policy.New(o)
		fail(t, s, 4)
		requireCircuits(t, s, 0, 0)
		fail(t, s, 1)
		requireCircuits(t, s, 1, 0)
		seen.require(t, policy.Open)
		want := policy.Circuit{
			Key: "orders", Name: "orders", URL: "https://shop.example/orders",
			State: policy.Open, Until: time.Now().Add(30 * time.Second),
		}
		if seen.got[0] != want {
			t.Errorf("reported %+v, want %+v", seen.got[0], want)
		}

		time.Sleep(10 * time.Second)
		if v := requireRefused(t, s, policy.CircuitOpen); v.After != 20*time.Second || v.Reason != "circuit open: next probe in 20s" {
			t.Errorf("%+v", v)
		}
		if rest := s.Rest("orders"); rest != 20*time.Second {
			t.Errorf("it rests for %v", rest)
		}

		// One probe at a time; it fails, and the circuit opens again.
		time.Sleep(20 * time.Second)
		if rest := s.Rest("orders"); rest != 0 {
			t.Errorf("a probe is due, yet it rests for %v", rest)
		}
		answers := make(chan send)
		go do(t, s, until(answers))
		synctest.Wait()
		requireCircuits(t, s, 0, 1)
		requireRefused(t, s, policy.CircuitOpen)
		if s.Rest("orders") <= 0 {
			t.Error("the only probe is out, yet it does not rest")
		}
		answers <- answer(500)
		synctest.Wait()
		requireCircuits(t, s, 1, 0)

		// The next probe succeeds, and the circuit closes.
		time.Sleep(30 * time.Second)
		requireDelivered(t, s)
		requireDelivered(t, s)
		requireCircuits(t, s, 0, 0)
		seen.require(t, policy.Open, policy.HalfOpen, policy.Open, policy.HalfOpen, policy.Closed)
		fail(t, s, 4) // the window is new
		requireCircuits(t, s, 0, 0)
	})
}

// tryAgain makes an attempt at a webhook that has failed before.
func tryAgain(t *testing.T, s *policy.Set, f send) ([]relay.Attempt, relay.Verdict) {
	t.Helper()
	return s.Do(t.Context(), orders, relay.Webhook{}, relay.Claim{Made: 1}, f)
}

// A webhook that has failed before is the probe only where no other comes: it may fail
// whatever the endpoint does.
func TestWhatHasFailedLeavesTheProbeToOthers(t *testing.T) {
	for name, rests := range map[string]func(*testing.T, *policy.Set) time.Duration{
		"after the circuit's own rest": func(t *testing.T, s *policy.Set) time.Duration {
			t.Helper()
			fail(t, s, 5)
			return 30 * time.Second
		},
		"after another process's pause": func(_ *testing.T, s *policy.Set) time.Duration {
			s.Pause(relay.Pause{Key: "orders", Kind: relay.PauseCircuit, Until: time.Now().Add(10 * time.Second)})
			return 10 * time.Second
		},
		"after somebody ended the rest": func(t *testing.T, s *policy.Set) time.Duration {
			t.Helper()
			fail(t, s, 5)
			s.Wake("orders")
			return 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := policy.New(exact)
				s.Share(&told{})
				tryAgain(t, s, answer(200)) // while it is closed nobody waits
				time.Sleep(rests(t, s) + 100*time.Millisecond)
				as, v := tryAgain(t, s, never(t))
				if len(as) != 0 || v.Action != relay.Defer || v.Place != relay.Parked || v.After != 900*time.Millisecond {
					t.Errorf("%d attempts, %+v; want it to leave the probe to others for the rest of a second", len(as), v)
				}
				requireDelivered(t, s)
				if as, v := tryAgain(t, s, answer(200)); len(as) != 1 || v.Action != relay.Delivered {
					t.Errorf("when it is closed again: %d attempts, %+v", len(as), v)
				}
				time.Sleep(rests(t, s) + time.Second)
				if as, v := tryAgain(t, s, answer(200)); len(as) != 1 || v.Action != relay.Delivered {
					t.Errorf("where no other comes: %d attempts, %+v", len(as), v)
				}
				requireCircuits(t, s, 0, 0)
			})
		})
	}
}

// A 404 proves that the endpoint lives.
func TestPermanentFailuresCloseTheCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(exact)
		for range 20 {
			do(t, s, answer(404))
			do(t, s, failure("request"))
		}
		fail(t, s, 5)
		time.Sleep(30 * time.Second)
		do(t, s, answer(404))
		requireCircuits(t, s, 0, 0)
	})
}

// No answer, whenever and however it comes, may keep the permit of a probe.
func TestProbesNeverLeak(t *testing.T) {
	outcomes := map[string]send{
		"failure":     answer(500),
		"panic":       panics,
		"stale":       inTurn(stale, stale),
		"blocked":     func(context.Context) relay.Attempt { return relay.Attempt{Kind: relay.Blocked, Class: "blocked"} },
		"not sent":    func(context.Context) relay.Attempt { return relay.Attempt{} },
		"hung":        func(ctx context.Context) relay.Attempt { <-ctx.Done(); return failure("timeout")(ctx) },
		"hung, a 200": func(ctx context.Context) relay.Attempt { <-ctx.Done(); return answer(200)(ctx) },
	}
	for name, outcome := range outcomes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := policy.New(exact)
				fail(t, s, 5)
				time.Sleep(30 * time.Second)
				do(t, s, outcome)
				requireCircuits(t, s, 1, 0) // it proved nothing
				time.Sleep(30 * time.Second)
				requireDelivered(t, s)
				requireCircuits(t, s, 0, 0)
			})
		})
	}
	t.Run("canceled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := policy.New(exact)
			fail(t, s, 5)
			time.Sleep(30 * time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			s.Do(ctx, orders, relay.Webhook{}, relay.Claim{}, func(ctx context.Context) relay.Attempt {
				cancel()
				return stale(ctx)
			})
			time.Sleep(30 * time.Second)
			requireDelivered(t, s)
			requireCircuits(t, s, 0, 0)
		})
	})
}

// What was sent before the circuit opened says nothing about the endpoint now.
func TestLateAnswers(t *testing.T) {
	for name, late := range map[string]send{"success": answer(200), "failure": answer(500)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := policy.New(exact)
				// So slow that the belt would cut them off, had the endpoint not a long timeout.
				slow := orders
				slow.Timeout = 10 * time.Minute
				old := make(chan send)
				for range 3 {
					go s.Do(t.Context(), slow, relay.Webhook{}, relay.Claim{}, until(old))
				}
				synctest.Wait()
				fail(t, s, 5)
				old <- late
				synctest.Wait()
				requireCircuits(t, s, 1, 0)

				time.Sleep(30 * time.Second)
				probe := make(chan send)
				go do(t, s, until(probe))
				synctest.Wait()
				requireCircuits(t, s, 0, 1)
				old <- late
				synctest.Wait()
				requireCircuits(t, s, 0, 1)              // the probe decides
				requireRefused(t, s, policy.CircuitOpen) // and no second one was let in
				probe <- answer(200)
				synctest.Wait()
				requireCircuits(t, s, 0, 0)
				old <- late
				synctest.Wait()
				fail(t, s, 4) // the late failure is not one of five
				requireCircuits(t, s, 0, 0)
			})
		})
	}
}

func TestManyProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := exact
		o.Circuit.Probes = 3
		s := policy.New(o)
		fail(t, s, 5)
		time.Sleep(30 * time.Second)
		answers := make(chan send)
		for range 3 {
			go do(t, s, until(answers))
		}
		synctest.Wait()
		requireRefused(t, s, policy.CircuitOpen)
		answers <- answer(200)
		answers <- answer(200)
		synctest.Wait()
		requireCircuits(t, s, 0, 1)
		if rest := s.Rest("orders"); rest != 0 {
			t.Errorf("two probes may be let in, yet it rests for %v", rest)
		}
		answers <- answer(200)
		synctest.Wait()
		requireCircuits(t, s, 0, 0)
	})
}

func TestEscalatingDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := exact
		o.Circuit.MaxDelay = 3 * time.Minute
		s := policy.New(o)
		for range 2 {
			fail(t, s, 5)
			for _, seconds := range []int{30, 60, 120, 180, 180} {
				want := time.Duration(seconds) * time.Second
				requireRest(t, s, want)
				time.Sleep(want)
				fail(t, s, 1)
			}
			time.Sleep(s.Rest("orders"))
			requireDelivered(t, s) // and starts anew
		}
	})
}

// OnCircuit may call the set.
func TestOnCircuitHoldsNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *policy.Set
		var seen states
		o := exact
		o.OnCircuit = func(c policy.Circuit) {
			s.Rest(c.Key)
			s.Circuits()
			if c.State == policy.Open {
				do(t, s, never(t))
			}
			seen.add(c)
		}
		s = policy.New(o)
		fail(t, s, 5)
		time.Sleep(30 * time.Second)
		requireDelivered(t, s)
		seen.require(t, policy.Open, policy.HalfOpen, policy.Closed)
	})
}

func TestOnCircuitHearsOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen states
		o := exact
		o.OnCircuit = func(c policy.Circuit) {
			if c.State == policy.Open {
				time.Sleep(time.Minute) // slow, and slower than the circuit
			}
			seen.add(c)
		}
		s := policy.New(o)
		fail(t, s, 4)
		go do(t, s, answer(500))
		time.Sleep(30 * time.Second)
		requireDelivered(t, s)
		requireCircuits(t, s, 0, 0)
		seen.require(t)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		seen.require(t, policy.Open, policy.HalfOpen, policy.Closed)
	})
}

// TestCircuitAgainstAModel drives one endpoint with any outcomes at any time and
// compares with the rules said plainly: 5 failures of the last 10 open it, after
// 30 s one probe decides, and what proves nothing counts only as a probe.
func TestCircuitAgainstAModel(t *testing.T) {
	lessons := map[string]struct {
		send
		success, failure bool
	}{
		"200":   {answer(200), true, false},
		"404":   {answer(404), true, false},
		"500":   {answer(500), false, true},
		"reset": {failure("reset"), false, true},
		"panic": {panics, false, false},
		"none":  {func(context.Context) relay.Attempt { return relay.Attempt{} }, false, false},
	}
	synctest.Test(t, func(t *testing.T) {
		// Without the real t, whose Deadline is of another clock.
		rapid.Check(struct{ rapid.TB }{t}, func(r *rapid.T) {
			s := policy.New(exact)
			state, window, until := policy.Closed, []bool(nil), time.Time{}
			open := func() { state, until = policy.Open, time.Now().Add(30*time.Second) }
			for range rapid.IntRange(1, 80).Draw(r, "calls") {
				time.Sleep(time.Duration(rapid.IntRange(0, 20).Draw(r, "seconds")) * time.Second)
				lesson := lessons[rapid.SampledFrom([]string{"200", "404", "500", "500", "reset", "panic", "none"}).Draw(r, "outcome")]
				_, v := do(t, s, lesson.send)
				if state == policy.Open && time.Now().Before(until) {
					if v.Place != relay.Parked {
						r.Fatalf("open until %v, yet %+v", until, v)
					}
					continue
				}
				switch {
				case v.Place == relay.Parked:
					r.Fatalf("a call was due, yet %+v", v)
				case state == policy.Open && lesson.success:
					state, window = policy.Closed, nil
				case state == policy.Open:
					open()
				case lesson.success || lesson.failure:
					window = append(window, lesson.failure)
					window = window[max(0, len(window)-10):]
					if failures := len(window) - len(slices.DeleteFunc(slices.Clone(window), func(f bool) bool { return f })); failures >= 5 {
						open()
					}
				}
				isOpen, half := s.Circuits()
				if half != 0 || (isOpen == 1) != (state == policy.Open) {
					r.Fatalf("%d open and %d half-open, want %s", isOpen, half, state)
				}
			}
		})
	})
}

// Many calls at once, of every kind: slots and probes all come back.
func TestNothingLeaksUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := exact
		o.Concurrency = 4
		o.Circuit.Delay = time.Second
		s := policy.New(o)
		sends := []send{
			answer(200), answer(500), answer(404), panics, failure("reset"), stale,
			func(ctx context.Context) relay.Attempt { time.Sleep(300 * time.Millisecond); return answer(200)(ctx) },
			func(ctx context.Context) relay.Attempt { time.Sleep(1500 * time.Millisecond); return answer(500)(ctx) },
			func(context.Context) relay.Attempt { time.Sleep(2500 * time.Millisecond); panic("late") },
		}
		var wg sync.WaitGroup
		for worker := range 16 {
			wg.Go(func() {
				for i := range 300 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7+1)*200*time.Millisecond)
					s.Do(ctx, orders, relay.Webhook{}, relay.Claim{}, sends[(worker*7+i)%len(sends)])
					cancel()
					time.Sleep(time.Duration((worker+i)%5) * 100 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		time.Sleep(5 * time.Second)
		requireDelivered(t, s)
		requireCircuits(t, s, 0, 0)
		answers := make(chan send)
		for range 4 {
			go do(t, s, until(answers))
		}
		synctest.Wait()
		requireRefused(t, s, policy.Busy)
		for range 4 {
			answers <- answer(200)
		}
	})
}
