package nats_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// partitions is a server of partitions.conf, a relay on each partition, and the
// producer and the receiver that they share.
type partitions struct {
	t        testing.TB
	dir      string
	server   *server.Server
	options  *server.Options
	producer *client
	receiver *relaytest.Receiver
	worlds   []*world
	status   atomic.Int32 // what the receiver answers
	words    int          // that subjects end in

	edit func(text string) string // what a test makes of partitions.conf
}

// newPartitions starts the server, with n partitions of which the first get what
// is published, and connects the producer.
func newPartitions(t testing.TB, n, used int) *partitions {
	t.Helper()
	return editedPartitions(t, n, used, func(text string) string { return text })
}

func editedPartitions(t testing.TB, n, used int, edit func(string) string) *partitions {
	t.Helper()
	setPasswords(t)
	p := &partitions{t: t, dir: t.TempDir(), words: 20, edit: edit}
	p.options = p.configure(n, used)
	p.options.Port, p.options.StoreDir = server.RANDOM_PORT, t.TempDir()
	p.server = start(t, p.options.Clone())
	p.producer = connect(t, p.server, producer)
	return p
}

// startPartitions starts two partitions with a relay on each.
func startPartitions(t *testing.T) *partitions {
	t.Helper()
	p := newPartitions(t, 2, 2)
	p.startRelays(t)
	return p
}

// startRelays starts a relay on each of two partitions.
func (p *partitions) startRelays(t *testing.T) {
	t.Helper()
	p.receiver = relaytest.NewReceiver(t)
	p.status.Store(http.StatusOK)
	p.receiver.Always(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(p.status.Load())) })
	for range 2 {
		p.run(t)
	}
}

// configure reads the files with n partitions, of which the first get what is
// published. Those beyond the second are copied from it, as README.md says.
func (p *partitions) configure(n, used int) *server.Options {
	p.t.Helper()
	text := readFile(p.t, "partitions.conf")
	from := strings.Index(text, "  # --- partition 1\n")
	to := strings.Index(text, "  # --- producers\n")
	block, imported := text[from:to], "      { service: { account: RELAY_1, subject: \"webhooks.outbound.>\" }, to: \"webhooks.outbound.1.>\" }\n"
	if from < 0 || to < from || strings.Count(text, imported) != 1 || strings.Count(text, "partition(2,1)") != 2 {
		p.t.Fatal("partitions.conf does not look as README.md says")
	}
	for k := 2; k < n; k++ {
		again := func(s string) string {
			return strings.NewReplacer("_1", fmt.Sprintf("_%d", k), "outbound.1.", fmt.Sprintf("outbound.%d.", k)).Replace(s)
		}
		text = strings.Replace(text, "  # --- producers\n", again(block)+"  # --- producers\n", 1)
		text = strings.Replace(text, imported, imported+again(imported), 1)
	}
	text = p.edit(strings.ReplaceAll(text, "partition(2,1)", fmt.Sprintf("partition(%d,1)", used)))
	write(p.t, filepath.Join(p.dir, "partitions.conf"), []byte(text))
	write(p.t, filepath.Join(p.dir, "grants.conf"), []byte(readFile(p.t, "grants.conf")))
	one := strings.Replace(readFile(p.t, "nats-server.conf"), `include "accounts.conf"`, `include "partitions.conf"`, 1)
	write(p.t, filepath.Join(p.dir, "nats-server.conf"), []byte(one))
	o, err := server.ProcessConfigFile(filepath.Join(p.dir, "nats-server.conf"))
	if err != nil {
		p.t.Fatal(err)
	}
	o.HTTPPort, o.NoSigs, o.NoLog = 0, true, true
	return o
}

// run makes the streams of the next partition and starts a relay there, with a
// database of its own.
func (p *partitions) run(t *testing.T) {
	t.Helper()
	name := fmt.Sprintf("_%d", len(p.worlds))
	setUpAs(t, p.server, provisioner+name, consumer.StreamOptions{AckWait: ackWait})
	w := &world{
		t: t, look: connect(t, p.server, onlooker+name), relay: connect(t, p.server, relayUser+name),
		operator: connect(t, p.server, operator+name), producer: p.producer, receiver: p.receiver, heard: map[string][]string{},
	}
	w.listen()
	w.run()
	p.worlds = append(p.worlds, w)
}

// publish publishes a webhook until that is confirmed, and reports how often it
// had to.
func (p *partitions) publish(n int) (times int) { return p.publishTo(p.subject(n), n) }

func (p *partitions) publishTo(subject string, n int) (times int) {
	body, err := json.Marshal(map[string]any{"url": p.receiver.URL, "id": id(n), "payload": n, "max_attempts": 100})
	if err != nil {
		p.t.Error(err)
		return 0
	}
	for p.t.Context().Err() == nil {
		times++
		if _, err := p.producer.js.Publish(p.t.Context(), subject, body, jetstream.WithMsgID(id(n))); err == nil {
			return times
		}
	}
	return times
}

func id(n int) string { return fmt.Sprintf("event-%d", n) }

