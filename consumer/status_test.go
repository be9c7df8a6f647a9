package consumer_test

import (
	"net/http"
	"testing"

	"github.com/relaywebhooks/relay/relaytest"
)

// An empty message with a header Status looks to nats.go like an answer of the
// server. It is an event like any other, and so are its copies.
func TestAnEmptyMessageWithAStatusHeader(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	for _, status := range []string{"404", "408", "409", "100", "400", "503", "204", "paid"} {
		r.Receiver.Answer(http.StatusNotFound)
		id := "status_" + status
		m := raw(r.Receiver.URL, nil, "Relay-Id", id, "Status", status)
		if status == "204" {
			m.Header["Description"] = []string{"EOB"}
		}
		r.PublishMsg(m)
		r.RequireDead(id)
		replay(t, r, "all")
		r.RequireDelivered(id)
	}
	requireEmpty(t, r)
}
