package consumer

import (
	"context"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestOnlyALastingRefusalEndsAStart(t *testing.T) {
	s, err := server.NewServer(&server.Options{Port: -1, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	c := &Consumer{Options: Options{Conn: conn}}
	for _, tc := range []struct {
		err   error
		final bool
	}{
		{context.DeadlineExceeded, false},
		{nats.ErrNoResponders, false},
		{&jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "JetStream system temporarily unavailable"}, false},
		{jetstream.ErrJetStreamNotEnabled, false}, // as after a full disk
		{jetstream.ErrStreamNotFound, true},
		{jetstream.ErrConsumerNotFound, true},
		{jetstream.ErrJetStreamNotEnabledForAccount, true},
	} {
		if got := c.refusedForGood(missingStream(StreamQueue, DurableQueue, tc.err)); got != tc.final {
			t.Errorf("%v: final %v, want %v", tc.err, got, tc.final)
		}
	}
}
