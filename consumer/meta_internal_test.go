package consumer

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// The audit log is told what it is likely to know: copies, and what was
// delivered before.
func TestKnownEventsAreClaimedAgain(t *testing.T) {
	for _, c := range []struct {
		subject   string
		delivered int
		again     bool
	}{
		{SubjectOutbound, 1, false},
		{SubjectOutbound, 2, true},
		{subjectDue + "key", 1, true},
	} {
		raw := &nats.Msg{
			Subject: c.subject, Sub: &nats.Subscription{},
			Reply:  fmt.Sprintf("$JS.ACK.WEBHOOKS.relay.%d.7.7.%d.0", c.delivered, time.Now().UnixNano()),
			Header: nats.Header{headerURL: {"https://example.com/"}, metaKey: {"1700000000000000-7"}},
		}
		m, err := newMessage(delivery{raw}, nil)
		if err != nil {
			t.Fatal(err)
		}
		w, err := decode(m.meta, m.Headers(), m.Data())
		if err != nil || w.Again != c.again {
			t.Errorf("delivery %d of %s: again is %t, want %t (%v)", c.delivered, c.subject, w.Again, c.again, err)
		}
	}
}
