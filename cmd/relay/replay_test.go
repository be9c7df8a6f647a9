package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay/relaytest"
)

// A replay that finds nothing says where to look, and is no failure.
func TestReplayOfNothing(t *testing.T) {
	r := relaytest.Start(t)
	const hint = "no letter matches; nats stream subjects WEBHOOKS_DEAD lists them\n"
	for _, what := range []string{"all", "17-19"} {
		must(t, []string{"done: replayed 0\n" + hint}, set(r, "replay", what)...)
	}
	r.Receiver.Answer(http.StatusNotFound)
	must(t, nil, set(r, "send", "--id", "order-1", "--url", r.Receiver.URL, "{}")...)
	r.RequireDead("order-1")
	must(t, []string{hint}, set(r, "replay", "http://elsewhere.example/")...)
	if out := must(t, []string{"done: replayed 1\n"}, set(r, "replay", "all")...); strings.Contains(out, hint) {
		t.Errorf("one letter matched:\n%s", out)
	}
}
