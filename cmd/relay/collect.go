package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go collects garbage whenever the heap has doubled since the last time. That is
// often while little is alive: relay, its NATS server included, keeps 20 to 40 MB
// and makes 40 to 100 KB of garbage for each webhook. Collecting takes an eighth of
// the CPU time of a burst, and both cores of a small machine for some 20 ms:
// three times a second while a lane drains, where two thirds of the slow
// deliveries beside it were those that met it. So relay lets the heap grow by
// spareHeap more. Where much is alive, collecting is rare enough and memory is
// what counts: nothing changes. GOMEMLIMIT holds as ever, and whoever sets GOGC
// is left alone.
const (
	spareHeap     = 64 << 20 // bytes
	mostGOGC      = 400      // bounds what happens if much comes alive between two looks
	collectorLook = time.Second
)

// collectLess sets the collector's pace by what is alive, until ctx ends.
func collectLess(ctx context.Context) error {
	if _, set := os.LookupEnv("GOGC"); set {
		return nil
	}
	const usual = 100
	now := usual
	defer func() { debug.SetGCPercent(usual) }()
	tick := time.NewTicker(collectorLook)
	defer tick.Stop()
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for {
		metrics.Read(alive)
		if next := percentFor(alive[0].Value.Uint64()); next > now+10 || next < now-10 { // setting it stops the world
			debug.SetGCPercent(next)
			now = next
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// percentFor is how much the heap may grow, in percent of what is alive.
func percentFor(alive uint64) int {
	if alive <= 100*spareHeap/(mostGOGC-100) {
		return mostGOGC
	}
	return 100 + int(100*spareHeap/alive)
}
