//go:build !linux

package main

import (
	"errors"
	"syscall"
)

// attributes put a child into a process group of its own.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func mountSmall(string) error { return errors.New("campaign: only Linux has a tmpfs to fill") }

func unmount(string) error { return nil }
