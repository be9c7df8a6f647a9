package consumer_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

// The first attempt of a quick retry is recorded, and another process has the
// event before the second one is claimed. What policy thinks of the first one
// is nobody's business any more: the event is the other's, and no letter of it
// may be written.
func TestAQuickRetryThatLosesItsClaimDecidesNothing(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{
		Policy:   policy.Options{Schedule: []time.Duration{time.Hour}, Jitter: -1},
		Consumer: consumer.Options{AckWait: 2 * time.Second},
	})
	thief(t, r)
	s := &scripts{codes: map[string][]int{"/": {200, reset, 200}}}
	r.Receiver.Always(s.ServeHTTP)
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL + "/"})) // the connection is kept, and reused
	id := r.Publish(map[string]any{
		"url": r.Receiver.URL + "/", "expires_at": time.Now().Add(time.Minute).UTC().Format(time.RFC3339),
	})
	w := r.RequireDelivered(id)
	if rows := r.Attempts(id); len(rows) != 3 || w.Attempts != 2 { // the thief's is unrecorded
		t.Errorf("recorded %+v with %+v", w, rows)
	}
	requireEmpty(t, r)
	if n := stored(t, r, consumer.StreamDead); n != 0 {
		t.Errorf("%d letters of an event that was delivered", n)
	}
}

// thief claims an event for another process, once, in the moment between the
// two attempts of a quick retry.
func thief(t *testing.T, r *relaytest.Relay) {
	t.Helper()
	for _, sql := range []string{
		`CREATE FUNCTION relay.steal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			NEW.claim := gen_random_uuid(); NEW.claimed_by := 'thief'; NEW.status := 'processing';
			NEW.claimed_until := now() + interval '2 seconds';
			RETURN NEW;
		END $$`,
		`CREATE TRIGGER steal BEFORE UPDATE ON relay.webhooks FOR EACH ROW
			WHEN (NEW.reason = 'once more at once' AND OLD.claimed_by IS NOT NULL AND NEW.claim IS NULL) EXECUTE FUNCTION relay.steal()`,
	} {
		if _, err := r.DB.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

func stored(t *testing.T, r *relaytest.Relay, name string) int {
	t.Helper()
	stream, err := r.JS.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return int(stream.CachedInfo().State.Msgs)
}

// requireStored waits until a stream holds n messages: an acknowledgement comes
// after the record.
func requireStored(t *testing.T, r *relaytest.Relay, name string, n int) {
	t.Helper()
	if !r.Eventually(func() bool { return stored(t, r, name) == n }) {
		t.Errorf("%d messages on %s, want %d", stored(t, r, name), name, n)
	}
}

// A replayed event dies again and is buried before the replay has removed its
// old letter, which is gone by then. The job goes on.
func TestALetterMayBeGoneBeforeTheReplayRemovesIt(t *testing.T) {
	t.Parallel()
	var r *relaytest.Relay
	var once sync.Once
	var id string
	r = relaytest.Start(t, relaytest.Options{Consumer: consumer.Options{At: func(p consumer.Point) {
		if p == consumer.AfterMove && stored(t, r, consumer.StreamQueue) == 0 { // of the replay
			once.Do(func() {
				r.Eventually(func() bool { w := r.Webhooks(id); return w[0].Generation == 1 && w[0].Status == "dead" })
				r.Eventually(func() bool { return r.Letter(r.Webhooks(id)[0]).Sequence > 1 })
			})
		}
	}}})
	r.Receiver.Always(relaytest.Status(http.StatusNotFound))
	id = r.Publish(map[string]any{"url": r.Receiver.URL})
	r.RequireDead(id)
	requireEmpty(t, r)
	if job := replay(t, r, "all"); job.Replayed != 1 {
		t.Errorf("%+v", job)
	}
	if letter := r.Letter(r.Webhooks(id)[0]); letter.Header.Get("Relay-Meta-Generation") != "1" {
		t.Errorf("the letter of the replay is gone, %v is left", letter.Header)
	}
}

// What relay adds to the headers of its own copies does not count against the
// limit: an event that was accepted stays acceptable wherever it waits.
func TestAnEventAtTheHeaderLimitCanWait(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{Consumer: consumer.Options{MaxSleep: 500 * time.Millisecond}})
	r.Receiver.Answer(http.StatusNotFound)
	m := raw(r.Receiver.URL, nil, "Relay-Id", "full", "Relay-Scheduled-At", time.Now().Add(2*time.Second).UTC().Format(time.RFC3339))
	m.Header.Set("X-Trace", strings.Repeat("x", relay.MaxMessageHeader-headerSize(m)-20))
	r.PublishMsg(m)
	if w := r.RequireDead("full"); w.Attempts != 1 {
		t.Errorf("recorded %+v", w)
	}
	replay(t, r, "all")
	r.RequireDelivered("full")
}

// A message with more headers than a letter can take is buried all the same,
// once.
func TestAMessageOfHeadersOnlyIsBuried(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	m := raw(r.Receiver.URL, []byte("body"), "Relay-Id", "heady")
	for i := range 60 {
		m.Header.Set("X-"+strconv.Itoa(i), strings.Repeat("x", 1060))
	}
	m.Header.Set("X-Rest", strings.Repeat("x", 65_500-headerSize(m)))
	r.PublishMsg(m)
	w := r.RequireDead("heady")
	if letter := r.Letter(w); !strings.Contains(w.Reason, "message headers") || string(letter.Data) != "body" {
		t.Errorf("recorded %+v, the letter is %v", w, letter.Header)
	}
	requireEmpty(t, r)
}

// A schedule of an earlier generation that arrives late, from a process that
// was cut off, does not take the place of the one that counts.
func TestALateScheduleOfAnOldGenerationReplacesNothing(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{
		Policy:   policy.Options{Schedule: []time.Duration{2 * time.Second}, Jitter: -1},
		Consumer: consumer.Options{MaxSleep: 500 * time.Millisecond},
	})
	r.Receiver.Answer(500, 404, 500) // then 200
	id := r.Publish(map[string]any{"url": r.Receiver.URL})
	old := schedule(t, r, id, 0)
	r.RequireDead(id)
	replay(t, r, "all")
	schedule(t, r, id, 1)
	late := nats.NewMsg(old.Subject)
	late.Data = old.Data
	for name, values := range old.Header {
		if !strings.HasPrefix(name, "Nats-") || strings.HasPrefix(name, "Nats-Schedule") {
			late.Header[name] = values
		}
	}
	r.PublishMsg(late)
	r.RequireDelivered(id)
	requireEmpty(t, r)
}

