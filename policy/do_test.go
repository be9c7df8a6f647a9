package policy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

// exact are options whose waits are exact.
var exact = policy.Options{Jitter: -1, Circuit: policy.CircuitOptions{DelayJitter: -1}}

var orders = relay.Endpoint{Key: "orders", Name: "orders", URL: "https://shop.example/orders?token=secret"}

type send = func(context.Context) relay.Attempt

// answer sends nothing and gets a status.
func answer(status int, retryAfter ...string) send {
	return func(context.Context) relay.Attempt {
		return relay.Attempt{
			Kind: relay.Response, Status: status, Took: 20 * time.Millisecond,
			Header: http.Header{"Retry-After": retryAfter},
		}
	}
}

func failure(class string) send {
	return func(context.Context) relay.Attempt {
		return relay.Attempt{Kind: relay.Error, Class: class, Err: "it broke"}
	}
}

// stale is what a broken reused connection gives.
func stale(context.Context) relay.Attempt {
	return relay.Attempt{Kind: relay.Error, Class: "reset", Err: "connection reset", Unanswered: true}
}

func panics(context.Context) relay.Attempt { panic("nil map") }

// inTurn sends by one function after the other.
func inTurn(sends ...send) send {
	return func(ctx context.Context) relay.Attempt {
		s := sends[0]
		sends = sends[1:]
		return s(ctx)
	}
}

// never fails the test when it is called.
func never(t *testing.T) send {
	t.Helper()
	return func(context.Context) relay.Attempt {
		t.Error("a request was made")
		return relay.Attempt{}
	}
}

// until is a send that waits for its answer until a value comes.
func until(answers <-chan send) send {
	return func(ctx context.Context) relay.Attempt { return (<-answers)(ctx) }
}

// do makes a first attempt at a webhook for orders.
func do(t *testing.T, s *policy.Set, f send) ([]relay.Attempt, relay.Verdict) {
	t.Helper()
	return s.Do(t.Context(), orders, relay.Webhook{}, relay.Claim{}, f)
}

// fail makes n attempts that are answered 500.
func fail(t *testing.T, s *policy.Set, n int) {
	t.Helper()
	for range n {
		if as, v := do(t, s, answer(500)); len(as) != 1 || v.Action != relay.Retry {
			t.Fatalf("a failing attempt: %d attempts, %+v", len(as), v)
		}
	}
}

func requireRefused(t *testing.T, s *policy.Set, reason string) relay.Verdict {
	t.Helper()
	as, v := do(t, s, never(t))
	place := relay.Asleep
	if reason == policy.CircuitOpen {
		place = relay.Parked
	}
	if len(as) != 0 || v.Action != relay.Defer || v.Place != place || v.After <= 0 || !strings.HasPrefix(v.Reason, reason) {
		t.Fatalf("%d attempts, %+v; want a deferral because %q", len(as), v, reason)
	}
	return v
}

func requireDelivered(t *testing.T, s *policy.Set) {
	t.Helper()
	as, v := do(t, s, answer(200))
	if len(as) != 1 || !as[0].Success || v != (relay.Verdict{Action: relay.Delivered}) {
		t.Fatalf("%d attempts, %+v; want a delivery", len(as), v)
	}
}

func requireCircuits(t *testing.T, s *policy.Set, open, halfOpen int) {
	t.Helper()
	if o, h := s.Circuits(); o != open || h != halfOpen {
		t.Fatalf("%d circuits open and %d half-open, want %d and %d", o, h, open, halfOpen)
	}
}

// TestTheDefaultSchedule is the promise in MISSION row 8: at once, then after
// 1, 2, 4 and 8 minutes.
func TestTheDefaultSchedule(t *testing.T) {
	for _, o := range []policy.Options{exact, {}} {
		synctest.Test(t, func(t *testing.T) {
			s := policy.New(o)
			waits := []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute}
			for i := range 5 {
				as, v := s.Do(t.Context(), orders, relay.Webhook{}, relay.Claim{Made: i}, answer(500))
				if len(as) != 1 || as[0].Success || as[0].Number != i+1 {
					t.Fatalf("attempt %d: %+v", i+1, as)
				}
				if i == 4 {
					want := relay.Verdict{Action: relay.Failed, Reason: "all 5 attempts failed; the last: 500 Internal Server Error"}
					if v != want {
						t.Fatalf("the end: %+v, want %+v", v, want)
					}
					return
				}
				jitter := time.Duration(0)
				if o.Jitter == 0 {
					jitter = waits[i] / 10
				}
				if v.Action != relay.Retry || (v.After-waits[i]).Abs() > jitter {
					t.Fatalf("after attempt %d: %+v, want another after %v", i+1, v, waits[i])
				}
				if want := fmt.Sprintf("attempt %d of 5: 500 Internal Server Error", i+1); v.Reason != want {
					t.Errorf("reason %q, want %q", v.Reason, want)
				}
				time.Sleep(v.After)
			}
		})
	}
}

