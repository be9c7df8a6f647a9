package consumer

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
)

type panicking struct{}

func (panicking) Find(string, string, string) (relay.Endpoint, error) { panic("boom") }

func (panicking) ByKey(string) (relay.Endpoint, bool) { panic("boom") }

func (panicking) Disable(context.Context, string, string) error { panic("boom") }

func (panicking) Meant(context.Context, *string, string) (relay.Endpoint, error) { panic("boom") }

// stored is a message with a body, and nothing that a server would answer.
type stored struct {
	jetstream.Msg
	body string
}

func (s stored) Data() []byte         { return []byte(s.body) }
func (s stored) Headers() nats.Header { return nil }

// A message over which relay panics is dead with a reason, not a loop.
func TestAPanicWhileReadingIsAFault(t *testing.T) {
	c := &Consumer{Options: Options{Endpoints: panicking{}, ExpiresAfter: time.Hour}}
	w, _, fault := c.read(message{Msg: stored{body: `{"url":"https://example.com/"}`}, meta: meta{key: testKey}})
	if fault == nil || !strings.Contains(fault.Error(), "boom") {
		t.Errorf("fault %v", fault)
	}
	if w.Key != testKey || w.ID == "" || w.EndpointKey != relay.InvalidEndpoint || w.ExpiresAt.IsZero() {
		t.Errorf("read as %+v", w)
	}
}
