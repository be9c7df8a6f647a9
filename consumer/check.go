package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
)

// Check reports what relay would find wrong with a message that is published
// now, all faults joined, for a producer that would rather know before than
// read it on a dead letter. Whether a named endpoint exists, only the running
// relay knows.
func Check(m *nats.Msg, now time.Time) error {
	_, err := decode(meta{key: relay.NewKey(now, 1), subject: m.Subject}, m.Header, m.Data)
	if size := len(m.Data) + headerBytes(m.Header); size > maxMessage {
		err = errors.Join(err, fmt.Errorf("message: %d bytes, more than %d", size, maxMessage))
	}
	return err
}
