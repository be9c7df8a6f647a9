package audit

import (
	"context"
	"fmt"

	"github.com/relaywebhooks/relay"
)

// SetAside stores an event that is to wait without an attempt: what Claim and
// then Record with the verdict v would do, a [relay.Defer], in one step. The
// answer's verdict is v, or what a claim would have been refused with; there is
// nothing to record after it. It fails as Claim does.
func (l *Log) SetAside(ctx context.Context, w relay.Webhook, v relay.Verdict) (relay.Claim, error) {
	if v.Action != relay.Defer || v.Place == "" {
		return relay.Claim{}, fmt.Errorf("audit: set %s aside: %q in %q is no place to wait", w.Key, v.Action, v.Place)
	}
	c, err := l.asides.do(ctx, w.Key, weigh(w), claiming{webhook: w, id: newID(), aside: &v})
	if err != nil {
		return relay.Claim{}, fmt.Errorf("audit: set %s aside: %w", w.Key, err)
	}
	return c, nil
}
