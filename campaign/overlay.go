package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// replacement is a change of one source file, for a build that must differ
// from the real one: old, which stands there exactly once, becomes new.
type replacement struct{ file, old, new string }

// standard marks a file of Go's own library; others are relay's.
const standard = "$GOROOT/src/"

// overlay writes changed copies of files into dir and returns the flag that
// has go build use them. It fails if a file no longer says what is replaced.
func overlay(ctx context.Context, dir string, changes ...replacement) (string, error) {
	files, contents := map[string]string{}, map[string]string{}
	for i, r := range changes {
		path, err := sourcePath(ctx, r.file)
		if err != nil {
			return "", err
		}
		text, known := contents[path]
		if !known {
			b, err := os.ReadFile(path)
			if err != nil {
				return "", fmt.Errorf("campaign: overlay: %w", err)
			}
			text = string(b)
			files[path] = filepath.Join(dir, fmt.Sprintf("overlay%d.go", i))
		}
		if n := strings.Count(text, r.old); n != 1 {
			return "", fmt.Errorf("campaign: overlay: %s says %q %d times, want once: write the change anew", r.file, r.old, n)
		}
		contents[path] = strings.Replace(text, r.old, r.new, 1)
	}
	for path, text := range contents {
		if err := os.WriteFile(files[path], []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("campaign: overlay: %w", err)
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": files})
	if err != nil {
		return "", fmt.Errorf("campaign: overlay: %w", err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, list, 0o600); err != nil {
		return "", fmt.Errorf("campaign: overlay: %w", err)
	}
	return "-overlay=" + name, nil
}

// sourcePath finds a source file: of Go's library, or below relay's module.
func sourcePath(ctx context.Context, file string) (string, error) {
	ask, inside := []string{"list", "-m", "-f", "{{.Dir}}", "github.com/relaywebhooks/relay"}, file
	if rest, ok := strings.CutPrefix(file, standard); ok {
		ask, inside = []string{"env", "GOROOT"}, "src/"+rest
	}
	out, err := exec.CommandContext(ctx, "go", ask...).Output()
	if err != nil {
		return "", fmt.Errorf("campaign: go %s: %w", strings.Join(ask, " "), err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), filepath.FromSlash(inside)), nil
}
