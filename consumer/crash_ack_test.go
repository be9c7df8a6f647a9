package consumer_test

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/relaywebhooks/relay/relaytest"
)

// firstAck spoils the first acknowledgement that asks for an answer, and counts
// them all.
func firstAck(acks *atomic.Int32, spoil edit) edit {
	return func(words []string, said []byte) []byte {
		if len(words) != 4 || !strings.HasPrefix(words[1], "$JS.ACK.") || !bytes.HasSuffix(said, []byte("\n+ACK\r\n")) {
			return said
		}
		if acks.Add(1) == 1 {
			return spoil(words, said)
		}
		return said
	}
}

// C4: an acknowledgement does not arrive, or its answer does not come back. It
// is sent again; the webhook is not, and JetStream does not deliver it again.
func TestALostAcknowledgementIsRepeated(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]edit{
		"lost": func([]string, []byte) []byte { return nil },
		"its answer is lost": func(words []string, said []byte) []byte { // the server is not told where to answer
			return bytes.Replace(said, []byte(" "+words[2]+" "), []byte(" "), 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for settleTimeout
			server := relaytest.StartNATS(t)
			var acks atomic.Int32
			r := relaytest.Start(t, relaytest.Options{NATS: server, NATSURL: newCable(t, server, firstAck(&acks, spoil), nil).URL()})
			w := r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
			if !r.Eventually(func() bool { return acks.Load() >= 2 }) {
				t.Fatal("the acknowledgement was not repeated")
			}
			requireEmpty(t, r)
			r.Stop()
			if n := len(r.Receiver.Requests()); n != 1 || w.Attempts != 1 || acks.Load() != 2 {
				t.Errorf("%d requests and %d acknowledgements, recorded %+v", n, acks.Load(), w)
			}
		})
	}
}
