package policy_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

func ExampleSet_Do() {
	set := policy.New(policy.Options{Jitter: -1})
	shop := relay.Endpoint{Key: "shop", URL: "https://shop.example/hooks"}
	order := relay.Webhook{ID: "order-17", ExpiresAt: time.Now().Add(72 * time.Hour)}

	// An endpoint that is down: each webhook is tried once and then waits.
	down := func(context.Context) relay.Attempt {
		return relay.Attempt{Kind: relay.Response, Status: 500}
	}
	for range 6 {
		attempts, verdict := set.Do(context.Background(), shop, order, relay.Claim{}, down)
		why, _, _ := strings.Cut(verdict.Reason, ":")
		fmt.Printf("%d %s: %s\n", len(attempts), verdict.Action, why)
	}
	// The circuit is open: the sixth was not tried, and used up no attempt.

	// Output:
	// 1 retry: attempt 1 of 5
	// 1 retry: attempt 1 of 5
	// 1 retry: attempt 1 of 5
	// 1 retry: attempt 1 of 5
	// 1 retry: attempt 1 of 5
	// 0 defer: circuit open
}