// schedule waits until a generation of an event waits as a schedule.
func schedule(t *testing.T, r *relaytest.Relay, id string, generation int) *jetstream.RawStreamMsg {
	t.Helper()
	var found *jetstream.RawStreamMsg
	if !r.Eventually(func() bool {
		stream, err := r.JS.Stream(t.Context(), consumer.StreamLater)
		if err != nil {
			t.Fatal(err)
		}
		found, err = stream.GetLastMsgForSubject(t.Context(), "webhooks.later.>")
		return err == nil && found.Header.Get("Relay-Meta-Generation") == strconv.Itoa(generation)
	}) {
		t.Fatalf("generation %d of %s has no schedule: %+v", generation, id, r.Webhooks(id))
	}
	return found
}

// A schedule that did not fire is found by its row and published, of whichever
// generation it is.
func TestAStuckScheduleIsPublishedAgain(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{
		Policy:   policy.Options{Schedule: []time.Duration{time.Hour}, Jitter: -1},
		Consumer: consumer.Options{Sweep: 100 * time.Millisecond},
	})
	r.Receiver.Answer(500, 404, 500) // then 200
	id := r.Publish(map[string]any{"url": r.Receiver.URL})
	stuck := func() {
		t.Helper()
		if _, err := r.DB.Exec(t.Context(), "UPDATE relay.webhooks SET next_due = now() - interval '2 minutes'"); err != nil {
			t.Fatal(err)
		}
	}
	schedule(t, r, id, 0)
	stuck()
	r.RequireDead(id)
	replay(t, r, "all")
	schedule(t, r, id, 1)
	stuck()
	if w := r.RequireDelivered(id); w.Attempts != 4 || w.Generation != 1 {
		t.Errorf("recorded %+v", w)
	}
	requireEmpty(t, r)
}

// A header that nats.go reads but does not write is left out of copies: else
// the message could neither wait elsewhere nor be buried.
func TestAHeaderThatCannotBeCopied(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	r.Receiver.Answer(http.StatusNotFound)
	head := "NATS/1.0\r\nRelay-Url: " + r.Receiver.URL + "\r\nRelay-Id: odd\r\nX Odd: 1\r\nX-Ödd: 2\r\n X-Folded: 3\r\nX-Even : 4\r\nX-Fine: 5\r\n\r\n"
	u, err := url.Parse(r.NATS.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "CONNECT {\"headers\":true,\"verbose\":false}\r\nHPUB %s %d %d\r\n%sbody\r\nPING\r\n",
		consumer.SubjectOutbound, len(head), len(head)+len("body"), head)
	if err != nil {
		t.Fatal(err)
	}
	letter := r.Letter(r.RequireStatus("odd", "dead"))
	if letter.Header.Get("X-Fine") != "5" || string(letter.Data) != "body" {
		t.Errorf("the letter is %v %q", letter.Header, letter.Data)
	}
	replay(t, r, "all")
	r.RequireDelivered("odd")
	requireEmpty(t, r)
}

