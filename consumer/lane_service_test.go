package consumer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// startWithLane starts a relay whose receiver is well again, and n events
// parked for it behind a circuit that stays open for longer than the test.
func startWithLane(t *testing.T, n int, o consumer.Options) *relaytest.Relay {
	t.Helper()
	options := circuitOptions()
	options.Consumer = o
	return startLane(t, n, options)
}

// startLane is startWithLane with other policies.
func startLane(t *testing.T, n int, options relaytest.Options) *relaytest.Relay {
	t.Helper()
	options.Policy.Circuit.Delay = 10 * time.Minute
	options.Consumer.Sweep = 200 * time.Millisecond
	r := relaytest.Start(t, options)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	for i := range 3 {
		r.RequireDead(r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("opens_", i), "max_attempts": 1}))
	}
	for i := range n {
		r.Publish(map[string]any{"url": r.Receiver.URL + "/?token=secret", "id": fmt.Sprint("parked_", i)})
	}
	requireParked(t, r, n)
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	return r
}

func requireParked(t *testing.T, r *relaytest.Relay, n int) {
	t.Helper()
	if !r.Eventually(func() bool { return count(t, r, "webhooks.parked.>") == n }) {
		t.Fatalf("%d parked, want %d", count(t, r, "webhooks.parked.>"), n)
	}
}

