package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay/bench"
	"github.com/relaywebhooks/relay/relaytest"
)

func TestBench(t *testing.T) {
	r := relaytest.Start(t)
	dir := t.TempDir()
	file, plot := filepath.Join(dir, "report.json"), filepath.Join(dir, "plot.svg")
	must(t, []string{"published", "400 of 400", "lost", "healthy", "fail"}, set(r, "bench", "--events", "400", "--warm-up", "10",
		"--endpoints", "4", "--fail", "0.25", "--listen", "127.0.0.1:0", "--json", file, "--svg", plot)...)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report bench.Report
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	if report.Confirmed != 400 || report.Lost != 0 || len(report.Kinds) != 2 || report.Kinds[0].Delivered != 300 {
		t.Errorf("the report is %s", text)
	}
	if picture, err := os.ReadFile(plot); err != nil || !strings.HasPrefix(string(picture), "<svg") {
		t.Errorf("the plot begins with %.40s, %v", picture, err)
	}
}

// Nothing is started where there is no NATS: the error says what to do.
func TestBenchWithoutNATS(t *testing.T) {
	var errs journal
	p := &program{stdout: &errs, stderr: &errs}
	status := p.run([]string{"bench", "--set", "nats.url=nats://127.0.0.1:1"}, nil)
	if said := errs.take(); status != exitFailed || !strings.Contains(said, "run relay dev in another terminal") {
		t.Errorf("status %d: %s", status, said)
	}
}
