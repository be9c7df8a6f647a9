package policy_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

// patient has a circuit that gets not in the way.
var patient = policy.Options{Jitter: -1, Circuit: policy.CircuitOptions{Failures: 100, Executions: 100}}

func requireRest(t *testing.T, s *policy.Set, want time.Duration) {
	t.Helper()
	if got := s.Rest("orders"); got != want {
		t.Fatalf("it rests for %v, want %v", got, want)
	}
}

func TestThrottleForAsLongAsAsked(t *testing.T) {
	for asked, want := range map[string]time.Duration{"30": 30 * time.Second, "3600": 5 * time.Minute, "-1": time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := policy.New(patient)
			do(t, s, answer(429, asked))
			requireRest(t, s, want)
			if v := requireRefused(t, s, policy.Throttled); v.After < want {
				t.Errorf("the next call is deferred for %v, want at least %v", v.After, want)
			}
			time.Sleep(want)
			requireDelivered(t, s)
		})
	}
}

func TestThrottleDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(patient)
		for range 2 {
			for _, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
				rest := time.Duration(seconds) * time.Second
				do(t, s, answer(429))
				requireRest(t, s, rest)
				time.Sleep(rest)
			}
			requireDelivered(t, s) // the row ends
		}
	})
}

// One lost request behind a gateway is no reason to stop all others.
func TestALoneGatewayErrorDoesNotThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(patient)
		for _, status := range []int{502, 503, 504} {
			do(t, s, answer(status))
			requireRest(t, s, 0)
			requireDelivered(t, s)
		}
		do(t, s, answer(503))
		do(t, s, answer(502))
		requireRest(t, s, time.Second)
		time.Sleep(time.Second)
		do(t, s, answer(504))
		requireRest(t, s, 2*time.Second)
		time.Sleep(2 * time.Second)
		requireDelivered(t, s)
		do(t, s, answer(503, "7"))
		requireRest(t, s, 7*time.Second)
	})
}

// The answers to calls that were in flight together are one piece of news.
func TestAVolleyOf429IsOneRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(patient)
		answers := make(chan send)
		for range 12 {
			go do(t, s, until(answers))
		}
		synctest.Wait()
		for range 8 {
			answers <- answer(429)
		}
		synctest.Wait()
		requireRest(t, s, time.Second)
		answers <- answer(200) // sent before it was asked to stop
		synctest.Wait()
		requireRest(t, s, time.Second)
		answers <- answer(429, "20") // says more than the first
		synctest.Wait()
		answers <- answer(429, "10") // says less
		synctest.Wait()
		requireRest(t, s, 20*time.Second)
		answers <- answer(500)
		time.Sleep(20 * time.Second)
		do(t, s, answer(429))
		requireRest(t, s, 2*time.Second) // the second in a row
	})
}

func TestAnOpenCircuitIsTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := policy.New(exact)
		fail(t, s, 4)
		do(t, s, answer(503, "120"))
		requireRest(t, s, 2*time.Minute) // the longer of the two
		v := requireRefused(t, s, policy.CircuitOpen)
		if v.After != 2*time.Minute {
			t.Errorf("%+v", v)
		}
		time.Sleep(time.Minute)
		requireRefused(t, s, policy.CircuitOpen)
		time.Sleep(time.Minute)
		requireDelivered(t, s)
	})
}

func TestRestOfNobody(t *testing.T) {
	s := policy.New(policy.Options{})
	if rest := s.Rest("never heard of"); rest != 0 {
		t.Errorf("it rests for %v", rest)
	}
	if _, v := s.Do(t.Context(), relay.Endpoint{}, relay.Webhook{}, relay.Claim{}, answer(200)); v.Action != relay.Delivered {
		t.Errorf("an endpoint without a key: %+v", v)
	}
}