// subject is that of event n: a word, and now and then more, which changes nothing.
func (p *partitions) subject(n int) string {
	subject := fmt.Sprintf("webhooks.outbound.customer-%d", n%p.words)
	if n/p.words%2 == 1 {
		subject += ".orders.paid"
	}
	return subject
}

// delivered waits until each of n webhooks is among those that a partition has
// recorded as delivered.
func (p *partitions) delivered(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d webhooks delivered", n), func(context.Context) bool {
		return p.sum("SELECT count(DISTINCT webhook_id) FROM relay.webhooks WHERE status = 'delivered'") == n
	})
}

// sum asks all audit logs for a number.
func (p *partitions) sum(sql string) (n int) {
	for _, w := range p.worlds {
		n += w.count(sql)
	}
	return n
}

// requests counts the receiver's requests by webhook.
func (p *partitions) requests() map[string]int {
	got := map[string]int{}
	for _, r := range p.receiver.Requests() {
		got[r.Header.Get("webhook-id")]++
	}
	return got
}

// stored returns how many events each partition has taken.
func (p *partitions) stored() (n []uint64) {
	p.t.Helper()
	for _, w := range p.worlds {
		stream, err := w.look.js.Stream(p.t.Context(), consumer.StreamQueue)
		if err != nil {
			p.t.Fatal(err)
		}
		n = append(n, stream.CachedInfo().State.LastSeq)
	}
	return n
}

// letters returns how many dead letters each partition has.
func (p *partitions) letters(ctx context.Context) (n []uint64) {
	for _, w := range p.worlds {
		stream, err := w.look.js.Stream(ctx, consumer.StreamDead)
		if err != nil {
			return nil
		}
		n = append(n, stream.CachedInfo().State.Msgs)
	}
	return n
}

// TestPartitions lets a producer publish to two partitions, and holds that each
// delivers, records, buries and replays its own, and nothing of the other's.
func TestPartitions(t *testing.T) {
	p := startPartitions(t)
	_ = t.Run("each event once, in one partition", p.spread) &&
		t.Run("dead letters of its own", p.bury)
	clients := []*client{p.producer}
	for _, w := range p.worlds {
		clients = append(clients, w.relay, w.operator)
	}
	for _, c := range clients {
		if refused := c.refusals(t); len(refused) > 0 {
			t.Errorf("%s was refused:\n%s", c.Opts.User, strings.Join(refused, "\n"))
		}
	}
}

func (p *partitions) spread(t *testing.T) {
	const events = 100
	for n := range events {
		p.publish(n)
	}
	p.delivered(t, events)
	for id, n := range p.requests() {
		if n != 1 {
			t.Errorf("%d requests for %s", n, id)
		}
	}
	for k, w := range p.worlds {
		if w.count("SELECT count(*) FROM relay.webhooks") == 0 {
			t.Errorf("partition %d got nothing", k)
		}
	}
	if rows := p.sum("SELECT count(*) FROM relay.webhooks"); rows != events {
		t.Errorf("%d rows for %d events", rows, events)
	}
	// What is published under one word lies in one partition, so that repeats meet.
	homes := p.sum("SELECT count(DISTINCT right('0' || (payload_n % 20), 2)) FROM (SELECT convert_from(body, 'UTF8')::int AS payload_n FROM relay.webhooks) x")
	if homes != p.words {
		t.Errorf("%d words have %d homes", p.words, homes)
	}
	var batch []*nats.Msg
	for n := range p.words {
		batch = append(batch, nats.NewMsg(p.subject(n)))
	}
	before := p.stored()
	p.publishTo("webhooks.outbound", events)
	before[0]++
	if ack, err := jetstreamext.PublishMsgBatch(t.Context(), p.producer.js, batch); err == nil {
		t.Errorf("a batch over both partitions is stored: %+v", ack)
	}
	if after := p.stored(); !slices.Equal(before, after) {
		t.Errorf("stored %d, want %d: what has no word in the first, and no batch over both", after, before)
	}
	ack, err := p.producer.js.Publish(t.Context(), p.subject(7), []byte("{}"), jetstream.WithMsgID(id(7)))
	if err != nil || !ack.Duplicate {
		t.Errorf("a message id again: %+v, %v", ack, err)
	}
}

// bury: a dead letter stays in its partition, and the operator of another does
// not replay it.
func (p *partitions) bury(t *testing.T) {
	p.delivered(t, 100+1) // what was published before is not to be among the letters
	p.status.Store(http.StatusNotFound)
	for n := range p.words {
		p.publish(1000 + n)
	}
	var each []uint64
	eventually(t, "a letter for each", func(ctx context.Context) bool {
		each = p.letters(ctx)
		return len(each) == 2 && each[0]+each[1] == uint64(p.words)
	})
	p.status.Store(http.StatusOK)
	for k, w := range p.worlds {
		w.ask(t, consumer.SubjectReplay, "all")
		each[k] = 0
		eventually(t, fmt.Sprintf("no letters in partition %d, and those of the next untouched", k), func(ctx context.Context) bool {
			left := p.letters(ctx)
			if k == 0 && left[1] != each[1] {
				t.Fatalf("the replay of partition 0 leaves %d letters in partition 1, of %d", left[1], each[1])
			}
			return left[k] == 0
		})
	}
	p.delivered(t, 100+1+p.words)
}