func TestHowManyAttempts(t *testing.T) {
	schedule := []time.Duration{time.Second, time.Second}
	tests := []struct {
		options  policy.Options
		endpoint relay.Endpoint
		webhook  relay.Webhook
		want     int
	}{
		{policy.Options{}, relay.Endpoint{}, relay.Webhook{}, 5},
		{policy.Options{MaxAttempts: 7}, relay.Endpoint{}, relay.Webhook{}, 7},
		{policy.Options{Schedule: schedule}, relay.Endpoint{}, relay.Webhook{}, 3},
		{policy.Options{}, relay.Endpoint{Schedule: schedule}, relay.Webhook{}, 3},
		{policy.Options{}, relay.Endpoint{Schedule: schedule, MaxAttempts: 6}, relay.Webhook{}, 6},
		{policy.Options{}, relay.Endpoint{MaxAttempts: 6}, relay.Webhook{MaxAttempts: 1}, 1},
	}
	for i, test := range tests {
		s := policy.New(test.options)
		for made := range test.want {
			_, v := s.Do(t.Context(), test.endpoint, test.webhook, relay.Claim{Made: made}, failure("request2"))
			if over := v.Action == relay.Failed; over != (made == test.want-1) {
				t.Errorf("%d: after %d attempts of %d: %+v", i, made+1, test.want, v)
			}
			s = policy.New(test.options) // with a closed circuit
		}
	}
}

// A claim may come with more attempts than there now are.
func TestNoAttemptBeyondTheLast(t *testing.T) {
	as, v := policy.New(policy.Options{}).Do(t.Context(), orders, relay.Webhook{MaxAttempts: 2},
		relay.Claim{Made: 2, Last: 503}, never(t))
	want := relay.Verdict{Action: relay.Failed, Reason: "all 2 attempts failed; the last: 503 Service Unavailable"}
	if len(as) != 0 || v != want {
		t.Errorf("%d attempts, %+v; want %+v", len(as), v, want)
	}
}

func TestPermanentFailures(t *testing.T) {
	tests := []struct {
		send   send
		reason string
	}{
		{answer(404), "404 Not Found: trying again would not help"},
		{failure("request"), "request: it broke: this request cannot be made"},
	}
	for _, test := range tests {
		as, v := do(t, policy.New(policy.Options{}), test.send)
		if len(as) != 1 || v != (relay.Verdict{Action: relay.Dead, Reason: test.reason}) {
			t.Errorf("%d attempts, %+v; want dead: %s", len(as), v, test.reason)
		}
	}
}

func TestRetryAfterIsALowerBound(t *testing.T) {
	for asked, want := range map[string]time.Duration{
		"1": time.Minute, "3600": time.Hour, "999999999": 24 * time.Hour, "-1": time.Minute,
	} {
		_, v := do(t, policy.New(exact), answer(500, asked))
		if v.Action != relay.Retry || v.After != want {
			t.Errorf("Retry-After %s: %+v, want another attempt after %v", asked, v, want)
		}
	}
}

func TestNoRetryPastTheExpiry(t *testing.T) {
	s := policy.New(exact)
	w := relay.Webhook{ExpiresAt: time.Now().Add(10 * time.Minute)}
	if _, v := s.Do(t.Context(), orders, w, relay.Claim{}, answer(500)); v.Action != relay.Retry {
		t.Errorf("%+v, want another attempt before the expiry", v)
	}
	_, v := s.Do(t.Context(), orders, w, relay.Claim{}, answer(503, "900"))
	want := "expired: the next attempt would come too late; attempt 1 of 5: 503 Service Unavailable"
	if v.Action != relay.Dead || v.Reason != want { // not failed: attempts are left
		t.Errorf("%+v, want dead: %s", v, want)
	}
}