// A replay breaks off between its copy and the letter's removal, and nobody
// asks for it again: the letter goes with the copy's end. (Fault campaign, seed
// 67: a cable to NATS was cut then.)
func TestALetterGoesWhenItsReplayBrokeOff(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		status  int
		letters int
	}{
		{"and is delivered", http.StatusOK, 0},
		{"and dies again", http.StatusGone, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := relaytest.Start(t)
			r.Receiver.Answer(http.StatusGone)
			id := r.Publish(map[string]any{"url": r.Receiver.URL})
			letter := r.Letter(r.RequireDead(id))
			r.Receiver.Always(relaytest.Status(tc.status))
			// What the replay had published before its process was killed.
			m := letterCopy(letter, "webhooks.due."+letter.Header.Get("Relay-Meta-Endpoint-Key"))
			m.Header.Set("Relay-Meta-Generation", "1")
			m.Header.Set("Relay-Meta-Letter", letter.Header.Get("Relay-Meta-Endpoint-Key"))
			r.PublishMsg(m)
			if !r.Eventually(func() bool { return r.Webhooks(id)[0].Generation == 1 && stored(t, r, consumer.StreamLater) == 0 }) {
				t.Fatalf("%+v", r.Webhooks(id))
			}
			requireEmpty(t, r)
			if n := stored(t, r, consumer.StreamDead); n != tc.letters {
				t.Errorf("%d letters, want %d", n, tc.letters)
			}
		})
	}
}

// A letter is stored, its answer is lost, and it is replayed and removed before
// its burial stores it once more. (Fault campaign, seed 72: the disk of NATS
// was full.)
func TestALetterThatWasReplayedIsNotBuriedAgain(t *testing.T) {
	t.Parallel()
	var r *relaytest.Relay
	var once atomic.Bool
	var id string
	r = relaytest.Start(t, relaytest.Options{Consumer: consumer.Options{At: func(p consumer.Point) {
		if p == consumer.AfterMove && !once.Swap(true) { // of the burial; the replay comes by here too
			letter := r.Letter(r.Webhooks(id)[0])
			replay(t, r, "all")
			r.Eventually(func() bool { return r.Webhooks(id)[0].Status == "delivered" && stored(t, r, consumer.StreamLater) == 0 })
			r.PublishMsg(letterCopy(letter, letter.Subject)) // the second try of the burial
		}
	}}})
	r.Receiver.Answer(http.StatusGone)
	id = r.Publish(map[string]any{"id": "buried-twice", "url": r.Receiver.URL})
	if !r.Eventually(func() bool { return stored(t, r, consumer.StreamQueue) == 0 }) {
		t.Fatal("the burial did not end")
	}
	if n := stored(t, r, consumer.StreamDead); n != 0 || r.Webhooks(id)[0].Generation != 1 {
		t.Errorf("%d letters of %+v, want none", n, r.Webhooks(id))
	}
}

// The same, but the process that buried it is killed before it finds out: the
// message comes again, of a generation that has passed.
func TestALetterOfAPassedGenerationGoesWithItsMessage(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	r.Receiver.Answer(http.StatusGone)
	id := r.Publish(map[string]any{"url": r.Receiver.URL})
	letter := r.Letter(r.RequireDead(id))
	replay(t, r, "all")
	r.RequireDelivered(id)
	r.PublishMsg(letterCopy(letter, letter.Subject))
	r.PublishMsg(letterCopy(letter, "webhooks.due."+letter.Header.Get("Relay-Meta-Endpoint-Key")))
	if !r.Eventually(func() bool { return stored(t, r, consumer.StreamLater) == 0 }) {
		t.Fatal("the message of the passed generation was not settled")
	}
	if n := stored(t, r, consumer.StreamDead); n != 0 {
		t.Errorf("%d letters, want none", n)
	}
}

// letterCopy is a letter's headers and body for another subject.
func letterCopy(letter *jetstream.RawStreamMsg, subject string) *nats.Msg {
	m := &nats.Msg{Subject: subject, Header: nats.Header{}, Data: letter.Data}
	for name, values := range letter.Header {
		if !strings.HasPrefix(name, "Nats-") {
			m.Header[name] = values
		}
	}
	return m
}
