package nats_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/relaywebhooks/relay/consumer"
)

// apiPrefix is where operators find the part of the JetStream API that is
// theirs.
const apiPrefix = "relay.api"

// N1: each user of the shipped permissions does its work and nothing else, as
// the server sees it: what it refuses, and that no stream has changed.

// refusesPublish tries to publish to each subject.
func refusesPublish(t *testing.T, c *client, subjects []string) {
	t.Helper()
	for _, subject := range subjects {
		for _, body := range []string{"", "{}"} {
			if err := c.PublishRequest(subject, c.NewInbox(), []byte(body)); err != nil {
				t.Fatal(err)
			}
			if !c.wasRefused(t, subject) {
				t.Errorf("may publish to %s", subject)
			}
		}
	}
}

// refusesSubscribe tries to listen to each subject.
func refusesSubscribe(t *testing.T, c *client, subjects []string) {
	t.Helper()
	for _, subject := range subjects {
		if _, err := c.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		if !c.wasRefused(t, subject) {
			t.Errorf("may listen to %s", subject)
		}
	}
}

// api are requests that change or read something, for each stream.
func api(verbs ...string) []string {
	var subjects []string
	for stream, durable := range map[string]string{
		consumer.StreamQueue: consumer.DurableQueue, consumer.StreamLater: consumer.DurableDue, consumer.StreamDead: "none",
		consumer.StreamPauses: "none",
	} {
		for _, verb := range verbs {
			r := strings.NewReplacer("<stream>", stream, "<durable>", durable)
			subjects = append(subjects, "$JS.API."+r.Replace(verb))
		}
	}
	slices.Sort(subjects)
	return subjects
}

var (
	destroys = []string{
		"STREAM.DELETE.<stream>", "CONSUMER.DELETE.<stream>.<durable>", "STREAM.RESTORE.<stream>", "STREAM.SNAPSHOT.<stream>",
		"STREAM.LEADER.STEPDOWN.<stream>", "STREAM.PEER.REMOVE.<stream>", "CONSUMER.LEADER.STEPDOWN.<stream>.<durable>",
		"CONSUMER.PAUSE.<stream>.<durable>", "CONSUMER.DURABLE.CREATE.<stream>.<durable>",
	}
	makes = []string{
		"STREAM.CREATE.<stream>", "STREAM.UPDATE.<stream>", "CONSUMER.CREATE.<stream>",
		"CONSUMER.CREATE.<stream>.<durable>", "CONSUMER.CREATE.<stream>.mine.webhooks.>",
	}
	removes = []string{"STREAM.PURGE.<stream>", "STREAM.MSG.DELETE.<stream>"}
	reads   = []string{
		"STREAM.INFO.<stream>", "STREAM.MSG.GET.<stream>", "DIRECT.GET.<stream>", "DIRECT.GET.<stream>.webhooks.dead.key.1-1",
		"CONSUMER.INFO.<stream>.<durable>", "CONSUMER.MSG.NEXT.<stream>.<durable>",
	}
	ownSubjects = []string{
		"webhooks.due.key", "webhooks.parked.key", "webhooks.later.key.1-1", "webhooks.dead.key.1-1", "relay.events.delivered.key",
		"$KV.relay_pauses.key",
	}
	others = []string{
		">", "*", "webhooks.>", "webhooks.outbound", "webhooks.outbound.>", "webhooks.*.*", "$JS.>", "$JS.API.>", "$JS.ACK.>",
		"$JS.EVENT.>", "_INBOX.>", "_INBOX_relay.>", "_INBOX_producer.>", "_INBOX_operator.>", "_INBOX_provisioner.>", "_R_.>",
		"$SYS.>", "relay.>",
	}
)

// except returns the subjects that do not begin with any of the prefixes.
func except(subjects []string, prefixes ...string) []string {
	return slices.DeleteFunc(slices.Clone(subjects), func(s string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
	})
}

