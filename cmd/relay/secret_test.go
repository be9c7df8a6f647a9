package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/signature"
)

// What relay secret --sealing makes seals, and no two are alike.
func TestSealingSecret(t *testing.T) {
	var keys []string
	for range 2 {
		var out, errs bytes.Buffer
		if status := (&program{stdout: &out, stderr: &errs}).run([]string{"secret", "--sealing"}, nil); status != 0 {
			t.Fatalf("%d: %s", status, &errs)
		}
		keys = append(keys, strings.TrimSuffix(out.String(), "\n"))
	}
	l := mustLoad(t, sources{environ: []string{"RELAY_SEALING_KEYS=" + strings.Join(keys, ", ")}})
	if s, err := endpoint.NewSealer(l.Sealing.Keys...); err != nil || len(s.KeyIDs()) != 2 {
		t.Errorf("%v", err)
	}
	var out bytes.Buffer
	if err := l.showJSON(&program{stdout: &out}); err != nil || strings.Contains(out.String(), keys[0][4:20]) {
		t.Errorf("relay config shows a key: %v\n%s", err, out.String())
	}
	if status := (&program{stdout: &out, stderr: &out}).run([]string{"secret", "--sealing", "--ed25519"}, nil); status != exitUsage {
		t.Errorf("both kinds at once: status %d", status)
	}
}

// What relay secret makes signs, what it makes for receivers verifies, and no
// two are alike.
func TestSecret(t *testing.T) {
	seen := map[string]bool{}
	for _, args := range [][]string{{"secret"}, {"secret"}, {"secret", "--ed25519"}, {"secret", "--ed25519"}} {
		var out, errs bytes.Buffer
		if status := (&program{stdout: &out, stderr: &errs}).run(args, nil); status != 0 {
			t.Fatalf("%v: %d: %s", args, status, &errs)
		}
		lines := strings.Fields(out.String())
		sign, verify := lines[0], lines[len(lines)-1]
		at := time.Now()
		list, err := signature.Sign("msg_1", at, []byte("{}"), sign)
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {fmt.Sprint(at.Unix())}, "Webhook-Signature": {list}}
		if err := signature.Verify(h, []byte("{}"), verify); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		if seen[sign] || len(lines) != len(args) {
			t.Errorf("%v made %d lines, seen before: %v", args, len(lines), seen[sign])
		}
		seen[sign] = true
	}
}
