package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/endpoint"
)

// Of two relays the one that probes is killed in the middle of its probe. The
// other one waits for the end of the lease, probes, and delivers everything.
func TestAKilledProbeHoldsUpNobodyForLong(t *testing.T) {
	t.Parallel()
	const events = 10
	s := newStage(t)
	var hangs, well atomic.Bool
	var hanging atomic.Int32
	s.Receiver.Always(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case well.Load():
		case hangs.Load():
			hanging.Add(1)
			<-r.Context().Done()
			hanging.Add(-1)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	relays := map[string]*process{}
	for range 2 {
		p := s.start("", "policy.circuit.delay=500ms", "policy.circuit.failures=2", "policy.circuit.executions=2")
		relays[fmt.Sprint(p.Process.Pid)] = p
	}
	var ids []string
	for range events {
		ids = append(ids, s.Publish(map[string]any{"url": s.Receiver.URL, "max_attempts": 50}))
	}
	if !s.Eventually(func() bool { return s.pause().Kind != "" }) {
		t.Fatal("the circuit did not open")
	}
	hangs.Store(true)
	lease := s.pause()
	if !s.Eventually(func() bool { lease = s.pause(); return lease.Kind == relay.PauseProbe && hanging.Load() == 1 }) {
		t.Fatalf("%d requests hang, and the pause is %+v", hanging.Load(), lease)
	}
	_, pid, _ := strings.Cut(lease.Worker, "/")
	if relays[pid] == nil {
		t.Fatalf("the lease belongs to %q", lease.Worker)
	}
	relays[pid].kill()
	well.Store(true)
	before := len(s.Receiver.Requests())
	s.awaitRequests(before + 1)
	if early := time.Until(lease.Until); early > 0 {
		t.Errorf("a probe came %s before the lease of the one that was killed ended", early)
	}
	for _, id := range ids {
		s.RequireDelivered(id)
	}
}

// pause is what stands in the bucket about the receiver.
func (s *stage) pause() (p relay.Pause) {
	stream, err := s.JS.Stream(s.t.Context(), consumer.StreamPauses)
	if err != nil {
		return p
	}
	m, err := stream.GetLastMsgForSubject(s.t.Context(), "$KV.relay_pauses."+endpoint.Key(s.Receiver.URL))
	if err != nil {
		return p
	}
	_ = json.Unmarshal(m.Data, &p) // a removal has no data
	return p
}

// endPauses empties the bucket: no endpoint is paused any more.
func (s *stage) endPauses() {
	s.t.Helper()
	bucket, err := s.JS.Stream(s.t.Context(), consumer.StreamPauses)
	if err == nil {
		err = bucket.Purge(s.t.Context())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
