package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/relaywebhooks/relay"
)

// failingSweeps is after how many sweeps endpoints are looked for that have failed
// for long.
const failingSweeps = 6

// disable disables an endpoint that wants no more, if the verdict says so, before
// that is recorded. A webhook that it refused is kept in its lane. Where the
// endpoint cannot be disabled the webhook is tried again, as after any failure.
func (c *Consumer) disable(ctx context.Context, ep relay.Endpoint, v relay.Verdict) relay.Verdict {
	if v.Disable == "" {
		return v
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := c.Endpoints.Disable(ctx, ep.Key, v.Disable); err != nil {
		c.log.Warn().Err(err).Str("endpoint", ep.Key).Str("endpoint_name", ep.Name).Str("reason", v.Disable).
			Msg("cannot disable an endpoint that wants no more webhooks")
		return v
	}
	if v.Action == relay.Retry {
		v.Place, v.After, v.Reason = relay.Parked, 0, "held: disabled: "+v.Disable
	}
	return v
}

// disableFailing disables endpoints that have failed for Options.DisableAfter,
// until ctx ends. All processes do it: the first one changes something.
func (c *Consumer) disableFailing(ctx context.Context) {
	tick := time.NewTicker(failingSweeps * c.Sweep)
	defer tick.Stop()
	for {
		if err := c.disableFailed(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn().Err(err).Msg("endpoints that fail are not disabled")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// disableFailed looks once. For an endpoint that was held meanwhile the time
// begins when it was released.
func (c *Consumer) disableFailed(ctx context.Context) error {
	most := c.DisableAfter()
	if most <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	failing, err := c.Calendar.Failing(ctx, most)
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	for _, f := range failing {
		ep, known := c.Endpoints.ByKey(f.EndpointKey)
		since := later(f.Since, ep.Released)
		if !known || ep.Name == "" || ep.Held != "" || f.Last.Sub(since) < most {
			continue
		}
		reason := "failing since " + since.UTC().Format(time.RFC3339)
		if err := c.Endpoints.Disable(ctx, f.EndpointKey, reason); err != nil {
			return fmt.Errorf("consumer: disable %s, %s: %w", f.EndpointKey, reason, err)
		}
	}
	return nil
}
