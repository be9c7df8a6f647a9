package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// visits are the requests that a receiver got, by tenant: the first word of the path.
type visits struct {
	mu       sync.Mutex
	at       map[string][]time.Time
	now, top map[string]int // at a time: at this moment, and at most
}

func newVisits() *visits {
	return &visits{at: map[string][]time.Time{}, now: map[string]int{}, top: map[string]int{}}
}

// answer serves a request while it is counted as under way.
func (v *visits) answer(r *http.Request, serve func(tenant string)) {
	tenant, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	count := func(n int) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.now[tenant] += n; n > 0 {
			v.at[tenant] = append(v.at[tenant], time.Now())
		}
		v.top[tenant] = max(v.top[tenant], v.now[tenant])
	}
	count(+1)
	defer count(-1)
	serve(tenant)
}

// of returns when a tenant's requests came, and how many there were at a time.
func (v *visits) of(tenant string) (at []time.Time, now, top int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.at[tenant]), v.now[tenant], v.top[tenant]
}

// publishFor publishes events of a tenant, dealt over its endpoints.
func (s *stage) publishFor(tenant string, events, endpoints int) {
	s.t.Helper()
	for i := range events {
		s.PublishMsg(&nats.Msg{Subject: consumer.SubjectTenant + tenant, Data: fmt.Appendf(nil,
			`{"url": "%[1]s/%[2]s/%[3]d", "id": "%[2]s_%[4]d", "max_attempts": 100}`, s.Receiver.URL, tenant, i%endpoints, i)})
	}
}

// delivered is how many events of a tenant the audit log has as delivered.
func (s *stage) delivered(tenant string) (n int) {
	s.t.Helper()
	if err := s.DB.QueryRow(s.t.Context(), "SELECT count(*) FROM relay.webhook_status WHERE tenant = $1 AND status = 'delivered'", tenant).
		Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// The rate that the configuration gives a tenant holds over all of its endpoints, in
// the program as it runs. Another tenant, published behind it, does not wait for it.
func TestATenantsRateHoldsInTheProgram(t *testing.T) {
	const rate, burst, events, endpoints = 10, 10, 100, 25
	s := newStage(t)
	seen := newVisits()
	s.Receiver.Always(func(_ http.ResponseWriter, r *http.Request) { seen.answer(r, func(string) {}) })
	s.start("", fmt.Sprintf("tenants.named.a.rate=%d", rate), fmt.Sprintf("tenants.named.a.burst=%d", burst))
	s.publishFor("a", events, endpoints)
	s.publishFor("b", events, endpoints)
	if !s.Eventually(func() bool { return s.delivered("b") == events }) {
		t.Fatalf("%d of b's events are delivered", s.delivered("b"))
	}
	if left := events - s.delivered("a"); left == 0 {
		t.Errorf("a's events are delivered as soon as those of b, who has no rate")
	}
	if !s.Eventually(func() bool { return s.delivered("a") == events }) {
		t.Fatalf("%d of a's events are delivered", s.delivered("a"))
	}
	at, _, _ := seen.of("a")
	if len(at) != events {
		t.Errorf("%d requests for %d events", len(at), events)
	}
	const slack = 500 * time.Millisecond // requests do not all take the same time on their way
	for i := range at {
		for j := i; j < len(at); j++ {
			within := at[j].Sub(at[i])
			if n, most := j-i+1, burst+int(rate*(within+slack).Seconds())+1; n > most {
				t.Fatalf("%d requests to a's %d endpoints within %s, want %d at most", n, endpoints, within, most)
			}
		}
	}
}

// Very many endpoints of one tenant hang, and its events flood the queue. Another
// tenant's, published behind them, are delivered meanwhile, and its slow endpoint is
// called several times at once as if it were alone.
func TestATenantThatHangsDoesNotHoldUpAnother(t *testing.T) {
	const slowCalls, endpoints, flood, events, ackWait = 128, 300, 1500, 40, 45 * time.Second
	natsURL := relaytest.StartNATS(t).ClientURL()
	s := &stage{Relay: relaytest.Observe(t, natsURL, testdb.New(t), consumer.StreamOptions{AckWait: ackWait}), t: t, natsURL: natsURL}
	seen := newVisits()
	release := make(chan struct{})
	s.Receiver.Always(func(_ http.ResponseWriter, r *http.Request) {
		seen.answer(r, func(tenant string) {
			switch tenant {
			case "a":
				select {
				case <-release:
				case <-r.Context().Done():
				}
			case "b":
				<-time.After(300 * time.Millisecond) // which is slow
			}
		})
	})
	defer close(release)
	s.start("", fmt.Sprintf("policy.slow_calls=%d", slowCalls), "consumer.slots=8", "delivery.timeout=30s", "consumer.ack_wait="+ackWait.String())
	s.publishFor("a", flood, endpoints)
	if !s.Eventually(func() bool { _, now, _ := seen.of("a"); return now >= slowCalls/2 }) {
		t.Fatal("a's endpoints do not hang")
	}
	s.publishFor("b", events, 1)
	s.publishFor("c", events, 1)
	for _, tenant := range []string{"b", "c"} {
		if !s.Eventually(func() bool { return s.delivered(tenant) == events }) {
			t.Errorf("%d of %s's events are delivered, want %d", s.delivered(tenant), tenant, events)
		}
	}
	_, now, top := seen.of("a")
	_, _, beside := seen.of("b")
	t.Logf("a had %d requests at a time, b %d", top, beside)
	if now == 0 || s.delivered("a") > 0 || top > slowCalls {
		t.Errorf("%d of a's requests hang, %d at most, %d are delivered", now, top, s.delivered("a"))
	}
	// Its share allows 64. Of one tenant with all the others it would have one at a
	// time; how many more it has is the machine's speed.
	if least := 4; beside < least {
		t.Errorf("b's endpoint got %d requests at a time, want %d at least", beside, least)
	}
}
