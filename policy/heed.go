package policy

import (
	"strings"

	"github.com/relaywebhooks/relay"
)

// headerDelivery is a response header by which a receiver may say what is to
// become of its webhooks. It is heeded where [relay.Endpoint].Heed is set.
const headerDelivery = "Webhook-Delivery"

// What a receiver may say in it, in any capitals. Everything else means nothing.
const (
	sayDisable = "disable"       // send me no more
	sayAbort   = "abort-message" // do not try this one again
)

// heed is what the header changes about a judgement. Delivered stays delivered:
// there is nothing left to abort, and an endpoint may ask for no more with the
// last webhook that it takes.
//
//	                 success             failure
//	disable          and is disabled     kept, and the endpoint is disabled
//	abort-message    no change           dead
//
// What the status teaches the circuit, and whether it throttles, stays as it is.
func heed(j judgement, a relay.Attempt, ep *relay.Endpoint) judgement {
	switch said := strings.TrimSpace(a.Header.Get(headerDelivery)); {
	case strings.EqualFold(said, sayDisable) && ep.Name != "":
		j.disable = describeStatus(a.Status) + " with webhook-delivery: " + sayDisable
	case strings.EqualFold(said, sayAbort) && !j.success:
		j.retry, j.disable, j.why = false, "", "the endpoint does not want it (webhook-delivery: "+sayAbort+")"
	}
	return j
}
