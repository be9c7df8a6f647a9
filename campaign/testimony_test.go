package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/relaywebhooks/relay/consumer"
)

// testimony is the evidence of a campaign that never was, to be doctored.
type testimony struct {
	*evidence
	numbers int // of requests and events
}

const (
	first  = "vm/1" // killed by the first fault
	second = "vm/2"
	third  = "vm/3" // comes after the first
)

func sec(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// flawless is a small campaign in which everything is as it must be: one relay
// is killed with a request in flight, Postgres is away for five seconds, and
// events are delivered, retried, scheduled, buried and replayed.
func flawless() *testimony {
	t := &testimony{evidence: &evidence{
		began: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		left:  map[string]uint64{consumer.StreamQueue: 0, consumer.StreamLater: 0}, skewed: map[string]bool{}, states: map[string][]state{},
	}}
	for _, worker := range []string{first, second} {
		t.say(0, entry{What: sayStart, Worker: worker})
	}
	t.say(sec(0.5), entry{What: sayReady, Status: 200})
	t.say(sec(0.5), entry{What: sayGauge, Number: 4})
	t.say(sec(1), entry{What: sayUsage, Name: "warm", Worker: second, Seq: 100, Number: 30, Millis: 80})
	t.publish(sec(2), planOK, first, 200)
	t.publish(sec(3), planFlaky, second, 500, 500, 200)
	t.publish(sec(4), planLate, second, 200)
	t.bury(t.publish(sec(5), planGone, first, 410))
	t.replayed(t.publish(sec(6), planGone, first, 410, 200))

	t.fault(sec(10), sec(11), "kill-relay")
	t.say(sec(10), entry{What: sayGone, Worker: first})
	t.interrupted(sec(9.99), first)
	t.say(sec(11), entry{What: sayStart, Worker: third})
	t.flow(sec(12))

	t.fault(sec(20), sec(25), "kill-postgres")
	t.say(sec(21), entry{What: sayReady, Status: 503})
	t.say(sec(21), entry{What: sayGauge, Number: 4, Note: "postgres queues"})
	t.say(sec(25.1), entry{What: sayReady, Status: 200})
	t.flow(sec(26))
	t.operate()

	t.say(sec(60), entry{What: sayEbb})
	t.say(sec(64), entry{What: sayDrained})
	t.say(sec(64.1), entry{What: sayUsage, Name: "drained", Worker: second, Seq: 110, Number: 31, Millis: 90})
	for _, worker := range []string{second, third} {
		t.say(sec(65), entry{What: sayEnded, Worker: worker})
	}
	return t
}

// operate has a registered endpoint held, its secret rotated and its settings
// changed, with requests that know of it and some that may not yet.
func (t *testimony) operate() {
	k1, k2 := signing{print: "k1"}, signing{print: "k2"}
	old := signing{print: "k1", until: t.began.Add(sec(32))}
	for _, s := range []struct {
		at float64
		state
	}{
		{1, state{version: "1", secrets: []signing{k1}}},
		{14, state{version: "1", secrets: []signing{k1}, held: true}},
		{16, state{version: "1", secrets: []signing{k1}}},
		{28, state{version: "1", secrets: []signing{k2, old}}},
		{40, state{version: "2", secrets: []signing{k2, old}}},
	} {
		s.state.at = t.began.Add(sec(s.at))
		t.states["shop"] = append(t.states["shop"], s.state)
	}
	t.order(sec(5), "1", "k1")
	t.order(sec(14.5), "1", "k1")
	t.order(sec(17), "1", "k1")
	t.order(sec(28.5), "1", "k1")
	t.order(sec(30), "1", "k2 k1")
	t.order(sec(36), "1", "k2")
	t.order(sec(40.5), "1", "k2")
	t.order(sec(45), "2", "k2")
}

// order is an event for the registered endpoint, sent by such settings and signed
// with such secrets.
func (t *testimony) order(at time.Duration, version, keys string) *event {
	return t.ordered(version, keys, func() *event { return t.publish(at, planOK, second, 200) })
}

// ordered has an event be one for the registered endpoint.
func (t *testimony) ordered(version, keys string, publish func() *event) *event {
	from := len(t.history)
	v := publish()
	v.endpoint = "shop"
	for i := range t.history[from:] {
		e := &t.history[from+i]
		if e.Path != "" {
			e.Path = registeredPath + "shop"
		}
		if e.What == sayRequest {
			e.Name, e.Keys = version, keys
		}
	}
	return v
}

func (t *testimony) say(at time.Duration, e entry) {
	e.At = t.began.Add(at)
	t.history = append(t.history, e)
}

// forget takes entries out of the history.
func (t *testimony) forget(what string) {
	t.history = slices.DeleteFunc(t.history, func(e entry) bool { return e.What == what && e.At.After(t.began.Add(sec(1))) })
}

func (t *testimony) fault(from, to time.Duration, name string) {
	t.numbers++
	t.say(from, entry{What: sayFault, Number: t.numbers, Name: name})
	t.say(to, entry{What: sayHeal, Number: t.numbers, Name: name})
}

// publish makes an event and an attempt for each status, in time.
func (t *testimony) publish(at time.Duration, how plan, worker string, statuses ...int) *event {
	t.numbers++
	v := &event{
		key: fmt.Sprintf("%d-%d", t.numbers, t.numbers), id: fmt.Sprintf("c1_%s_%06d", how, t.numbers), seq: int64(t.numbers),
		status: "delivered", place: "gone",
	}
	t.events = append(t.events, v)
	t.say(at, entry{What: sayIntend, ID: v.id, Path: "/fine/0", Hash: "h"})
	t.say(at, entry{What: sayAcked, ID: v.id, Seq: uint64(t.numbers)})
	at += 2 * time.Millisecond
	for i, status := range statuses {
		t.attempt(v, at, worker, "response", status)
		at += 20*time.Millisecond + schedule[i]
	}
	return v
}

// attempt adds a request and its row. Without a status there is no request.
func (t *testimony) attempt(v *event, at time.Duration, worker, kind string, status int) *row {
	if status > 0 {
		t.numbers++
		t.say(at+time.Millisecond, entry{What: sayRequest, ID: v.id, Path: "/fine/0", Hash: "h", Number: t.numbers})
		t.say(at+2*time.Millisecond, entry{What: sayAnswer, ID: v.id, Number: t.numbers, Status: status})
	}
	number := v.attempts + 1
	r := &row{
		key: v.key, attempt: fmt.Sprint(len(t.rows)), kind: kind, worker: worker, number: number,
		generation: v.generation, started: t.began.Add(at), took: 5 * time.Millisecond,
	}
	if kind == "response" {
		r.status, r.success = status, status/100 == 2
	}
	if kind != "unrecorded" {
		v.attempts++
	}
	t.rows = append(t.rows, r)
	return r
}

// interrupted is an event whose first attempt nobody recorded, although it was
// answered; the second relay has tried it again.
func (t *testimony) interrupted(at time.Duration, worker string) *event {
	v := t.publish(at, planOK, worker)
	t.attempt(v, at, worker, "unrecorded", 200)
	t.attempt(v, at+ackWait, second, "response", 200)
	return v
}

// flow has both relays work.
func (t *testimony) flow(at time.Duration) {
	t.publish(at, planOK, second, 200)
	t.publish(at, planOK, third, 200)
}

func (t *testimony) bury(v *event) {
	v.status, v.place = "dead", "dead letters"
	t.letters = append(t.letters, letter{key: v.key, id: v.id})
}

// replayed has an event's last attempt be that of a replayed letter.
func (t *testimony) replayed(v *event) {
	v.generation = 1
	last := t.rows[len(t.rows)-1]
	last.generation, last.number = 1, 1
}

// judge has the checker look at it.
func (t *testimony) judge() verdict {
	slices.SortStableFunc(t.history, func(a, b entry) int { return a.At.Compare(b.At) })
	slices.SortStableFunc(t.rows, func(a, b *row) int { return a.started.Compare(b.started) })
	return t.check()
}