func TestProducerPublishesAndNothingElse(t *testing.T) {
	s := startServer(t)
	setUp(t, s, consumer.StreamOptions{})
	o, c := connect(t, s, onlooker), connect(t, s, producer)
	ackSubject := seed(t, o)
	batch := []*nats.Msg{nats.NewMsg("webhooks.outbound"), nats.NewMsg("webhooks.outbound.orders")}
	if ack, err := jetstreamext.PublishMsgBatch(t.Context(), c.js, batch); err != nil || ack.BatchSize != 2 {
		t.Errorf("an atomic batch: %+v, %v", ack, err)
	}
	before := look(t, o)

	for _, subject := range []string{"webhooks.outbound", "webhooks.outbound.orders", "webhooks.outbound.a.b.c"} {
		ack, err := c.js.Publish(t.Context(), subject, []byte("{}"), jetstream.WithMsgID("once:"+subject))
		if err != nil || ack.Stream != consumer.StreamQueue || ack.Duplicate {
			t.Errorf("publish to %s: %+v, %v", subject, ack, err)
		}
		if again, err := c.js.Publish(t.Context(), subject, nil, jetstream.WithMsgID("once:"+subject)); err != nil || !again.Duplicate {
			t.Errorf("the same message id again: %+v, %v", again, err)
		}
	}
	if refused := c.refusals(t); len(refused) > 0 {
		t.Errorf("was refused what is its work:\n%s", strings.Join(refused, "\n"))
	}
	refusesPublish(t, c, slices.Concat(ownSubjects, api(destroys...), api(makes...), api(removes...), api(reads...), []string{
		ackSubject, "webhooks", "webhooks.outboundx", "relay.dead.replay", "relay.dead.job", "relay.lanes.list", "relay.lanes.bury", "relay.endpoints.put", "relay.endpoints.list", "$SRV.PING", "$JS.API.INFO",
		"$JS.API.STREAM.NAMES", "_INBOX_relay.x", "_R_.x", "$SYS.REQ.SERVER.PING",
	}))
	refusesSubscribe(t, c, except(others, "_INBOX_producer"))
	if after := look(t, o); after != before {
		t.Errorf("the streams changed:\n%s\nwere:\n%s", after, before)
	}
}

// TestProducersHeaders tries the headers that make JetStream do more than store
// a message.
func TestProducersHeaders(t *testing.T) {
	s := startServer(t)
	setUp(t, s, consumer.StreamOptions{})
	o, c := connect(t, s, onlooker), connect(t, s, producer)
	seed(t, o)
	before := look(t, o)
	for _, h := range []nats.Header{
		{"Nats-Rollup": {"all"}},
		{"Nats-Rollup": {"sub"}},
		{"Nats-Schedule": {"@at 2020-01-01T00:00:00Z"}, "Nats-Schedule-Target": {"webhooks.due.key"}},
		{"Nats-TTL": {"1s"}},
		{"Nats-Incr": {"+1"}},
		{"Nats-Expected-Stream": {consumer.StreamDead}},
	} {
		m := &nats.Msg{Subject: "webhooks.outbound", Header: h, Data: []byte("{}")}
		if ack, err := c.js.PublishMsg(t.Context(), m); err == nil {
			t.Errorf("%v is stored: %+v", h, ack)
		}
	}
	for _, target := range []string{"webhooks.due.key", "webhooks.dead.key.1-1", "$JS.API.STREAM.DELETE.WEBHOOKS"} {
		m := &nats.Msg{Subject: "webhooks.outbound", Header: nats.Header{"Nats-Trace-Dest": {target}}, Data: []byte("{}")}
		if err := c.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, c)
	settle(t, o)
	if after := look(t, o); after != before {
		t.Errorf("the streams changed:\n%s\nwere:\n%s", after, before)
	}
}

func TestRelayRunsAndBuildsNothing(t *testing.T) {
	s := startServer(t)
	setUp(t, s, consumer.StreamOptions{})
	o, c := connect(t, s, onlooker), connect(t, s, relayUser)
	seed(t, o)
	before := look(t, o)
	changes, err := consumer.Compare(t.Context(), c.js, consumer.StreamOptions{}) // as relay doctor does
	if refused := c.refusals(t); err != nil || len(changes) != 6 || len(refused) > 0 {
		t.Errorf("compare: %v, %v, refused %v", changes, err, refused)
	}
	refusesPublish(t, c, slices.Concat(api(destroys...), api(makes...), []string{
		"$JS.API.STREAM.PURGE.WEBHOOKS", "$JS.API.STREAM.PURGE.WEBHOOKS_DEAD", "$JS.API.STREAM.MSG.DELETE.WEBHOOKS",
		"$JS.API.STREAM.PURGE.KV_relay_pauses", "$JS.API.STREAM.MSG.DELETE.KV_relay_pauses",
		"$JS.API.STREAM.CREATE.OTHER", "$KV.other.key", "webhooks.outbound", "webhooks.outbound.orders", "relay.dead.replay", "relay.lanes.drain", "relay.endpoints.put", "_INBOX_operator.x",
	}))
	refusesSubscribe(t, c, except(others, "_INBOX_relay"))
	if after := look(t, o); after != before {
		t.Errorf("the streams changed:\n%s\nwere:\n%s", after, before)
	}
}