// lanes asks for the lanes.
func lanes(t *testing.T, r *relaytest.Relay, which string) consumer.Lanes {
	t.Helper()
	answer, err := r.Conn.Request(consumer.SubjectLanes, []byte(which), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var all consumer.Lanes
	if err := json.Unmarshal(answer.Data, &all); err != nil {
		t.Fatalf("%q: %v", answer.Data, err)
	}
	return all
}

// laneJob asks for a job on lanes and waits until it is done.
func laneJob(t *testing.T, r *relaytest.Relay, subject, request string) consumer.Job {
	t.Helper()
	job := requireEnded(t, r, "relay.lanes.job", ask(t, r, subject, request))
	if job.State != "done" {
		t.Fatalf("%s %q ended as %+v", subject, request, job)
	}
	return job
}

func TestLanesAreListed(t *testing.T) {
	t.Parallel()
	r := startWithLane(t, 7, consumer.Options{})
	all := lanes(t, r, "")
	if all.Count != 1 || all.Events != 7 || len(all.Lanes) != 1 {
		t.Fatalf("%+v", all)
	}
	lane := all.Lanes[0]
	if lane.Endpoint != r.Webhooks("parked_0")[0].EndpointKey || lane.Events != 7 || lane.State != consumer.LaneWaiting ||
		lane.Rest <= 0 || lane.Rest > 7200 || lane.Oldest <= 0 || lane.Oldest > 60 || lane.URL != r.Receiver.URL+"/" {
		t.Errorf("%+v", lane)
	}
	for which, want := range map[string]int{lane.Endpoint: 1, r.Receiver.URL: 1, "https://elsewhere.example/": 0, "unknown": 0} {
		if got := lanes(t, r, which); got.Count != want || len(got.Lanes) != want {
			t.Errorf("%q: %+v", which, got)
		}
	}
	if !r.Eventually(func() bool { s := r.Consumer.Stats(); return s.Lanes == 1 && s.Parked == 7 }) {
		t.Errorf("%+v", r.Consumer.Stats())
	}
	if n := len(r.Receiver.Requests()); n != 3 {
		t.Errorf("%d requests while the endpoint rests, want none but the 3 that opened its circuit", n)
	}
}

// An operator who knows that an endpoint is well does not wait for its circuit.
func TestALaneIsDrainedAtOnce(t *testing.T) {
	t.Parallel()
	r := startWithLane(t, 30, consumer.Options{})
	answer, err := r.Conn.Request(consumer.SubjectDrain, []byte(r.Receiver.URL), 5*time.Second)
	if err != nil || answer.Header.Get("Nats-Service-Error") != "" || !strings.Contains(string(answer.Data), `"state":`) {
		t.Fatalf("%v %v", answer, err)
	}
	for i := range 30 {
		r.RequireDelivered(fmt.Sprint("parked_", i))
	}
	requireEmpty(t, r)
	if !r.Eventually(func() bool { s := r.Consumer.Stats(); return s.Lanes == 0 && s.Parked == 0 }) {
		t.Errorf("%+v", r.Consumer.Stats())
	}
}

// What an operator gives up goes to the dead letters with the reason, is
// recorded, and can be replayed. The endpoint is not called.
func TestALaneIsBuried(t *testing.T) {
	t.Parallel()
	const n = 130
	r := startWithLane(t, n, consumer.Options{ReplayRate: 60})
	job := ask(t, r, consumer.SubjectBury, r.Receiver.URL+" gone for\tgood") // at 60 a second
	if job.State != "running" || job.Buried > 80 || job.Position >= job.Last {
		t.Fatalf("after a second the job is %+v", job)
	}
	late := r.Publish(map[string]any{"url": r.Receiver.URL}) // not meant
	if job = requireEnded(t, r, "relay.lanes.job", job); job.State != "done" || job.Buried != n {
		t.Fatalf("%+v", job)
	}
	for i := range n {
		w := r.RequireDead(fmt.Sprint("parked_", i))
		if w.Reason != "buried: gone for good" || w.Attempts != 0 {
			t.Fatalf("recorded %+v", w)
		}
		if l := r.Letter(w); l.Header.Get("Relay-Meta-Reason") != w.Reason || l.Header.Get("Relay-Meta-Bury") != "" {
			t.Fatalf("the letter has %v", l.Header)
		}
	}
	requireParked(t, r, 1)
	if w := r.Webhooks(late)[0]; w.Status != "pending" || len(r.Receiver.Requests()) != 3 {
		t.Errorf("%+v, %d requests", w, len(r.Receiver.Requests()))
	}
	drain(t, r, r.Receiver.URL)
	replay(t, r, "all")
	for i := range n {
		r.RequireDelivered(fmt.Sprint("parked_", i))
	}
	requireEmpty(t, r)
}

// A burial that breaks off when the copies are stored leaves what they are
// copies of in the lane. Nothing comes of that: no second letter, no request.
func TestABurialThatBrokeOffLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	const n = 5
	r := startWithLane(t, n, consumer.Options{})
	stream, err := r.JS.Stream(t.Context(), consumer.StreamLater)
	if err != nil {
		t.Fatal(err)
	}
	var before []*jetstream.RawStreamMsg
	for seq := uint64(1); len(before) < n; seq = before[len(before)-1].Sequence + 1 {
		raw, err := stream.GetMsg(t.Context(), seq, jetstream.WithGetMsgSubject("webhooks.parked.>"))
		if err != nil {
			t.Fatal(err)
		}
		before = append(before, raw)
	}
	laneJob(t, r, consumer.SubjectBury, r.Receiver.URL)
	for i := range n {
		r.RequireDead(fmt.Sprint("parked_", i))
	}
	for _, raw := range before {
		r.PublishMsg(letterCopy(raw, raw.Subject))
	}
	if job := laneJob(t, r, consumer.SubjectBury, before[0].Subject[len("webhooks.parked."):]); job.Buried != n {
		t.Errorf("%+v", job)
	}
	for _, raw := range before { // and once more, on the ordinary way
		r.PublishMsg(letterCopy(raw, raw.Subject))
	}
	drain(t, r, r.Receiver.URL)
	requireEmpty(t, r)
	letters, err := r.JS.Stream(t.Context(), consumer.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	if state := letters.CachedInfo().State; state.Msgs != n+3 || state.LastSeq != n+3 || len(r.Receiver.Requests()) != 3 {
		t.Errorf("%d letters, the last is number %d, and %d requests", state.Msgs, state.LastSeq, len(r.Receiver.Requests()))
	}
}

func TestWhatIsParkedForTooLongExpires(t *testing.T) {
	t.Parallel()
	r := startWithLane(t, 3, consumer.Options{})
	between := time.Now()
	<-time.After(2 * time.Second) // the age is counted from when relay reads the request
	for i := range 2 {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("young_", i)})
	}
	over := time.Now().Add(1500 * time.Millisecond)
	r.Publish(map[string]any{"url": r.Receiver.URL, "id": "over", "expires_at": over.Format(time.RFC3339Nano)})
	requireParked(t, r, 6)
	if job := laneJob(t, r, consumer.SubjectExpire, r.Receiver.URL+" 24h"); job.Buried != 0 {
		t.Errorf("nothing is that old, but %+v", job)
	}
	if job := laneJob(t, r, consumer.SubjectExpire, r.Receiver.URL+" "+time.Since(between).String()); job.Buried != 3 {
		t.Errorf("%+v", job)
	}
	for i := range 3 {
		if w := r.RequireDead(fmt.Sprint("parked_", i)); !strings.HasPrefix(w.Reason, "expired: parked for longer than ") {
			t.Errorf("recorded %+v", w)
		}
	}
	buried := 0
	if !r.Eventually(func() bool { // its own time is over: no age is needed
		buried += laneJob(t, r, consumer.SubjectExpire, r.Receiver.URL).Buried
		return buried == 1
	}) {
		t.Errorf("%d expired", buried)
	}
	if w := r.RequireDead("over"); !strings.HasPrefix(w.Reason, "expired: not delivered by ") || time.Now().Before(over) {
		t.Errorf("recorded %+v", w)
	}
	requireParked(t, r, 2)
	if n := len(r.Receiver.Requests()); n != 3 {
		t.Errorf("%d requests", n)
	}
}

func TestTheServiceOfLanesRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	for _, c := range [][2]string{
		{consumer.SubjectDrain, ""},
		{consumer.SubjectDrain, "no.such"},
		{consumer.SubjectLanes, "webhooks.>"},
		{consumer.SubjectBury, ""},
		{consumer.SubjectBury, "* because"},
		{consumer.SubjectExpire, ""},
		{consumer.SubjectExpire, "key tomorrow"},
		{consumer.SubjectExpire, "key -1h"},
		{consumer.SubjectExpire, "http://127.0.0.1\\@example.com/ 1h"},
	} {
		answer, err := r.Conn.Request(c[0], []byte(c[1]), 5*time.Second)
		if err != nil || answer.Header.Get("Nats-Service-Error-Code") != "400" {
			t.Errorf("%s %q: %v, %v", c[0], c[1], answer, err)
		}
	}
}

// An endpoint may be named as producers name it.
func TestALaneIsFoundByItsEndpointsName(t *testing.T) {
	t.Parallel()
	receiver := relaytest.NewReceiver(t)
	receiver.Always(relaytest.Status(http.StatusInternalServerError))
	options := circuitOptions()
	options.Endpoints = []relay.Endpoint{{Name: "orders", URL: receiver.URL}}
	options.Policy.Circuit.Delay = 10 * time.Minute
	r := relaytest.Start(t, options)
	for i := range 5 {
		r.Publish(map[string]any{"endpoint": "orders", "id": fmt.Sprint("o_", i)})
	}
	if !r.Eventually(func() bool { return lanes(t, r, "orders").Events > 0 }) {
		t.Fatal("nothing is parked")
	}
	if lane := lanes(t, r, "orders").Lanes[0]; lane.Name != "orders" {
		t.Errorf("%+v", lane)
	}
	if job := laneJob(t, r, consumer.SubjectBury, "orders"); job.Buried == 0 {
		t.Errorf("%+v", job)
	}
}
