package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/consumer"
)

// What must not be found where everything is as it must be.
func TestTheCheckerAcceptsWhatIsExplained(t *testing.T) {
	for name, add := range map[string]func(*testimony){
		"nothing else": func(*testimony) {},
		"a pause that outlasts its claim": func(e *testimony) {
			e.fault(sec(32), sec(36), "pause-relay")
			e.say(sec(32), entry{What: sayPaused, Worker: second, Millis: 4000})
			e.interrupted(sec(31.99), second)
			e.flow(sec(37))
		},
		"a short pause, and Postgres away when it ends": func(e *testimony) {
			e.fault(sec(32), sec(32.5), "pause-relay")
			e.say(sec(32), entry{What: sayPaused, Worker: second, Millis: 500})
			e.fault(sec(32.6), sec(36), "stop-postgres")
			e.interrupted(sec(31.99), second)
			e.flow(sec(37))
		},
		"an answer that the cable of the receiver lost": func(e *testimony) {
			e.fault(sec(32), sec(33), "deaf-receiver")
			v := e.publish(sec(32.5), planOK, second)
			e.attempt(v, sec(32.5), second, "error", 200)
			e.attempt(v, sec(34), second, "response", 200)
			e.flow(sec(35))
		},
		"an answer that came while the machine had no time": func(e *testimony) {
			v := e.publish(sec(31), planOK, second)
			r := e.attempt(v, sec(31), second, "error", 200)
			r.class, r.took = "timeout", requestTimeout
			e.say(sec(31.5), entry{What: sayLag, Millis: 300})
			e.attempt(v, sec(33), second, "response", 200)
		},
		"a hold that was written while Postgres was away from a relay": func(e *testimony) {
			e.fault(sec(46), sec(49), "hole-postgres")
			e.hold(sec(47), sec(52))
			e.order(sec(49.9), "2", "k2")
			e.flow(sec(50))
		},
		"a request that may have been either of two attempts": func(e *testimony) {
			e.ordered("2", "k2", func() *event {
				v := e.publish(sec(38.5), planOK, second)
				e.attempt(v, sec(38.5), second, "error", 0) // it did not arrive
				e.attempt(v, sec(40.5), second, "error", 500)
				e.attempt(v, sec(42), second, "response", 200)
				return v
			})
		},
		"a rotation that was written long after it was asked for": func(e *testimony) {
			e.say(sec(28.1), entry{What: sayAsked, Name: "rotate", Path: registeredPath + "shop", Millis: 3000})
			e.states["shop"][3].secrets[1].until = e.began.Add(sec(29.9))
		},
		"a lane that is held for long": func(e *testimony) {
			e.hold(sec(46), sec(58))
			for at := sec(26); at < sec(58); at += sec(1) {
				e.say(at, entry{What: sayLane, Name: "all", Seq: 1})
				e.say(at, entry{What: sayLane, Name: "shop", Seq: 3})
			}
		},
		"a try right after a 410": func(e *testimony) {
			v := e.publish(sec(50), planOK, second, 410)
			e.attempt(v, sec(50.06), second, "response", 200)
		},
		"an error that the endpoint answered 500": func(e *testimony) {
			v := e.publish(sec(31), planOK, second)
			e.attempt(v, sec(31), second, "error", 500)
			e.attempt(v, sec(32), second, "response", 200)
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := flawless()
			add(e)
			for _, x := range e.judge().Violations {
				t.Errorf("%s %s: %s", x.Invariant, x.ID, x.What)
			}
		})
	}
}

