package main

import (
	"context"
	"os"
	"runtime/debug"
	"testing"
	"testing/synctest"
)

func TestTheHeapMayGrowByAFixedAmountMore(t *testing.T) {
	for alive, want := range map[uint64]int{0: 400, 5 << 20: 400, 20 << 20: 400, 64 << 20: 200, 128 << 20: 150, 640 << 20: 110, 20 << 30: 100} {
		if got := percentFor(alive); got != want {
			t.Errorf("%d bytes alive: %d %%, want %d", alive, got, want)
		}
	}
}

// gogc is what the collector goes by now.
func gogc() int {
	now := debug.SetGCPercent(100)
	debug.SetGCPercent(now)
	return now
}

func TestCollectLess(t *testing.T) {
	for _, set := range []string{"", "100"} {
		t.Setenv("GOGC", set)
		if set == "" {
			if err := os.Unsetenv("GOGC"); err != nil {
				t.Fatal(err)
			}
		}
		before := gogc()
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- collectLess(ctx) }()
			synctest.Wait()
			if changed := gogc() != before; changed == (set != "") {
				t.Errorf("GOGC=%q: it is %d, and was %d", set, gogc(), before)
			}
			stop()
			if err := <-done; err != nil || gogc() != before {
				t.Errorf("at the end: %v, %d", err, gogc())
			}
		})
	}
}
