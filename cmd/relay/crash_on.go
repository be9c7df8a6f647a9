//go:build crash

package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/relaywebhooks/relay/consumer"
)

// crashPoints kills this process, as kill -9 would, when it passes a point for
// the n-th time: CRASH_AT=after-record:1. It exists only in a relay that was
// built with the tag crash, for the tests of the crash points.
func crashPoints() func(consumer.Point) {
	point, times, _ := strings.Cut(os.Getenv("CRASH_AT"), ":")
	n, err := strconv.ParseInt(times, 10, 64)
	if point == "" || err != nil {
		return nil
	}
	var passed atomic.Int64
	return func(p consumer.Point) {
		if string(p) == point && passed.Add(1) == n {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal arrives
		}
	}
}
