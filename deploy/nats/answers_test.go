package nats_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
)

// steered are requests whose answer is sent to a subject of the asker's choice.
func steered(t *testing.T, c *client, subjects, bodies []string) {
	t.Helper()
	targets := slices.Concat(ownSubjects, api(destroys...), api(removes...), api(makes...), []string{"webhooks.outbound"})
	for _, target := range targets {
		for _, subject := range subjects {
			for _, body := range bodies {
				if err := c.PublishRequest(subject, target, []byte(body)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	flush(t, c)
}

// TestAnswersCannotBeSteered: NATS does not check where an answer is wanted, so
// the walls between the accounts have to hold.
func TestAnswersCannotBeSteered(t *testing.T) {
	s := startServer(t)
	setUp(t, s, consumer.StreamOptions{})
	o := connect(t, s, onlooker)
	ackSubject := seed(t, o)
	before := look(t, o)

	p := connect(t, s, producer)
	steered(t, p, []string{"webhooks.outbound"}, []string{"", "{}"})
	if err := p.PublishRequest("webhooks.outbound", ackSubject, []byte("+ACK")); err != nil {
		t.Fatal(err)
	}
	if !p.wasRefused(t, ackSubject) {
		t.Error("a producer can have its answer sent to an acknowledgement")
	}
	op := connect(t, s, operator)
	steered(t, op, []string{
		"relay.api.DIRECT.GET.WEBHOOKS", "relay.api.DIRECT.GET.WEBHOOKS_DEAD", "relay.api.STREAM.MSG.GET.WEBHOOKS", "relay.api.STREAM.INFO.WEBHOOKS",
	}, []string{"", `{"seq":999}`, `{"seq":1}`}) // an unknown sequence is answered with an empty body

	if _, err := p.js.Publish(t.Context(), "webhooks.outbound", nil); err != nil {
		t.Fatal(err)
	}
	settle(t, o)
	if after := look(t, o); after != before {
		t.Errorf("the streams changed:\n%s\nwere:\n%s", after, before)
	}
}

// TestInOneAccountAnswersCanBeSteered is why there are three accounts: the same
// request, made from within the account RELAY, destroys a stream. If this
// fails, NATS has learnt to check, and accounts.conf may become simpler.
func TestInOneAccountAnswersCanBeSteered(t *testing.T) {
	s := startServer(t)
	setUp(t, s, consumer.StreamOptions{})
	o, c := connect(t, s, onlooker), connect(t, s, relayUser)
	seed(t, o)
	if err := c.PublishRequest("$JS.API.DIRECT.GET.WEBHOOKS", "$JS.API.STREAM.DELETE.WEBHOOKS_DEAD", []byte(`{"seq":999}`)); err != nil {
		t.Fatal(err)
	}
	settle(t, o)
	if _, err := o.js.Stream(t.Context(), consumer.StreamDead); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("WEBHOOKS_DEAD is still there: %v", err)
	}
}
