package consumer_test

import (
	"strings"
	"testing"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// Nobody hears attempts: they are not told. Of what is heard, nothing is missing.
func TestWhatNobodyHearsIsNotTold(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{Consumer: consumer.Options{Heard: func(subject string) bool {
		return !strings.HasPrefix(subject, consumer.SubjectEvents+"attempt.")
	}}})
	told, err := r.Conn.SubscribeSync(consumer.SubjectEvents + ">")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
		m, err := told.NextMsg(relaytest.Patience)
		if err != nil || !strings.HasPrefix(m.Subject, consumer.SubjectEvents+"delivered.") {
			t.Fatalf("told of a delivery: %+v, %v", m, err)
		}
	}
}