// Each row doctors the evidence of a campaign in one way, and the checker must
// find the invariant broken that it is about, and no other.
func TestTheCheckerFindsEveryBrokenInvariant(t *testing.T) {
	for _, c := range []struct {
		invariant, name string
		doctor          func(*testimony)
	}{
		{"I1", "confirmed, and in no row", func(e *testimony) {
			e.say(sec(30), entry{What: sayIntend, ID: "c1_ok_x"})
			e.say(sec(30), entry{What: sayAcked, ID: "c1_ok_x", Seq: 7777})
		}},
		{"I1", "delivered by its row alone", func(e *testimony) { e.publish(sec(30), planOK, second) }},
		{"I1", "failed, and waiting for ever", func(e *testimony) {
			v := e.publish(sec(30), planOK, second, 500)
			v.status, v.place = "failed", "queue"
		}},
		{"I2", "another body", func(e *testimony) { e.alter(sayRequest, func(q *entry) { q.Hash = "other" }) }},
		{"I2", "another path", func(e *testimony) { e.alter(sayRequest, func(q *entry) { q.Path = "/other" }) }},
		{"I2", "a false signature", func(e *testimony) { e.alter(sayRequest, func(q *entry) { q.Note = "signature: no match" }) }},
		{"I3", "a request without a row", func(e *testimony) {
			v := e.publish(sec(30), planOK, second, 500, 200)
			e.rows = slices.Delete(e.rows, len(e.rows)-2, len(e.rows)-1)
			v.attempts--
		}},
		{"I4", "a row without a request", func(e *testimony) {
			v := e.publish(sec(30), planOK, second, 200)
			r := e.attempt(v, sec(20), second, "response", 0)
			r.status = 500
		}},
		{"I4", "a row with another answer", func(e *testimony) {
			v := e.publish(sec(30), planOK, second, 500, 200)
			v.attempts++
			e.rows = append(e.rows, &row{key: v.key, kind: "response", status: 503, worker: second, number: 3, started: e.began.Add(sec(40))})
		}},
		{"I4", "a 200 that is no success", func(e *testimony) { e.rows[0].success = false }},
		{"I5", "a message is left on the queue", func(e *testimony) { e.left[consumer.StreamQueue] = 1 }},
		{"I5", "a message is left in a lane", func(e *testimony) { e.left[consumer.StreamLater] = 1 }},
		{"I5", "a claim that nobody ends", func(e *testimony) { e.events[0].claimed = true }},
		{"I6", "two successes, and no fault", func(e *testimony) { e.again(sec(30), "response") }},
		{"I6", "two successes at SIGTERM", func(e *testimony) {
			e.fault(sec(29), sec(31), "stop-relay")
			e.again(sec(30), "response")
			e.flow(sec(32))
		}},
		{"I6", "an unrecorded attempt, and no fault", func(e *testimony) { e.interrupted(sec(30), second) }},
		{"I6", "an unrecorded attempt at SIGTERM", e6("stop-relay")},
		{"I6", "an unrecorded attempt at an upgrade", e6("upgrade")},
		{"I6", "an unrecorded attempt at a kill of NATS", e6("kill-nats")},
		{"I6", "an unrecorded attempt at a cut of NATS", e6("cut-nats")},
		{"I6", "an unrecorded attempt in a partition", e6("partition-leader")},
		{"I6", "an unrecorded attempt at a kill of Postgres", e6("kill-postgres")},
		{"I6", "an unrecorded attempt at a cut of Postgres", e6("cut-postgres")},
		{"I6", "an unrecorded attempt at an unknown commit", e6("commit-unknown")},
		{"I6", "an unrecorded attempt after a pause shorter than its claim", func(e *testimony) {
			e.fault(sec(32), sec(32.5), "pause-relay")
			e.say(sec(32), entry{What: sayPaused, Worker: second, Millis: 500})
			e.interrupted(sec(31.99), second)
			e.flow(sec(36))
		}},
		{"I6", "an unrecorded attempt of another process than the killed one", func(e *testimony) { e.interrupted(sec(9.98), second) }},
		{"I6", "an answer that got lost for no reason", func(e *testimony) { e.again(sec(30), "error") }},
		{"I6", "an answer that timed out for no reason", func(e *testimony) {
			v := e.publish(sec(31), planOK, second)
			r := e.attempt(v, sec(31), second, "error", 200)
			r.class, r.took = "timeout", requestTimeout
			e.attempt(v, sec(33), second, "response", 200)
		}},
		{"I6", "more interrupted than can have been in flight", func(e *testimony) {
			for range mostInFlight {
				e.interrupted(sec(9.99), first)
			}
		}},
		{"I7", "a letter of a delivered event", func(e *testimony) {
			e.letters = append(e.letters, letter{key: e.events[0].key, id: e.events[0].id})
		}},
		{"I7", "two letters of one event", func(e *testimony) { e.letters = append(e.letters, e.letters[0]) }},
		{"I8", "a try before its time", func(e *testimony) {
			v := e.publish(sec(30), planOK, second, 500)
			e.attempt(v, sec(30.06), second, "response", 200)
		}},
		{"I9", "not drained", func(e *testimony) { e.alter(sayDrained, func(d *entry) { d.Note = "1 message on WEBHOOKS" }) }},
		{"I9", "drained too late", func(e *testimony) { e.alter(sayDrained, func(d *entry) { d.At = d.At.Add(drainBound) }) }},
		{"I9", "one relay does not work again", func(e *testimony) {
			for _, r := range e.rows {
				if r.worker == third && r.started.After(e.began.Add(sec(20))) {
					r.worker = second
				}
			}
		}},
		{"I9", "no requests after a heal", func(e *testimony) {
			e.fault(sec(32), sec(33), "cut-nats")
			e.flow(sec(32.5))
			e.flow(sec(38.5))
		}},
		{"I10", "healthy endpoints wait beside sick ones", func(e *testimony) { e.outage(500 * time.Millisecond) }},
		{"I11", "goroutines leak", func(e *testimony) { e.alter(sayUsage, func(u *entry) { u.Seq = 500 }) }},
		{"I11", "descriptors leak", func(e *testimony) { e.alter(sayUsage, func(u *entry) { u.Number = 500 }) }},
		{"I11", "memory leaks", func(e *testimony) { e.alter(sayUsage, func(u *entry) { u.Millis = 5000 }) }},
		{"I11", "SIGTERM ends in an error", func(e *testimony) { e.alter(sayEnded, func(s *entry) { s.Status = 66 }) }},
		{"I12", "one attempt too many", func(e *testimony) { e.events[0].attempts++ }},
		{"I12", "an unrecorded attempt is counted", func(e *testimony) {
			e.interrupted(sec(9.99), first).attempts++
		}},
		{"I13", "a partition for all the rest", func(e *testimony) { e.strange = 1 }},
		{"I13", "a data race in a log", func(e *testimony) { e.say(sec(30), entry{What: sayTrouble, Note: "DATA RACE"}) }},
		{"lanes", "a lane of a well endpoint stands still", func(e *testimony) {
			for at := sec(26); at < sec(58); at += sec(1) {
				e.say(at, entry{What: sayLane, Name: "all", Seq: 1})
				e.say(at, entry{What: sayLane, Name: "key", Seq: 3})
			}
		}},
		{"held", "a request long after its endpoint was held", func(e *testimony) { e.order(sec(15.5), "1", "k1") }},
		{"held", "a request to a held endpoint, after a fault that hid nothing", func(e *testimony) {
			e.fault(sec(46), sec(49), "hole-nats")
			e.hold(sec(47), sec(52))
			e.order(sec(49.9), "2", "k2")
			e.flow(sec(50))
		}},
		{"settings", "settings that were changed a second ago", func(e *testimony) { e.order(sec(41.5), "1", "k2") }},
		{"settings", "settings that nobody wrote", func(e *testimony) { e.order(sec(45), "3", "k2") }},
		{"settings", "sent as if it were not registered", func(e *testimony) { e.order(sec(45), "2", "k2").endpoint = "url" }},
		{"signed", "the new secret does not sign", func(e *testimony) { e.order(sec(30), "1", "k1") }},
		{"signed", "the old secret does not sign any longer", func(e *testimony) { e.order(sec(30), "1", "k2") }},
		{"signed", "the old secret signs for ever", func(e *testimony) { e.order(sec(36), "1", "k2 k1") }},
		{"signed", "a rotation without an overlap", func(e *testimony) {
			s := &e.states["shop"][3]
			s.secrets = s.secrets[:1]
		}},
		{"kept", "an event of a held endpoint is buried", func(e *testimony) { e.bury(e.order(sec(45), "2", "k2")) }},
		{"ready", "/readyz says nothing", func(e *testimony) { e.forget(sayReady) }},
		{"ready", "no gauge says anything", func(e *testimony) { e.forget(sayGauge) }},
		{"ready", "a gauge speaks of another server", func(e *testimony) { e.alter(sayGauge, func(g *entry) { g.Note = "nats" }) }},
		{"resume", "what a killed relay had in hand comes late", func(e *testimony) {
			v := e.publish(sec(9.99), planOK, first)
			e.attempt(v, sec(9.99), first, "unrecorded", 200)
			e.attempt(v, sec(14.5), second, "response", 200)
		}},
		{"part", "nothing was parked", func(e *testimony) {
			for i := range fullCampaign {
				e.fault(sec(32)+time.Duration(i)*50*time.Millisecond, sec(32.01)+time.Duration(i)*50*time.Millisecond, "reload-nats")
			}
			e.flow(sec(34))
		}},
	} {
		t.Run(c.invariant+" "+c.name, func(t *testing.T) {
			e := flawless()
			c.doctor(e)
			found := map[string]string{}
			for _, x := range e.judge().Violations {
				found[x.Invariant] += fmt.Sprintf("%s: %s; ", x.ID, x.What)
			}
			if len(found) != 1 || found[c.invariant] == "" {
				t.Errorf("found %v, want only %s", found, c.invariant)
			}
		})
	}
}

