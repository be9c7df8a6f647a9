package main

import (
	"context"
	"fmt"
	"time"
)

// receiverFaults are outages of whole endpoints, F11: circuits open, lanes
// fill, and drain when the endpoint is well again.
func receiverFaults() []fault {
	hold := [2]time.Duration{1000 * ms, 3000 * ms}
	strike := func(with outage) injection {
		return func(_ context.Context, b *breaking) (func(context.Context) error, error) {
			path := fmt.Sprintf("/sick/%d", b.random.IntN(sickPaths))
			b.receiver.strike(path, with)
			return func(context.Context) error {
				b.receiver.strike(path, well)
				return nil
			}, nil
		}
	}
	return []fault{
		{"outage-refuses", hold, 0, strike(refuses)},
		{"outage-hangs", hold, 0, strike(hangs)},
		{"outage-limits", hold, 0, strike(limits)},
	}
}
