package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// profile measures a burst, and takes one profile after the other until it is
// over.
func (t *target) profile(ctx context.Context) error {
	var taken []string
	base := filepath.Join(t.m.Results, "profile-"+t.o.side+"-"+t.o.sync)
	if err := os.MkdirAll(t.m.Results, 0o755); err != nil { //nolint:gosec // figures for everyone
		return err
	}
	loading := make(chan error, 1)
	go func() { loading <- t.measure(ctx, t.o.side, fmt.Sprintf("--events %d", t.m.n(60_000))) }()
	for over := false; !over; {
		raw, err := get(ctx, "http://"+t.address()+"/debug/pprof/profile?seconds=3")
		if err != nil {
			return errors.Join(err, <-loading)
		}
		name := fmt.Sprintf("%s-%d.pb.gz", base, len(taken))
		if err := os.WriteFile(name, raw, 0o644); err != nil { //nolint:gosec // figures for everyone
			return errors.Join(err, <-loading)
		}
		taken = append(taken, name)
		select {
		case err := <-loading:
			if err != nil {
				return err
			}
			over = true
		default:
		}
	}
	return top(ctx, base+".txt", taken)
}

// top writes down the top entries of several profiles together.
func top(ctx context.Context, file string, taken []string) error {
	var text []byte
	for _, order := range []string{"-flat", "-cum"} {
		args := append([]string{"tool", "pprof", "-top", order, "-nodecount=22"}, taken...)
		out, err := exec.CommandContext(ctx, "go", args...).Output()
		if err != nil {
			return fmt.Errorf("go tool pprof: %w", err)
		}
		text = append(append(text, legible(string(out))...), '\n')
	}
	return os.WriteFile(file, text, 0o644) //nolint:gosec // figures for everyone
}

// legible leaves out the lines that name files and builds, and what stands in
// brackets: the types that a generic function was made for.
func legible(top string) string {
	if i := strings.Index(top, "Duration:"); i >= 0 {
		top = top[i:]
	}
	var b strings.Builder
	depth := 0
	for _, c := range top {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case depth == 0:
			b.WriteRune(c)
		}
	}
	return b.String()
}
