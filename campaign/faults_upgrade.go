package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// upgrading is the name of the fault that replaces all relays, F14.
const upgrading = "upgrade"

// buildOlder builds relay as it was at a commit of this repository. Streams
// and tables are the present ones: those are migrated before relays are.
func (w *world) buildOlder(ctx context.Context) error {
	root, err := sourcePath(ctx, ".")
	if err != nil {
		return err
	}
	dir, archive := w.settings.file("source"), w.settings.file("source.tar")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	for _, cmd := range []*exec.Cmd{
		exec.CommandContext(ctx, "git", "-C", root, "archive", "--format=tar", "-o", archive, w.settings.From),
		exec.CommandContext(ctx, "tar", "-x", "-f", archive, "-C", dir),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("campaign: source of %s: %w\n%s", w.settings.From, err, out)
		}
	}
	w.older = w.settings.file("relay-older")
	return buildIn(ctx, dir, w.older, relayProgram, settings{Race: w.settings.Race}.flags()...)
}

// upgrade replaces one relay after the other, under load: an older one by the
// present one, and the other way where it comes again, which is a rollback.
// Without an older one, each is replaced by its like.
func upgrade(_ context.Context, b *breaking) (func(context.Context) error, error) {
	to := b.present
	if b.older != "" && b.stations[0].binary == b.present {
		to = b.older
	}
	for _, s := range b.stations {
		s.stop()
		s.binary = to
		if err := s.start(); err != nil {
			return nil, err
		}
	}
	return nothingToHeal, nil
}