func TestQuickRetry(t *testing.T) {
	t.Run("tries once more at once", func(t *testing.T) {
		as, v := do(t, policy.New(exact), inTurn(stale, answer(200)))
		if len(as) != 2 || as[0].Success || !as[1].Success || v.Action != relay.Delivered {
			t.Errorf("%+v, %+v", as, v)
		}
		if as[0].Number != 1 || as[1].Number != 2 {
			t.Errorf("numbers %d and %d", as[0].Number, as[1].Number)
		}
	})
	t.Run("counts both attempts", func(t *testing.T) {
		as, v := do(t, policy.New(exact), inTurn(stale, stale))
		if len(as) != 2 || v.Action != relay.Retry || v.After != 2*time.Minute {
			t.Errorf("%d attempts, %+v; want the wait after the second", len(as), v)
		}
	})
	t.Run("not without an attempt left", func(t *testing.T) {
		as, v := policy.New(exact).Do(t.Context(), orders, relay.Webhook{}, relay.Claim{Made: 4}, inTurn(stale))
		if len(as) != 1 || v.Action != relay.Failed {
			t.Errorf("%d attempts, %+v", len(as), v)
		}
	})
	t.Run("not when relay stops", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		as, v := policy.New(exact).Do(ctx, orders, relay.Webhook{}, relay.Claim{}, func(ctx context.Context) relay.Attempt {
			cancel()
			return stale(ctx)
		})
		if len(as) != 1 || v.Action != relay.Retry {
			t.Errorf("%d attempts, %+v", len(as), v)
		}
	})
	t.Run("its claim is refused", func(t *testing.T) {
		none := func(context.Context) relay.Attempt { return relay.Attempt{} }
		as, v := do(t, policy.New(exact), inTurn(stale, none))
		if len(as) != 1 || v.Action != relay.Retry || v.After != time.Minute {
			t.Errorf("%d attempts, %+v; want the verdict on the first", len(as), v)
		}
	})
	t.Run("stale connections do not open the circuit", func(t *testing.T) {
		s := policy.New(exact)
		for range 20 {
			do(t, s, inTurn(stale, answer(200)))
		}
		requireCircuits(t, s, 0, 0)
		for range 5 {
			do(t, s, inTurn(stale, answer(500)))
		}
		requireCircuits(t, s, 1, 0)
	})
}

func TestPanicsBecomeAttempts(t *testing.T) {
	s := policy.New(policy.Options{Concurrency: 2})
	id := relay.AttemptID{1}
	for range 20 { // more than there are slots
		as, v := s.Do(t.Context(), orders, relay.Webhook{Generation: 3}, relay.Claim{ID: id}, panics)
		if len(as) != 1 || v.Action != relay.Retry {
			t.Fatalf("%d attempts, %+v", len(as), v)
		}
		a := as[0]
		if a.Kind != relay.Error || a.Class != "panic" || a.Err != "nil map" || a.ID != id || a.Number != 1 || a.Generation != 3 {
			t.Fatalf("%+v", a)
		}
	}
	requireCircuits(t, s, 0, 0) // a fault of relay says nothing about the endpoint
	requireDelivered(t, s)
}

func TestStopping(t *testing.T) {
	s := policy.New(exact)
	stopWith := func(f send) ([]relay.Attempt, relay.Verdict) {
		ctx, cancel := context.WithCancel(t.Context())
		return s.Do(ctx, orders, relay.Webhook{}, relay.Claim{}, func(ctx context.Context) relay.Attempt {
			cancel()
			return f(ctx)
		})
	}
	// Once sent, it counts as an attempt, but not against the circuit.
	for range 10 {
		if as, v := stopWith(failure("timeout")); len(as) != 1 || v.Action != relay.Retry {
			t.Errorf("%d attempts, %+v", len(as), v)
		}
	}
	requireCircuits(t, s, 0, 0)
	// An answer that came in spite of it is not lost, and does count.
	if as, v := stopWith(answer(200)); len(as) != 1 || !as[0].Success || v.Action != relay.Delivered {
		t.Errorf("%+v, %+v", as, v)
	}
	for range 5 {
		stopWith(answer(500))
	}
	requireCircuits(t, s, 1, 0)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	as, v := s.Do(ctx, orders, relay.Webhook{}, relay.Claim{}, never(t))
	if len(as) != 0 || v.Action != relay.Defer || v.Reason != policy.Stopping {
		t.Errorf("%d attempts, %+v", len(as), v)
	}
}

