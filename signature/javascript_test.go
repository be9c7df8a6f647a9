//go:build javascript

package signature_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// These tests need Node and what "npm ci" installs: "make interop" runs them.
// Everywhere else testdata/javascript.json stands in for them.

// startNode starts an endpoint that the JavaScript library guards, and returns
// its URL.
func startNode(t *testing.T, secret string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", "receiver.mjs", secret)
	cmd.Dir, cmd.Stderr = "testdata/javascript", t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // the test's context has killed it
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("node said nothing: %v", err)
	}
	return strings.TrimSpace(url)
}

// What relay really sends is believed by the real library, and by none that has
// another secret. The library takes a body for text, and refuses what is none.
func TestJavaScriptLibraryVerifiesRequests(t *testing.T) {
	good, other := startNode(t, secret1), startNode(t, "whsec_"+strings.Repeat("A", 32))
	r := relaytest.Start(t, signedBy(private, secret2, secret1)) // mixed versions, in the middle of a rotation
	bodies := []string{
		"", "{}", `{"test": 2432232314}`, "{{ not JSON", "order,total\r\n17,12.50\r\n", "é 漢字 🦊\u0000\u2028",
		strings.Repeat("é", 500_000),
	}
	for i, body := range append(bodies, "\xff") {
		for url, want := range map[string]string{good: "delivered", other: "dead"} {
			if body == "\xff" {
				want = "dead"
			}
			id := rand.Text()
			r.PublishMsg(&nats.Msg{Subject: consumer.SubjectOutbound, Data: []byte(body), Header: nats.Header{
				"Relay-Url": {url + "/hook"}, "Relay-Id": {id}, "Relay-Content-Type": {"text/plain"},
			}})
			r.RequireStatus(id, want)
			if as := r.Attempts(id); len(as) != 1 || as[0].Status != map[string]int{"delivered": 204, "dead": 401}[want] {
				t.Errorf("body %d: %s after %+v", i, want, as)
			}
		}
	}
}

// The checked-in file is what the library says today.
func TestJavaScriptLibraryWroteTheVectors(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "node", "generate.mjs")
	cmd.Dir, cmd.Stderr = "testdata/javascript", t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var now written
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&now); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(now, readWritten(t)) {
		t.Error("testdata/javascript.json is not what generate.mjs writes")
	}
}
