package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

func TestLanesFromTheCommandLine(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options{
		Policy:   policy.Options{Circuit: policy.CircuitOptions{Failures: 2, Executions: 2, Delay: time.Hour, DelayJitter: -1}},
		Consumer: consumer.Options{Sweep: 200 * time.Millisecond},
	})
	must(t, []string{"nothing is parked\n"}, set(r, "lane", "list")...)
	must(t, []string{"nothing is parked for " + r.Receiver.URL + "\n"}, set(r, "lane", "drain", r.Receiver.URL)...)
	must(t, []string{"done: buried 0\n"}, set(r, "lane", "bury", r.Receiver.URL)...)

	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	for i := range 2 {
		r.RequireDead(r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("opens_", i), "max_attempts": 1}))
	}
	parked := func(n int) {
		t.Helper()
		for i := range n {
			r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("parked_", n, "_", i)})
		}
		shown := func() (lanes consumer.Lanes) {
			out := must(t, nil, set(r, "lane", "list", "--json")...)
			if err := json.Unmarshal([]byte(out), &lanes); err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			return lanes
		}
		if !r.Eventually(func() bool { return shown().Events == uint64(n) }) {
			t.Fatalf("%+v", shown())
		}
	}
	parked(4)
	must(t, []string{"ENDPOINT", "waiting", r.Receiver.URL}, set(r, "lane", "list", r.Receiver.URL)...)
	must(t, []string{"done: buried 0\n"}, set(r, "lane", "expire", "--older-than", "24h", r.Receiver.URL)...)
	must(t, []string{"done: buried 0\n"}, set(r, "lane", "expire", r.Receiver.URL)...)
	must(t, []string{"done: buried 4\n"}, set(r, "lane", "bury", "--reason", "the shop is closed", r.Receiver.URL)...)
	if w := r.RequireDead("parked_4_3"); w.Reason != "buried: the shop is closed" {
		t.Errorf("recorded %+v", w)
	}
	parked(3)
	if out := must(t, nil, set(r, "lane", "expire", "--json", "--older-than", "1ms", r.Receiver.URL)...); !strings.Contains(out, `"buried": 3`) {
		t.Errorf("%s", out)
	}
	parked(5)
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	must(t, []string{"draining 5 events; relay lane list "}, set(r, "lane", "drain", r.Receiver.URL)...)
	r.RequireDelivered("parked_5_4")
}