// Send bounds its own time; if it does not, its context ends.
func TestTimeoutIsABelt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(exact)
		start := time.Now()
		for range 5 {
			as, v := do(t, s, func(ctx context.Context) relay.Attempt {
				<-ctx.Done()
				return failure("timeout")(ctx)
			})
			if len(as) != 1 || v.Action != relay.Retry {
				t.Fatalf("%d attempts, %+v", len(as), v)
			}
		}
		if got := time.Since(start); got != 5*35*time.Second {
			t.Errorf("five timeouts took %v", got)
		}
		requireCircuits(t, s, 1, 0)
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(policy.Options{Concurrency: 3})
		answers := make(chan send)
		for range 3 {
			go do(t, s, until(answers))
		}
		synctest.Wait()
		var waits []time.Duration
		for range 50 {
			waits = append(waits, requireRefused(t, s, policy.Busy).After)
		}
		if waits[0] > time.Second || slices.Max(waits) < 20*waits[0]/2 {
			t.Errorf("the refused come back after %v", waits)
		}
		if _, v := s.Do(t.Context(), relay.Endpoint{Key: "other"}, relay.Webhook{}, relay.Claim{}, answer(200)); v.Action != relay.Delivered {
			t.Errorf("another endpoint: %+v", v)
		}
		for range 3 {
			answers <- answer(500)
		}
		synctest.Wait()
		requireDelivered(t, s)
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(exact)
		ep := relay.Endpoint{Key: "slow", Rate: 2, Burst: 3}
		call := func() relay.Verdict {
			_, v := s.Do(t.Context(), ep, relay.Webhook{}, relay.Claim{}, answer(200))
			return v
		}
		for range 3 {
			if v := call(); v.Action != relay.Delivered {
				t.Fatalf("within the burst: %+v", v)
			}
		}
		var before time.Duration
		for i := range 20 {
			v := call()
			if v.Action != relay.Defer || v.Reason != policy.RateLimited || v.Place != relay.Asleep {
				t.Fatalf("beyond the burst: %+v", v)
			}
			if earliest := time.Duration(i+1) * time.Second / 2; v.After < earliest || v.After > earliest+time.Second/2 || v.After < before {
				t.Fatalf("turn %d comes after %v, want about %v", i, v.After, earliest)
			}
			before = v.After
		}
		// Refusals took no tokens.
		time.Sleep(time.Second)
		for range 2 {
			if v := call(); v.Action != relay.Delivered {
				t.Fatalf("after a second: %+v", v)
			}
		}
		// A reload raises the rate without giving the burst again. The next
		// token is so near that the call waits for it.
		ep.Rate, ep.Burst = 1000, 3
		start := time.Now()
		if v := call(); v.Action != relay.Delivered || time.Since(start) == 0 || time.Since(start) > 3*time.Millisecond {
			t.Fatalf("at a higher rate: %+v after %v", v, time.Since(start))
		}
		ep.Rate = 0
		for range 100 {
			if v := call(); v.Action != relay.Delivered {
				t.Fatalf("without a limit: %+v", v)
			}
		}
	})
}

func TestRatesAtTheEdge(t *testing.T) {
	for _, rate := range []float64{1e-300, 1e-9, 1e300} {
		s := policy.New(policy.Options{})
		ep := relay.Endpoint{Key: "edge", Rate: rate}
		for i := range 3 {
			_, v := s.Do(t.Context(), ep, relay.Webhook{}, relay.Claim{}, answer(200))
			if i == 0 && v.Action != relay.Delivered || v.After < 0 || v.After > 25*time.Hour {
				t.Errorf("rate %g: call %d: %+v", rate, i+1, v)
			}
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	if err := (policy.Options{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	err := policy.Options{MaxAttempts: 101, Schedule: []time.Duration{-1}, Jitter: 1, Circuit: policy.CircuitOptions{Failures: 5, Executions: 4}}.Validate()
	if err == nil {
		t.Fatal("no fault was found")
	}
	joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err)
	if !ok || len(joined.Unwrap()) != 4 {
		t.Errorf("want four faults: %v", err)
	}
}
