package relaytest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/relaytest"
)

// This is what the test of an application looks like that publishes webhooks
// with relay.
func TestAnOrderIsAnnounced(t *testing.T) {
	r := relaytest.Start(t)
	r.Receiver.Answer(http.StatusServiceUnavailable) // once; then 200

	id := r.Publish(map[string]any{
		"url": r.Receiver.URL + "/orders", "event_type": "order.paid", "payload": map[string]any{"order": 17},
	})

	for range 2 { // the second is the retry
		req := r.Next()
		var body struct{ Order int }
		if err := json.Unmarshal(req.Body, &body); err != nil || body.Order != 17 || req.Path != "/orders" || req.ID() != id {
			t.Errorf("the receiver got %s %s of %s, %v", req.Path, req.Body, req.ID(), err)
		}
	}
	if w := r.RequireDelivered(id); w.Attempts != 2 {
		t.Errorf("delivered after %d attempts, want 2", w.Attempts)
	}
	if as := r.Attempts(id); len(as) != 2 || as[0].Status != http.StatusServiceUnavailable || !as[1].Success {
		t.Errorf("the audit rows are %+v", as)
	}
}

// A test may publish one envelope several times: each is a webhook of its own.
func TestAnEnvelopeIsNotChanged(t *testing.T) {
	r := relaytest.Start(t)
	envelope := map[string]any{"url": r.Receiver.URL, "payload": 1}
	if first, second := r.Publish(envelope), r.Publish(envelope); first == second || len(envelope) != 2 {
		t.Errorf("published as %s and %s: %v", first, second, envelope)
	}
}

func TestADeadLetterHasItsReason(t *testing.T) {
	r := relaytest.Start(t)
	r.Receiver.Always(relaytest.Status(http.StatusGone))
	w := r.RequireDead(r.Publish(map[string]any{"url": r.Receiver.URL}))
	if w.Status != "dead" || !strings.HasPrefix(w.Reason, "410 Gone") {
		t.Errorf("recorded %+v", w)
	}
	if letter := r.Letter(w); letter.Header.Get("Relay-Meta-Reason") != w.Reason {
		t.Errorf("the letter says %v", letter.Header)
	}
}

func TestAnEndpointByName(t *testing.T) {
	receiver := relaytest.NewReceiver(t)
	r := relaytest.Start(t, relaytest.Options{Endpoints: []relay.Endpoint{{
		Name: "shop", URL: receiver.URL + "/hook", Header: http.Header{"X-Api-Key": {"17"}}, MaxAttempts: 1,
	}}})
	id := r.Publish(map[string]any{"endpoint": "shop", "payload": nil})
	if req := receiver.Next(); req.Path != "/hook" || req.Header.Get("X-Api-Key") != "17" {
		t.Errorf("the receiver got %+v", req)
	}
	r.RequireDelivered(id)
	unknown := r.Publish(map[string]any{"endpoint": "shoe"})
	if w := r.RequireDead(unknown); !strings.Contains(w.Reason, "shoe") {
		t.Errorf("recorded %+v", w)
	}
}
