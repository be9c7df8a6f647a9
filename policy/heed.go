package policy

import (
	"net/http"
	"strings"

	"github.com/relaywebhooks/relay"
)

// headerDelivery is a response header by which a receiver may say what is to
// become of its webhooks. It is heeded where [relay.Endpoint].Heed is set.
const headerDelivery = "Webhook-Delivery"

// What a receiver may say in it, in any capitals. Everything else means nothing,
// and so do two of them: what stands in the way may join two headers into one
// list, by which their meaning must not change.
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
	switch said := heard(a.Header); {
	case says(said, sayDisable) && ep.Name != "":
		j.disable = describeStatus(a.Status) + " with webhook-delivery: " + sayDisable
	case says(said, sayAbort) && !j.success:
		j.retry, j.disable, j.why = false, "", "the endpoint does not want it (webhook-delivery: "+sayAbort+")"
	}
	return j
}

// heard is the one value of the header, "" if there is not just one.
func heard(h http.Header) string {
	values := h[headerDelivery]
	if len(values) != 1 {
		return ""
	}
	return strings.Trim(values[0], " \t")
}

// says reports whether a receiver says a word. Letters of other scripts, which
// [strings.EqualFold] takes for those of the word, have more bytes.
func says(said, word string) bool { return len(said) == len(word) && strings.EqualFold(said, word) }
