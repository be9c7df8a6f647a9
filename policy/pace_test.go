package policy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

// late is by how much a deferred webhook comes back late: as NakWithDelay was
// measured, most within 50 ms, one in fifty up to 200 ms.
func late(r *rand.Rand) time.Duration {
	longest := 50 * time.Millisecond
	if r.IntN(50) == 0 {
		longest = 200 * time.Millisecond
	}
	return time.Duration(r.Int64N(int64(longest)))
}

// crowd lets so many webhooks wait for one endpoint with a rate, for so long;
// for each that is delivered another one comes. It answers the moments of the
// requests.
func crowd(t *testing.T, ep relay.Endpoint, waiting int, lasts time.Duration, ask bool) []time.Time {
	t.Helper()
	s := policy.New(policy.Options{})
	end := time.Now().Add(lasts)
	var mu sync.Mutex
	var sent []time.Time
	note := func(context.Context) relay.Attempt {
		mu.Lock()
		sent = append(sent, time.Now())
		mu.Unlock()
		<-time.After(20 * time.Millisecond)
		return relay.Attempt{Kind: relay.Response, Status: 200, Took: 20 * time.Millisecond}
	}
	var all sync.WaitGroup
	for i := range waiting {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		all.Go(func() {
			for time.Now().Before(end) {
				v, refused := relay.Verdict{}, false
				if ask {
					v, refused = s.Refuses(ep)
				}
				if !refused {
					_, v = s.Do(t.Context(), ep, relay.Webhook{}, relay.Claim{}, note)
				}
				if v.Action != relay.Delivered {
					<-time.After(v.After + late(r))
				}
			}
		})
	}
	all.Wait()
	return sent
}

func TestARateIsUsedUpAndNeverExceeded(t *testing.T) {
	for _, rate := range []float64{2, 50} {
		for _, burst := range []int{1, 0} {
			for _, ask := range []bool{false, true} {
				name := fmt.Sprintf("%g a second, burst %d, asked before %t", rate, burst, ask)
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ep := relay.Endpoint{Key: "limited", Rate: rate, Burst: burst}
						lasts := time.Duration(max(60, 600/rate)) * time.Second
						requireRate(t, ep, crowd(t, ep, 200, lasts, ask))
					})
				})
			}
		}
	}
}

func requireRate(t *testing.T, ep relay.Endpoint, sent []time.Time) {
	t.Helper()
	slices.SortFunc(sent, time.Time.Compare)
	burst := float64(max(ep.Burst, 1))
	if ep.Burst == 0 {
		burst = ep.Rate
	}
	lasted := sent[len(sent)-1].Sub(sent[0]).Seconds()
	share := float64(len(sent)) / (ep.Rate * lasted)
	t.Logf("%d requests, %.1f %% of the rate", len(sent), 100*share)
	if share < 0.95 {
		t.Errorf("%d requests in %.0f s are %.1f %% of the rate", len(sent), lasted, 100*share)
	}
	for i, first := range sent {
		for j := i; j < min(len(sent), i+500); j++ {
			if most := ep.Rate*sent[j].Sub(first).Seconds() + burst; float64(j-i+1) > most+1e-3 {
				t.Fatalf("%d requests in %v, more than %.2f", j-i+1, sent[j].Sub(first), most)
			}
		}
	}
}