func TestProvisionerBuildsAndNothingElse(t *testing.T) {
	s := startServer(t)
	setUp(t, s, consumer.StreamOptions{}) // fails if it is refused anything
	o, c := connect(t, s, onlooker), connect(t, s, provisioner)
	seed(t, o)
	before := look(t, o)
	changes, err := consumer.Compare(t.Context(), c.js, consumer.StreamOptions{})
	if err != nil || len(changes) != 6 {
		t.Errorf("compare: %v, %v", changes, err)
	}
	refusesPublish(t, c, slices.Concat(api(destroys...), api(removes...), ownSubjects, []string{
		"$JS.API.STREAM.CREATE.OTHER", "$JS.API.CONSUMER.CREATE.WEBHOOKS.mine", "$JS.API.CONSUMER.MSG.NEXT.WEBHOOKS.relay",
		"$JS.API.DIRECT.GET.WEBHOOKS", "$JS.API.STREAM.MSG.GET.WEBHOOKS", "webhooks.outbound", "relay.dead.replay", "relay.lanes.bury", "relay.endpoints.put",
	}))
	refusesSubscribe(t, c, except(others, "_INBOX_provisioner"))
	if after := look(t, o); after != before {
		t.Errorf("the streams changed:\n%s\nwere:\n%s", after, before)
	}
	if changes, err = consumer.Setup(t.Context(), c.js, consumer.StreamOptions{AckWait: time.Minute, DeadMaxAge: time.Hour}); err != nil {
		t.Errorf("update: %v, %v", changes, err)
	}
}

func TestOperatorReadsAndChangesNothing(t *testing.T) {
	s := startServer(t)
	setUp(t, s, consumer.StreamOptions{})
	o, c := connect(t, s, onlooker), connect(t, s, operator)
	ackSubject := seed(t, o)
	before := look(t, o)

	js, err := jetstream.NewWithAPIPrefix(c.Conn, apiPrefix)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := consumer.Compare(t.Context(), js, consumer.StreamOptions{})
	if err != nil || slices.ContainsFunc(changes, func(c consumer.Change) bool { return c.Done != "unchanged" }) {
		t.Errorf("compare: %v, %v", changes, err)
	}
	dead, err := js.Stream(t.Context(), consumer.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := dead.GetMsg(t.Context(), 1); err != nil || m.Subject != "webhooks.dead.key.1-1" {
		t.Errorf("read a letter: %+v, %v", m, err)
	}
	if refused := c.refusals(t); len(refused) > 0 {
		t.Errorf("was refused what is its work:\n%s", strings.Join(refused, "\n"))
	}

	refusesPublish(t, c, slices.Concat(ownSubjects, api(destroys...), api(makes...), api(removes...), api(reads...), []string{
		ackSubject, "webhooks.outbound", "_INBOX_relay.x", "$SYS.REQ.SERVER.PING",
	}))
	for _, subject := range slices.Concat(api(destroys...), api(makes...), api(removes...), api("CONSUMER.MSG.NEXT.<stream>.<durable>")) {
		subject = apiPrefix + strings.TrimPrefix(subject, "$JS.API")
		if m, err := c.Request(subject, nil, patience); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s is answered: %+v, %v", subject, m, err)
		}
	}
	refusesSubscribe(t, c, except(others, "_INBOX_operator"))
	if after := look(t, o); after != before {
		t.Errorf("the streams changed:\n%s\nwere:\n%s", after, before)
	}
}

func TestNobodyComesInWithoutPassword(t *testing.T) {
	s := startServer(t)
	for _, options := range [][]nats.Option{
		nil,
		{nats.UserInfo(producer, "")},
		{nats.UserInfo(producer, password(relayUser))},
		{nats.UserInfo("admin", "admin")},
		{nats.UserInfo(producer, "$NATS_PRODUCER_PASSWORD")},
	} {
		if c, err := nats.Connect(s.ClientURL(), options...); err == nil {
			c.Close()
			t.Errorf("let in: %s", c.Opts.User)
		}
	}
}
