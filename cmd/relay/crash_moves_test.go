package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// Every move is a copy that is stored and an original that is then removed. A
// process that dies between the two leaves both; these tests kill it there.

// promptAckWait is shorter than that of the other crash tests: most of the time
// of these is waiting for it. It is also how long a claim lasts, so a machine
// that is very busy must still be able to make a request and record it in time.
const promptAckWait = 2500 * time.Millisecond

func promptStageOn(t *testing.T, natsURL string) *stage {
	t.Helper()
	return &stage{
		Relay: relaytest.Observe(t, natsURL, testdb.New(t), consumer.StreamOptions{AckWait: promptAckWait}),
		t:     t, natsURL: natsURL,
	}
}

// startPrompt is start for a stage of promptStageOn.
func (s *stage) startPrompt(crashAt string, set ...string) *process {
	s.t.Helper()
	return s.start(crashAt, append(set, "consumer.ack_wait="+promptAckWait.String())...)
}

// patientAckWait is for tests in which the process that dies has no message in
// hand: nothing waits for it, so a claim may last as long as it does by default.
const patientAckWait = 45 * time.Second

func patientStage(t *testing.T) *stage {
	t.Helper()
	server := relaytest.StartNATS(t).ClientURL()
	return &stage{
		Relay: relaytest.Observe(t, server, testdb.New(t), consumer.StreamOptions{AckWait: patientAckWait}),
		t:     t, natsURL: server,
	}
}

// startPatient is start for a stage of patientStage.
func (s *stage) startPatient(crashAt string, set ...string) *process {
	s.t.Helper()
	return s.start(crashAt, append(set, "consumer.ack_wait="+patientAckWait.String())...)
}

// after is the n-th time that a copy was stored and its original not yet
// removed.
func after(n string) string { return string(consumer.AfterMove) + ":" + n }

// pauseDue keeps copies that have come due on their stream, so that none is
// under way in the process that dies. What it returns lets them go.
func (s *stage) pauseDue() (resume func()) {
	s.t.Helper()
	_, err := s.JS.PauseConsumer(s.t.Context(), consumer.StreamLater, consumer.DurableDue, time.Now().Add(time.Hour))
	if err != nil {
		s.t.Fatal(err)
	}
	return func() {
		s.t.Helper()
		if _, err := s.JS.ResumeConsumer(s.t.Context(), consumer.StreamLater, consumer.DurableDue); err != nil {
			s.t.Fatal(err)
		}
	}
}

// on counts the messages of WEBHOOKS_LATER on subjects that fit.
func (s *stage) on(subjects string) int {
	s.t.Helper()
	stream, err := s.JS.Stream(s.t.Context(), consumer.StreamLater)
	if err != nil {
		s.t.Fatal(err)
	}
	info, err := stream.Info(s.t.Context(), jetstream.WithSubjectFilter(subjects))
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for _, count := range info.State.Subjects {
		n += int(count)
	}
	return n
}

// requireCounts holds the requests of all webhooks and the rows of one to what
// they must be, and finds no attempt that is not recorded.
func (s *stage) requireCounts(id string, requests, responses int) {
	s.t.Helper()
	rows := s.rows(id)
	if got := len(s.Receiver.Requests()); got != requests || rows["response"] != responses || len(rows) != 1 {
		s.t.Errorf("%d requests and the rows %v of %s; want %d requests and %d responses", got, rows, id, requests, responses)
	}
}

// A retry in an hour is stored as a schedule, and relay dies. The message comes
// again, is not due, and is scheduled a second time, in the place of the first.
func TestCrashBetweenAScheduleAndTheAcknowledgement(t *testing.T) {
	t.Parallel()
	s := promptStageOn(t, relaytest.StartNATS(t).ClientURL())
	s.Receiver.Answer(http.StatusInternalServerError)
	crashing := s.startPrompt(after("1"), "policy.schedule=1h")
	id := s.Publish(map[string]any{"url": s.Receiver.URL})
	crashing.died()
	if queue, later := s.stored(consumer.StreamQueue), s.on("webhooks.later.>"); queue != 1 || later != 1 {
		t.Fatalf("%d in the queue and %d scheduled, want the message and its copy", queue, later)
	}
	s.startPrompt("", "policy.schedule=1h")
	if !s.Eventually(func() bool { return s.stored(consumer.StreamQueue) == 0 }) || s.on("webhooks.>") != 1 {
		t.Fatalf("%d messages in the queue, %d later, want one schedule alone", s.stored(consumer.StreamQueue), s.on("webhooks.>"))
	}
	s.requireCounts(id, 1, 1)
	// The hour passes: the sweep takes the schedule for one that did not fire.
	if _, err := s.DB.Exec(t.Context(), "UPDATE relay.webhooks SET next_due = now() - interval '2 minutes'"); err != nil {
		t.Fatal(err)
	}
	s.RequireDelivered(id)
	s.requireEmpty()
	s.requireCounts(id, 2, 2)
}

