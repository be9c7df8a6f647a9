package main

import (
	"net"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// A port that is taken is named with the setting that moves it.
func TestTakenPortsNameTheirSetting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	r := relaytest.Start(t)
	for key, args := range map[string][]string{
		"admin.address": set(r, "run", "--set", "admin.address="+address),
		"nats.port": {
			"run", "--set", "nats.embedded=true", "--set", "nats.data=" + t.TempDir(), "--set", "nats.port=" + port,
			"--set", "postgres.url=" + testdb.New(t), "--set", "admin.address=127.0.0.1:0",
		},
	} {
		var out journal
		p := &program{stdout: &out, stderr: &out}
		status := p.run(args, nil)
		said := out.take()
		if status != exitFailed || !strings.Contains(said, key) || !strings.Contains(said, address) {
			t.Errorf("%s: status %d: %s", key, status, said)
		}
		t.Log(said)
	}
}
