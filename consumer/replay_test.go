package consumer_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

func withFilter(filter string) jetstream.StreamInfoOpt { return jetstream.WithSubjectFilter(filter) }

// replay asks for a replay and waits until its job is done.
func replay(t *testing.T, r *relaytest.Relay, request string) consumer.Job {
	t.Helper()
	job := requireEnded(t, r, consumer.SubjectJob, ask(t, r, consumer.SubjectReplay, request))
	if job.State != "done" {
		t.Fatalf("the replay of %q ended as %+v", request, job)
	}
	return job
}

// requireEnded waits until a job has ended, for as long as it gets on.
func requireEnded(t *testing.T, r *relaytest.Relay, subject string, job consumer.Job) consumer.Job {
	t.Helper()
	for job.State == "running" {
		at := job.Position
		if !r.Eventually(func() bool { job = ask(t, r, subject, job.ID); return job.State != "running" || job.Position > at }) {
			t.Fatalf("the job does not get on: %+v", job)
		}
	}
	return job
}

func ask(t *testing.T, r *relaytest.Relay, subject, request string) consumer.Job {
	t.Helper()
	answer, err := r.Conn.Request(subject, []byte(request), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var job consumer.Job
	if err := json.Unmarshal(answer.Data, &job); err != nil {
		t.Fatalf("%s answered %q: %v: %s", subject, answer.Data, err, answer.Header.Get("Nats-Service-Error"))
	}
	return job
}

func TestReplayOneARangeAnEndpointAndAll(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	other := relaytest.NewReceiver(t)
	other.Always(relaytest.Status(404))
	r.Receiver.Always(relaytest.Status(404))
	for i := range 6 {
		r.RequireDead(r.Publish(map[string]any{"url": r.Receiver.URL + "/a", "id": fmt.Sprint("r_", i)}))
	}
	for i := range 2 {
		r.RequireDead(r.Publish(map[string]any{"url": other.URL + "/b?secret=1", "id": fmt.Sprint("o_", i)}))
	}
	r.Receiver.Always(relaytest.Status(200))
	other.Always(relaytest.Status(200))

	if job := replay(t, r, "1"); job.Replayed != 1 {
		t.Errorf("one: %+v", job)
	}
	r.RequireDelivered("r_0")
	if w := r.Webhooks("r_1")[0]; w.Status != "dead" {
		t.Errorf("too much was replayed: %+v", w)
	}
	if job := replay(t, r, "2-3"); job.Replayed != 2 {
		t.Errorf("a range: %+v", job)
	}
	r.RequireDelivered("r_1")
	r.RequireDelivered("r_2")
	if job := replay(t, r, other.URL+"/b"); job.Replayed != 2 {
		t.Errorf("an endpoint: %+v", job)
	}
	r.RequireDelivered("o_1")
	if job := replay(t, r, "all"); job.Replayed != 3 {
		t.Errorf("all: %+v", job)
	}
	for i := range 6 {
		w := r.RequireDelivered(fmt.Sprint("r_", i))
		if w.Generation != 1 || w.Attempts != 2 {
			t.Errorf("recorded %+v", w)
		}
	}
	if job := replay(t, r, "all"); job.Replayed != 0 {
		t.Errorf("nothing is left, but %+v", job)
	}
	requireEmpty(t, r)
}

// The same letter, brought back twice, is delivered once: the claim accepts a
// generation only if it is newer.
func TestReplayingOneLetterTwiceDoesNothingTheSecondTime(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	r.Receiver.Answer(404)
	id := r.Publish(map[string]any{"url": r.Receiver.URL})
	letter := r.Letter(r.RequireDead(id))
	replay(t, r, "all")
	r.RequireDelivered(id)
	requireEmpty(t, r) // the end of the copy takes the letter away, too
	// The letter of before stands there again, as after a crash between the two steps of a replay.
	again := letterCopy(letter, letter.Subject)
	r.PublishMsg(again)
	if job := replay(t, r, "all"); job.Replayed != 1 {
		t.Errorf("%+v", job)
	}
	requireEmpty(t, r)
	if n := len(r.Receiver.Requests()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestAReplayStartsNewAttemptsUnderTheSameID(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	r.Receiver.Always(relaytest.Status(500))
	id := r.Publish(map[string]any{"url": r.Receiver.URL, "max_attempts": 2})
	r.RequireDead(id)
	replay(t, r, "all")
	if !r.Eventually(func() bool { w := r.Webhooks(id)[0]; return w.Generation == 1 && w.Status == "failed" }) {
		t.Fatalf("%+v", r.Webhooks(id))
	}
	as := r.Attempts(id)
	if len(as) != 4 || as[2].Number != 1 || as[2].Generation != 1 || as[3].Number != 2 {
		t.Errorf("attempts %+v", as)
	}
	for _, req := range r.Receiver.Requests() {
		if req.ID() != id {
			t.Errorf("a replay has another webhook-id: %s", req.ID())
		}
	}
}

func TestReplayRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	for _, request := range []string{"", "5-1", "a b c", "no.such", "http://127.0.0.1\\@example.com/"} {
		answer, err := r.Conn.Request(consumer.SubjectReplay, []byte(request), 5*time.Second)
		if err != nil || answer.Header.Get("Nats-Service-Error-Code") != "400" {
			t.Errorf("%q: %v, %v", request, answer, err)
		}
	}
}

func TestAJobThatNobodyKnowsIsAnswered(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	answer, err := r.Conn.Request(consumer.SubjectJob, []byte("gone"), 5*time.Second)
	if err != nil || answer.Header.Get("Nats-Service-Error-Code") != "404" || !strings.Contains(string(answer.Data), "gone") {
		t.Errorf("%v, %v", answer, err)
	}
}

// A replay waits while its copies cannot be stored, and goes on by itself.
func TestAReplayOutlastsARefusal(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	r.Receiver.Answer(410)
	id := r.Publish(map[string]any{"url": r.Receiver.URL})
	r.RequireDead(id)
	limit := func(size int32) {
		later, err := r.JS.Stream(t.Context(), consumer.StreamLater)
		if err != nil {
			t.Fatal(err)
		}
		config := later.CachedInfo().Config
		config.MaxMsgSize = size
		if _, err := r.JS.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	limit(1)                                        // byte a message
	job := ask(t, r, consumer.SubjectReplay, "all") // is answered after a second
	if job.State != "running" || job.Replayed != 0 {
		t.Fatalf("the job is %+v although nothing can be stored", job)
	}
	limit(-1)
	if !r.Eventually(func() bool { job = ask(t, r, consumer.SubjectJob, job.ID); return job.State != "running" }) ||
		job.State != "done" || job.Replayed != 1 {
		t.Errorf("the job ended as %+v", job)
	}
	r.RequireDelivered(id)
}