// An event is parked behind an open circuit, and relay dies. The next process
// delivers it from the queue; the copy in the lane finds it delivered.
func TestCrashBetweenParkingAndTheAcknowledgement(t *testing.T) {
	t.Parallel()
	s := promptStageOn(t, relaytest.StartNATS(t).ClientURL())
	s.Receiver.Answer(http.StatusInternalServerError)
	crashing := s.startPrompt(after("1"), brittle...)
	id := s.Publish(map[string]any{"url": s.Receiver.URL})
	crashing.died()
	if queue, parked := s.stored(consumer.StreamQueue), s.on("webhooks.parked.>"); queue != 1 || parked != 1 {
		t.Fatalf("%d in the queue and %d parked, want the message and its copy", queue, parked)
	}
	s.endPauses()
	s.startPrompt("")
	s.RequireDelivered(id)
	s.requireEmpty()
	s.requireCounts(id, 2, 2)
}

// brittle opens a circuit at the first failure, for longer than a test; a process
// that comes later would know of it.
var brittle = []string{"policy.circuit.failures=1", "policy.circuit.executions=1", "policy.circuit.delay=1h"}

// A lane is drained, and relay dies when the copies are stored in their batch
// and the lane still holds what they are copies of. The next process takes them
// from the lane once more; each is sent once.
func TestCrashInTheMiddleOfADrain(t *testing.T) {
	t.Parallel()
	s := patientStage(t)
	s.Receiver.Answer(http.StatusInternalServerError)
	parking := s.startPatient("", brittle...)
	ids := []string{s.Publish(map[string]any{"url": s.Receiver.URL})}
	if !s.Eventually(func() bool { return s.on("webhooks.parked.>") == 1 }) { // the circuit is open
		t.Fatal("the first event is not parked")
	}
	for range 2 {
		ids = append(ids, s.Publish(map[string]any{"url": s.Receiver.URL}))
	}
	if !s.Eventually(func() bool { return s.on("webhooks.parked.>") == 3 && s.stored(consumer.StreamQueue) == 0 }) {
		t.Fatalf("%d parked, want 3", s.on("webhooks.parked.>"))
	}
	parking.kill()
	s.endPauses()

	resume := s.pauseDue()
	s.startPatient(after("1")).died()
	if parked, due := s.on("webhooks.parked.>"), s.on("webhooks.due.>"); parked != 3 || due != 1 {
		t.Fatalf("%d parked and %d due, want all three and one copy", parked, due)
	}
	resume()
	s.startPatient("")
	for i, id := range ids {
		s.RequireDelivered(id)
		s.requireCounts(id, len(s.Receiver.Requests()), map[bool]int{true: 2, false: 1}[i == 0])
	}
	s.requireEmpty()
	if n := len(s.Receiver.Requests()); n != 4 {
		t.Errorf("%d requests for one failure and three deliveries", n)
	}
}

// A letter is replayed, and relay dies when the copy is stored and the letter
// not yet removed. The next process sends the copy, once, and removes the letter
// that it was made of.
func TestCrashInTheMiddleOfAReplay(t *testing.T) {
	t.Parallel()
	s := patientStage(t)
	s.Receiver.Answer(http.StatusNotFound)
	crashing := s.startPatient(after("2")) // the first is the letter's own
	id := s.Publish(map[string]any{"url": s.Receiver.URL})
	s.RequireDead(id)
	s.requireEmpty()
	resume := s.pauseDue()
	if err := s.Conn.Publish(consumer.SubjectReplay, []byte("all")); err != nil {
		t.Fatal(err)
	}
	crashing.died()
	if letters, due := s.letters(), s.on("webhooks.due.>"); letters != 1 || due != 1 {
		t.Fatalf("%d letters and %d copies, want one of each", letters, due)
	}
	resume()
	s.startPatient("")
	if w := s.RequireDelivered(id); w.Generation != 1 {
		t.Errorf("recorded %+v", w)
	}
	s.requireEmpty()
	s.requireCounts(id, 2, 2)
	if n := s.letters(); n != 0 {
		t.Errorf("%d letters of a delivered event", n)
	}
}
