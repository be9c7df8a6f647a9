package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// diskFaults fill the disk of NATS or of Postgres, F9.
func diskFaults() []fault {
	hold := [2]time.Duration{500 * ms, 2000 * ms}
	return []fault{
		{"disk-full-nats", hold, '1', fillNATS},
		{"disk-full-postgres", hold, 0, fillPostgres},
	}
}

// balloon takes all the room there is in a store, and returns how to let the
// air out.
func (b *breaking) balloon(store string) (func() error, error) {
	dir := filepath.Join(b.dir, store)
	if !slices.Contains(b.mounted, dir) {
		return nil, fmt.Errorf("the disk of %s cannot be filled: mounting a small tmpfs needs Linux and root", store)
	}
	path := filepath.Join(dir, "balloon")
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	piece := make([]byte, 1<<20)
	for err == nil {
		_, err = file.Write(piece)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return nil, errors.Join(err, file.Close(), os.Remove(path))
	}
	return func() error { return errors.Join(file.Close(), os.Remove(path)) }, nil
}

// A NATS server that has found its disk full needs a restart, which is the
// operator's part of the heal.
func fillNATS(_ context.Context, b *breaking) (func(context.Context) error, error) {
	release, err := b.balloon("nats")
	if err != nil {
		return nil, err
	}
	n := b.server()
	return func(ctx context.Context) error {
		if err := release(); err != nil {
			return err
		}
		n.kill()
		return n.restart(ctx)
	}, nil
}

// Postgres goes on by itself when there is room again, unless it had to give
// up; then it is started again.
func fillPostgres(ctx context.Context, b *breaking) (func(context.Context) error, error) {
	release, err := b.balloon("postgres")
	if err != nil {
		return nil, err
	}
	return func(context.Context) error {
		if err := release(); err != nil {
			return err
		}
		once, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if b.pool.Ping(once) == nil {
			return nil
		}
		b.postgres.Kill()
		return b.postgres.Restart(ctx)
	}, nil
}