// e6 is an attempt that nobody recorded, at a fault that excuses none.
func e6(fault string) func(*testimony) {
	return func(e *testimony) {
		e.fault(sec(31.9), sec(33), fault)
		e.interrupted(sec(31.99), second)
		e.flow(sec(35))
	}
}

// hold has the registered endpoint held for a while.
func (t *testimony) hold(from, to time.Duration) {
	s := t.states["shop"][len(t.states["shop"])-1]
	s.at, s.held = t.began.Add(from), true
	t.states["shop"] = append(t.states["shop"], s)
	s.at, s.held = t.began.Add(to), false
	t.states["shop"] = append(t.states["shop"], s)
}

// again has an event answered 200 twice, the first time by such a row.
func (t *testimony) again(at time.Duration, kind string) {
	v := t.publish(at, planOK, second)
	t.attempt(v, at, second, kind, 200)
	t.attempt(v, at+sec(1), second, "response", 200)
}

// outage has well endpoints wait beside a sick one.
func (t *testimony) outage(waits time.Duration) {
	for i := range 200 {
		t.publish(sec(35)+time.Duration(i)*10*time.Millisecond, planOK, second, 200)
	}
	t.fault(sec(45), sec(47), "outage-hangs")
	for i := range 150 {
		at := sec(45.1) + time.Duration(i)*10*time.Millisecond
		v := t.publish(at, planOK, second)
		t.attempt(v, at+waits, second, "response", 200)
	}
	t.flow(sec(48))
}

// alter changes the last entry of a kind.
func (t *testimony) alter(what string, change func(*entry)) {
	for i := len(t.history) - 1; i >= 0; i-- {
		if t.history[i].What == what {
			change(&t.history[i])
			return
		}
	}
}
