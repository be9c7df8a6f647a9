package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// The monitoring page of a real server tells how full JetStream is.
func TestDoctorReadsTheMonitoringPage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	file := filepath.Join(t.TempDir(), "nats.conf")
	conf := fmt.Sprintf("http: %q\njetstream { max_file_store: 3GB }\n", address)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := embedded.StartNATS(embedded.NATSOptions{ConfigFile: file, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Shutdown)
	at := []string{"doctor", "--set", "nats.url=" + n.ClientURL(), "--monitor"}
	out, _ := command(t, append(at, "http://"+address)...)
	for _, want := range []string{"ok    NATS storage                 0.0 MiB of 3.0 GiB used (0 %)", "ok    NATS fsync "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, _ = command(t, append(at, "http://"+address+"/nothing")...)
	if !strings.Contains(out, "warn  NATS storage") || !strings.Contains(out, "→ "+askMonitor) {
		t.Errorf("of a wrong address:\n%s", out)
	}
}

func TestDoctorOnAFullJetStream(t *testing.T) {
	for used, want := range map[int]level{0: levelOK, 799: levelOK, 800: levelWarn, 949: levelWarn, 950: levelFail, 1000: levelFail} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"jetstream": {"config": {"max_storage": 1000}, "stats": {"storage": %d}}}`, used)
		}))
		t.Cleanup(server.Close)
		page, err := readVarz(t.Context(), server.URL)
		var fs findings
		if examineStorage(&fs, page, err); len(fs) != 1 || fs[0].Level != want || (fs[0].Advice == "") != (want == levelOK) {
			t.Errorf("%d of 1000: %+v, want %s", used, fs, want)
		}
	}
	var fs findings
	if examineStorage(&fs, nil, nil); len(fs) != 0 {
		t.Errorf("without a page: %+v", fs)
	}
	if examineStorage(&fs, new(varz), nil); len(fs) != 0 {
		t.Errorf("without JetStream: %+v", fs)
	}
}

// The disk of Postgres matters where it is that of this machine.
func TestDoctorLooksAtTheDiskOfADevDatabase(t *testing.T) {
	server := testdb.Server(t)
	const line = "disk for Postgres"
	data := []string{"doctor", "--set", "nats.embedded=true", "--set", "postgres.data=" + server.Dir()}
	for _, at := range [][]string{data, append(data, "--set", "postgres.url=host='"+server.Dir()+"' user=relay dbname=relay")} {
		if out, _ := command(t, at...); !strings.Contains(out, line) {
			t.Errorf("no %s in\n%s", line, out)
		}
	}
	if out, _ := command(t, append(data, "--set", "postgres.url=postgres://relay@127.0.0.1:1/relay")...); strings.Contains(out, line) {
		t.Errorf("%s, although the database is elsewhere:\n%s", line, out)
	}
}

// What is wrong with Postgres has its advice on the line below, as all has.
func TestDoctorAdvisesOnPostgres(t *testing.T) {
	server, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	out, _ := command(t, "doctor", "--set", "nats.embedded=true", "--set", "postgres.url="+server.URL())
	for _, want := range []string{
		"fail  postgres fsync               off\n                                 → set fsync = on in",
		"fail  schema version               the database has no schema relay\n                                 → run `relay migrate`\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// Where there are tenants the doctor says what they share: the window in which
// JetStream recognises a message id, and the secrets that sign for all.
func TestDoctorSpeaksOfWhatTenantsShare(t *testing.T) {
	r := relaytest.Start(t)
	secrets := "signing.secrets=" + string(relaytest.Secret)
	out, _ := command(t, set(r, "doctor", "--set", secrets)...)
	if strings.Contains(out, "duplicate window") || !strings.Contains(out, "ok    signing") {
		t.Errorf("without tenants nothing is shared:\n%s", out)
	}
	out, _ = command(t, set(r, "doctor", "--set", secrets, "--set", "consumer.require_tenant=true")...)
	for _, want := range []string{
		"warn  NATS duplicate window        2m, which all tenants of this stream share", "→ let message ids be hard to guess",
		"warn  signing                      every request is signed, with secrets that all tenants share", "→ register tenants' endpoints with secrets of their own",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	must(t, []string{"updated"}, set(r, "init", "--set", "nats.duplicate_window=100ms")...)
	out, _ = command(t, set(r, "doctor", "--set", "tenants.named.a.rate=5")...)
	if !strings.Contains(out, "ok    NATS duplicate window        100ms, ") {
		t.Errorf("the window is not set:\n%s", out)
	}
	_, err := load(sources{set: []string{"nats.duplicate_window=99ms"}})
	if err == nil || !strings.Contains(err.Error(), "nats.duplicate_window") || !strings.Contains(err.Error(), "at least 100ms") {
		t.Errorf("a window that JetStream does not know: %v", err)
	}
}

// N18: who sends events and a password over a network in the clear is told.
func TestDoctorLooksAtTheWire(t *testing.T) {
	for _, c := range []struct {
		address string
		secured bool
		want    level // "" for no finding
	}{
		{"127.0.0.1:4222", false, ""},
		{"[::1]:4222", false, ""},
		{"[::ffff:127.0.0.1]:4222", false, ""},
		{"192.0.2.1:4222", false, levelWarn},
		{"[2001:db8::1]:4222", false, levelWarn},
		{"192.0.2.1:4222", true, levelOK},
		{"127.0.0.1:4222", true, levelOK},
		{"pipe", false, ""},
	} {
		var fs findings
		examineWire(&fs, c.address, c.secured)
		if c.want == "" && len(fs) > 0 || c.want != "" && (len(fs) != 1 || fs[0].Level != c.want) {
			t.Errorf("%+v: %+v", c, fs)
		}
	}
}
