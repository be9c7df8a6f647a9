package consumer_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/template"
)

// shaped is a shaper that can be exchanged, as a template is that somebody
// mends.
type shaped struct{ atomic.Pointer[relay.Shaper] }

func (s *shaped) Shape(w relay.Webhook) (relay.Webhook, error) { return (*s.Load()).Shape(w) }

func (s *shaped) use(t *testing.T, source template.Source) *shaped {
	t.Helper()
	shaper, err := template.Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	s.Store(&shaper)
	return s
}

// startShaped starts a relay with an endpoint, chat, that has a template.
func startShaped(t *testing.T, s relay.Shaper) (*relaytest.Relay, *relaytest.Receiver) {
	t.Helper()
	chat := relaytest.NewReceiver(t)
	return relaytest.Start(t, relaytest.Options{
		Endpoints: []relay.Endpoint{{Name: "chat", URL: chat.URL + "/hook?k=v", Shape: s}},
	}), chat
}

// The receiver checks every signature: it is that of the body that it gets.
func TestATemplateShapesEveryAttempt(t *testing.T) {
	t.Parallel()
	s := new(shaped).use(t, template.Source{
		Body:    `{"text": "Order " + string(payload.order) + " at " + string(accepted), "from": endpoint}`,
		Headers: map[string]string{"X-Order": `payload.order`},
		Query:   map[string]string{"event": `event_type`},
	})
	r, chat := startShaped(t, s)
	chat.Answer(500, 500)
	for _, to := range []map[string]any{
		{"endpoint": "chat"},
		{"url": chat.URL + "/hook?k=v"}, // a registered URL has the settings too
	} {
		to["event_type"], to["payload"] = "order.paid", map[string]any{"order": 17}
		id := r.Publish(to)
		w := r.RequireDelivered(id)
		var first []byte
		for range w.Attempts {
			req := chat.Next()
			if first == nil {
				first = req.Body
			}
			if !strings.HasPrefix(string(req.Body), `{"from":"chat","text":"Order 17 at 20`) || !bytes.Equal(req.Body, first) {
				t.Errorf("the body is %s, the first was %s", req.Body, first)
			}
			if req.Header.Get("Content-Type") != "application/json" || req.Header.Get("X-Order") != "17" || req.Path != "/hook?k=v&event=order.paid" {
				t.Errorf("%s %v", req.Path, req.Header)
			}
		}
		var body string
		if err := r.DB.QueryRow(t.Context(), "SELECT convert_from(body, 'UTF8') FROM relay.webhooks WHERE webhook_id = $1", id).Scan(&body); err != nil || body != `{"order":17}` {
			t.Errorf("recorded is %s, %v, not what was published", body, err)
		}
	}
	if n := len(chat.Requests()); n != 4 {
		t.Errorf("%d requests, want 3 and 1", n)
	}
	requireEmpty(t, r)
}

func TestAFailingTemplateIsOneDeadLetter(t *testing.T) {
	t.Parallel()
	s := new(shaped).use(t, template.Source{Body: `{"text": payload.customer.name}`})
	r, chat := startShaped(t, s)
	id := r.Publish(map[string]any{"endpoint": "chat", "payload": map[string]any{"password": "hunter2"}})
	w := r.RequireDead(id)
	if w.Status != "dead" || w.Attempts != 0 || !strings.HasPrefix(w.Reason, "template: body: line 1, column ") ||
		!strings.Contains(w.Reason, "no such key as customer") || strings.Contains(w.Reason, "hunter2") {
		t.Errorf("recorded %+v", w)
	}
	letter := r.Letter(w)
	if letter.Header.Get("Relay-Meta-Reason") != w.Reason || !strings.Contains(string(letter.Data), "hunter2") {
		t.Errorf("the letter is %v %s", letter.Header, letter.Data)
	}
	requireEmpty(t, r)
	if as, n := r.Attempts(id), stored(t, r, consumer.StreamDead); len(as) != 0 || n != 1 || len(chat.Requests()) != 0 {
		t.Errorf("%d attempts, %d letters, %d requests; want one letter", len(as), n, len(chat.Requests()))
	}

	s.use(t, template.Source{Body: `{"text": payload.?customer.?name.orValue("somebody")}`})
	replay(t, r, "all")
	if w := r.RequireDelivered(id); w.Generation != 1 || w.Attempts != 1 {
		t.Errorf("recorded %+v", w)
	}
	if req := chat.Next(); string(req.Body) != `{"text":"somebody"}` || req.Method != http.MethodPost {
		t.Errorf("the replay sent %s", req.Body)
	}
	requireEmpty(t, r)
}
