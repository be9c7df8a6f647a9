package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// circumstances are what a run was made under, for the table of many runs.
type circumstances struct {
	Seed     uint64            `json:"seed"`
	Revision string            `json:"revision"`       // of relay and of the campaign; with + if files differed from it
	From     string            `json:"from,omitempty"` // the older relay
	Cluster  bool              `json:"cluster"`
	Race     bool              `json:"race"`
	Duration time.Duration     `json:"duration"` // of the load, in nanoseconds
	Rate     int               `json:"rate"`
	Relays   int               `json:"relays"`
	Versions map[string]string `json:"versions"` // by program or library
}

// natsClient is the library by which relay speaks to NATS.
const natsClient = "github.com/nats-io/nats.go"

// circumstances looks at the source, the programs and the machine.
func (w *world) circumstances(ctx context.Context) (circumstances, error) {
	s := w.settings
	c := circumstances{
		Seed: s.Seed, From: s.From, Cluster: s.Cluster, Race: s.Race, Duration: s.Duration, Rate: s.Rate, Relays: s.Relays,
		Revision: revision(ctx),
		Versions: map[string]string{"Go": runtime.Version(), "system": fmt.Sprintf("%s/%s, %d CPUs", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == natsClient {
				c.Versions["nats.go"] = m.Version
			}
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(s.Dir, "nats-server"), "--version").Output()
	if err != nil {
		return c, fmt.Errorf("campaign: version of nats-server: %w", err)
	}
	_, c.Versions["nats-server"], _ = strings.Cut(strings.TrimSpace(string(out)), ": ")
	var postgres string
	if err := w.pool.QueryRow(ctx, "SHOW server_version").Scan(&postgres); err != nil {
		return c, fmt.Errorf("campaign: version of Postgres: %w", err)
	}
	c.Versions["Postgres"] = postgres
	return c, nil
}

// revision is the commit of the source that relay is built from, or "unknown"
// where the source is not a clone.
func revision(ctx context.Context) string {
	root, err := sourcePath(ctx, ".")
	if err != nil {
		return "unknown"
	}
	commit, err := exec.CommandContext(ctx, "git", "-C", root, "rev-parse", "--short=7", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	changed, err := exec.CommandContext(ctx, "git", "-C", root, "status", "--porcelain", "--untracked-files=no").Output()
	if err != nil || len(changed) > 0 {
		return strings.TrimSpace(string(commit)) + "+"
	}
	return strings.TrimSpace(string(commit))
}
