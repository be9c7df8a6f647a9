package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go collects garbage whenever the heap has doubled since the last time. That is
// often while little is alive: in a burst relay, its NATS server included, keeps
// 20 MB and makes 40 KB of garbage for each webhook, and collecting it took an
// eighth of its CPU time. So relay lets the heap grow by spareHeap more, which
// makes that a twelfth. Where much is alive, collecting is rare enough and memory
// is what counts: nothing changes. GOMEMLIMIT holds as ever, and whoever sets GOGC
// is left alone.
const (
	spareHeap     = 20 << 20 // bytes
	mostGOGC      = 200      // bounds what happens if much comes alive between two looks
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
	if alive <= spareHeap {
		return mostGOGC
	}
	return 100 + int(100*spareHeap/alive)
}
