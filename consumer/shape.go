package consumer

import (
	"errors"
	"strings"
	"time"

	"github.com/relaywebhooks/relay"
)

// shape gives a webhook the form that its endpoint's template makes, for the
// request alone: what is recorded, and what lies among the dead letters, is the
// webhook as it was published, so that a replay shapes it again.
func shape(ep *relay.Endpoint, w *relay.Webhook) (*relay.Webhook, error) {
	if ep.Shape == nil {
		return w, nil
	}
	published := *w
	published.EndpointName = ep.Name // also where it was published by its URL
	shaped, err := ep.Shape.Shape(published)
	return &shaped, err
}

// notReady is how long a webhook waits whose template is not compiled yet.
const notReady = time.Second

// unshaped is the verdict on a webhook whose template fails: it would fail again,
// unless it is only not compiled yet.
func unshaped(err error) relay.Verdict {
	if errors.Is(err, relay.ErrNotReady) {
		return relay.Verdict{Action: relay.Defer, After: notReady, Reason: relay.ErrNotReady.Error()}
	}
	return relay.Verdict{Action: relay.Dead, Reason: "template: " + strings.TrimPrefix(err.Error(), "template: ")}
}
