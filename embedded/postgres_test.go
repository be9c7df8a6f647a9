package embedded

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
)

// shortDir is what t.TempDir is not: enterable by the user whom root hands
// Postgres to.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay-embedded-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "pg")
}

func startPostgres(t *testing.T, o PostgresOptions) *Postgres {
	t.Helper()
	o.Log = zerolog.New(zerolog.NewTestWriter(t))
	p, err := StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// query connects anew, runs one statement and returns its only value as text.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.Join(got, ",")
}

func TestPostgresKeepsWhatWasCommitted(t *testing.T) {
	p := startPostgres(t, PostgresOptions{Dir: shortDir(t), Durable: true})
	if got := query(t, p.URL(), "SHOW fsync"); got != "on" {
		t.Errorf("fsync of a durable Postgres = %s, want on", got)
	}
	query(t, p.URL(), "CREATE TABLE kept (v text)")
	stops := map[string]func(){
		"Stop": func() {
			if err := p.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"Kill": p.Kill,
	}
	url, want := p.URL(), ""
	for name, stop := range stops {
		query(t, url, "INSERT INTO kept VALUES ('x')")
		want += ",x"
		stop()
		if _, err := pgx.Connect(t.Context(), url); err == nil {
			t.Errorf("a server answers after %s", name)
		}
		if err := p.Restart(t.Context()); err != nil {
			t.Fatalf("restart after %s: %v", name, err)
		}
		if p.URL() != url {
			t.Errorf("URL after %s = %s, want %s as before", name, p.URL(), url)
		}
		if got := query(t, url, "SELECT v FROM kept"); got != want[1:] {
			t.Errorf("rows after %s = %s, want %s", name, got, want[1:])
		}
	}
}

func TestKillLeavesNoProcess(t *testing.T) {
	p := startPostgres(t, PostgresOptions{})
	pids := append(children(p.process.pid), p.process.pid)
	if len(pids) < 3 {
		t.Fatalf("Postgres has the processes %v: too few to be true", pids)
	}
	p.Kill()
	for _, pid := range pids {
		if c := commandLine(pid); c != "" {
			t.Errorf("process %d still runs after Kill: %s", pid, c)
		}
	}
}

func TestTemporaryPostgresLeavesNothing(t *testing.T) {
	p := startPostgres(t, PostgresOptions{})
	dir := p.Dir()
	if got := query(t, p.URL(), "SHOW fsync"); got != "off" {
		t.Errorf("fsync of a test's Postgres = %s, want off", got)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat %s after Stop: %v, want not exist", dir, err)
	}
}

func TestSecondPostgresOnOneDirectoryIsRefused(t *testing.T) {
	p := startPostgres(t, PostgresOptions{Dir: shortDir(t)})
	_, err := StartPostgres(t.Context(), PostgresOptions{Dir: p.Dir()})
	if err == nil || !strings.Contains(err.Error(), "in use by this very process") {
		t.Errorf("error = %v, want one that names the holder", err)
	}
}

func TestStrangeDirectoryIsRefused(t *testing.T) {
	dir := shortDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "holiday pictures"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "give Postgres another directory") {
		t.Errorf("error = %v, want a refusal", err)
	}
}

func TestPostgresListensWithPassword(t *testing.T) {
	p := startPostgres(t, PostgresOptions{Port: freePort(t)})
	if got := query(t, p.TCPURL(), "SELECT 'in'"); got != "in" {
		t.Errorf("over TCP = %q", got)
	}
	without := strings.Replace(p.TCPURL(), ":"+p.home.password, ":wrong", 1)
	if _, err := pgx.Connect(t.Context(), without); err == nil {
		t.Error("a wrong password was let in over TCP")
	}
	if o, err := StartPostgres(t.Context(), PostgresOptions{Port: p.options.Port}); err == nil {
		t.Errorf("a second Postgres took the same port: %s", o.TCPURL())
	} else if !strings.Contains(err.Error(), strconv.Itoa(p.options.Port)) && !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("error = %v, want one that names the address", err)
	}
}

// TestPostgresLogsAPortOnlyIfItHasOne: without one there is only the socket.
func TestPostgresLogsAPortOnlyIfItHasOne(t *testing.T) {
	for _, port := range []int{0, freePort(t)} {
		lines := &logged{}
		p, err := StartPostgres(t.Context(), PostgresOptions{Port: port, Log: zerolog.New(lines)})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		started := false
		for _, e := range lines.entries(t) {
			said, has := e["port"]
			if has != (port != 0) || has && said != float64(port) {
				t.Errorf("port %d: %v", port, e)
			}
			started = started || e["message"] == "Postgres started"
		}
		if !started {
			t.Errorf("port %d: the start was not logged", port)
		}
	}
}

func TestLongDirectoryHasItsSocketElsewhere(t *testing.T) {
	p := startPostgres(t, PostgresOptions{Dir: filepath.Join(shortDir(t), strings.Repeat("long", 30))})
	if got := query(t, p.URL(), "SELECT 'in'"); got != "in" {
		t.Errorf("got %q", got)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.home.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat %s after Stop: %v, want not exist", p.home.socket, err)
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	query(t, p.URL(), "SELECT 'in'")
}

// childDir is set in a process of this test that is to start a Postgres and
// then be killed.
const childDir = "RELAY_TEST_EMBEDDED_CHILD"

// TestKilledParent is both: the test, and the process that it kills.
func TestKilledParent(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		p := startPostgres(t, PostgresOptions{Dir: dir})
		query(t, p.URL(), "CREATE TABLE kept (v text)")
		_, _ = os.Stdout.WriteString("\nready\n")
		select {} // until killed
	}
	dir := shortDir(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledParent$")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	for buf := make([]byte, 1024); !strings.Contains(seen.String(), "\nready\n"); {
		n, err := out.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("the child ended: %s", seen.String())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as it should be
	p := startPostgres(t, PostgresOptions{Dir: dir})
	if got := query(t, p.URL(), "SELECT count(*)::text FROM kept"); got != "0" {
		t.Errorf("got %q", got)
	}
}

func TestStopWithoutTimeKills(t *testing.T) {
	p := startPostgres(t, PostgresOptions{})
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	if err := p.Stop(ctx); err == nil || !strings.Contains(err.Error(), "had to be killed") {
		t.Errorf("error = %v, want one that says that it was killed", err)
	}
	if p.process.running() {
		t.Error("it still runs")
	}
}

func TestMissingBinaries(t *testing.T) {
	_, err := StartPostgres(t.Context(), PostgresOptions{BinDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "initdb") {
		t.Errorf("error = %v, want one that names what is missing", err)
	}
}
