package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

const (
	oldSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret  = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	privateKey = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	publicKey  = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
)

// rotationTimeout is delivery.timeout: after it nothing is under way any more
// that was signed before.
const rotationTimeout = 2 * time.Second

// rotationConfig has one endpoint with secrets of its own, and the same secrets
// for those without.
func rotationConfig(receiver string, secrets ...string) string {
	list := "[" + strings.Join(secrets, ", ") + "]"
	return fmt.Sprintf(`admin: {address: '127.0.0.1:0'}
policy: {schedule: [10ms], circuit: {failures: 10}}
delivery: {timeout: %s, connect_timeout: 1s}
signing: {secrets: %s}
endpoints: {shop: {url: '%s/shop', secrets: %[2]s}}
`, rotationTimeout, list, receiver)
}

// traffic publishes without a pause, by name and by URL, until it is stopped.
type traffic struct {
	r       *relaytest.Relay
	cancel  context.CancelFunc
	ended   chan error
	stopped []string // the ids of all that was published
}

func startTraffic(t *testing.T, r *relaytest.Relay) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &traffic{r: r, cancel: cancel, ended: make(chan error, 1)}
	go func() {
		for n := 0; ctx.Err() == nil; n++ {
			id, to := fmt.Sprint("load_", n), `"endpoint": "shop"`
			if n%2 == 1 {
				to = fmt.Sprintf(`"url": "%s/plain"`, r.Receiver.URL)
			}
			event := fmt.Sprintf(`{"id": "%s", %s, "payload": %d}`, id, to, n)
			if _, err := r.JS.Publish(context.WithoutCancel(ctx), consumer.SubjectOutbound, []byte(event)); err != nil {
				f.ended <- err
				return
			}
			f.stopped = append(f.stopped, id)
		}
		f.ended <- nil
	}()
	return f
}

// stop returns the ids of all that was published.
func (f *traffic) stop(t *testing.T) []string {
	t.Helper()
	f.cancel()
	if err := <-f.ended; err != nil {
		t.Fatal(err)
	}
	return f.stopped
}

// flow waits until as many more requests have come.
func (f *traffic) flow(t *testing.T, more int) {
	t.Helper()
	want := len(f.r.Receiver.Requests()) + more
	if !f.r.Eventually(func() bool { return len(f.r.Receiver.Requests()) >= want }) {
		t.Fatalf("%d requests have come, want %d", len(f.r.Receiver.Requests()), want)
	}
}

// A receiver that follows the steps of the README can verify every request, at
// every moment: while a secret is replaced by another, and that by a key pair.
// It never trusts more than one secret at a time, which is the hardest case.
func TestASecretIsReplacedUnderLoad(t *testing.T) {
	config := file(t, "admin: {address: '127.0.0.1:0'}\n")
	r, log := startApp(t, config)
	sign := func(secrets ...string) {
		t.Helper()
		if said := reload(t, r, log, config, rotationConfig(r.Receiver.URL, secrets...)); !strings.Contains(said, "configuration reloaded") {
			t.Fatal(said)
		}
	}
	var seen sync.Map
	r.Receiver.Always(func(w http.ResponseWriter, q *http.Request) {
		id := q.Header.Get("webhook-id")
		if _, again := seen.LoadOrStore(id, true); !again && strings.HasSuffix(id, "5") {
			w.WriteHeader(http.StatusInternalServerError) // so that retries are signed too
		}
	})
	r.Receiver.Trust(oldSecret)
	sign(oldSecret)
	load := startTraffic(t, r)
	load.flow(t, 50)
	for _, step := range []struct {
		from, to string
		trust    relay.Secret
	}{
		{oldSecret, newSecret, newSecret},
		{newSecret, privateKey, publicKey},
	} {
		sign(step.to, step.from) // 1: both sign
		settled := time.Now().Add(rotationTimeout)
		r.Eventually(func() bool { return time.Now().After(settled) }) // 2: what was signed before is over
		r.Receiver.Trust(step.trust)                                   // 3: receivers change
		load.flow(t, 50)
		sign(step.to) // 4: the old one is gone
		load.flow(t, 50)
	}
	ids := load.stop(t)
	for _, id := range ids {
		r.RequireDelivered(id)
	}
	retries := len(r.Receiver.Requests()) - len(ids)
	if last := r.Receiver.Requests()[len(r.Receiver.Requests())-1]; strings.Count(last.Header.Get("webhook-signature"), ",") != 1 {
		t.Errorf("the last request is signed %q", last.Header.Get("webhook-signature"))
	}
	if retries < len(ids)/20 {
		t.Errorf("%d requests for %d webhooks: where are the retries?", retries+len(ids), len(ids))
	}
	t.Logf("%d webhooks, %d requests", len(ids), len(ids)+retries)
}

// An event may wait for its claim as long as Postgres is away. What it is then
// signed with is what is configured then.
func TestAnEventThatWaitedIsSignedWithTodaysSecret(t *testing.T) {
	config := file(t, "admin: {address: '127.0.0.1:0'}\n")
	r, log := startApp(t, config)
	r.Receiver.Trust(newSecret)
	if said := reload(t, r, log, config, rotationConfig(r.Receiver.URL, oldSecret)); !strings.Contains(said, "configuration reloaded") {
		t.Fatal(said)
	}
	tx, err := r.DB.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), "LOCK TABLE relay.webhooks IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	r.Publish(map[string]any{"endpoint": "shop", "payload": 1})
	r.Publish(map[string]any{"url": r.Receiver.URL + "/shop?n=2", "payload": 2})
	held := func() bool {
		c, err := r.JS.Consumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue)
		if err != nil {
			t.Fatal(err)
		}
		return c.CachedInfo().NumAckPending == 2
	}
	if !r.Eventually(held) {
		t.Fatal("relay has not taken the events")
	}
	if said := reload(t, r, log, config, rotationConfig(r.Receiver.URL, newSecret)); !strings.Contains(said, "configuration reloaded") {
		t.Fatal(said)
	}
	if n := len(r.Receiver.Requests()); n != 0 {
		t.Fatalf("%d requests were made without a claim", n)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.Next() // and the receiver has verified it
	}
}
