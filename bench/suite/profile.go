package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// profiles takes CPU profiles of relay and of the floor while they work off a
// burst. It keeps their top entries; these runs count for nothing else.
func profiles(ctx context.Context, m *machine) error {
	var failed error
	for _, sync := range []string{syncAlways, syncDefault} {
		for _, side := range []string{sideFloor, sideRelay} {
			o := options{side: side, sync: sync}
			failed = errors.Join(failed, m.with(ctx, o, func(t *target) error { return t.profile(ctx) }))
		}
	}
	return failed
}

// profile measures a burst that lasts longer than the profile.
func (t *target) profile(ctx context.Context) error {
	loading := make(chan error, 1)
	go func() { loading <- t.measure(ctx, t.o.side, fmt.Sprintf("--events %d", t.m.n(40_000))) }()
	for held := 0; held <= t.m.n(5000); { // the warm-up is over when the queue is long
		var err error
		if held, err = t.held(ctx); err != nil {
			return err
		}
		select {
		case err := <-loading:
			return errors.Join(errors.New("the burst was over before the profile began"), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	raw, err := get(ctx, "http://"+t.address()+"/debug/pprof/profile?seconds=5")
	if err = errors.Join(err, <-loading); err != nil {
		return err
	}
	name := filepath.Join(t.m.Results, "profile-"+t.o.side+"-"+t.o.sync)
	if err := os.WriteFile(name+".pb.gz", raw, 0o644); err != nil { //nolint:gosec // figures for everyone
		return err
	}
	var text []byte
	for _, order := range []string{"-flat", "-cum"} {
		top, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", order, "-nodecount=30", name+".pb.gz").Output()
		if err != nil {
			return fmt.Errorf("go tool pprof: %w", err)
		}
		text = append(append(text, withoutHead(string(top))...), '\n')
	}
	return os.WriteFile(name+".txt", text, 0o644) //nolint:gosec // figures for everyone
}

// withoutHead leaves out the lines that name files and builds.
func withoutHead(top string) string {
	if i := strings.Index(top, "Duration:"); i >= 0 {
		return top[i:]
	}
	return top
}
