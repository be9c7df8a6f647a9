package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockFile lies in every data directory for as long as it exists. Only the
// flock on it counts, which the kernel gives back when its process dies,
// however it dies; the process id inside is for people.
const lockFile = "relay.lock"

// lockDir takes dir for this process. NATS has no lock of its own: two servers
// on one directory both start and destroy each other's streams.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded: lock %s: %w", dir, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder := readLock(f)
		return nil, errors.Join(
			fmt.Errorf("embedded: %s is in use by %s: stop that one, or give this one another data directory", dir, holder),
			f.Close(),
		)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded: lock %s: %w", path, err), f.Close())
	}
	if err := writeLock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("embedded: write %s: %w", path, err), f.Close())
	}
	return f, nil
}

func readLock(f *os.File) string {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	pid := strings.TrimSpace(string(b))
	if err != nil || pid == "" {
		return "another relay"
	}
	if pid == strconv.Itoa(os.Getpid()) {
		return "this very process (" + pid + ")"
	}
	return "another relay, process " + pid
}

func writeLock(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}
