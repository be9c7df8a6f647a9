package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// clockFaults step the clock of one relay, F12.
func clockFaults() []fault {
	return []fault{{"clock-step", [2]time.Duration{6 * time.Second, 7 * time.Second}, 0, stepClock}}
}

// stepping is Go's own time.Now, with a wall clock that jumps 20 seconds
// ahead when the process is two seconds old, and to ten seconds behind when
// it is four. A relay reads no other clock, and nothing else on the machine
// notices.
var stepping = replacement{
	file: standard + "time/time.go",
	old: `	sec, nsec, mono := runtimeNow()
	if mono == 0 {
		return Time{uint64(nsec), sec + unixToInternal, Local}`,
	new: `	sec, nsec, mono := runtimeNow()
	switch lived := mono - startNano; {
	case lived > 4_000_000_000:
		sec -= 10
	case lived > 2_000_000_000:
		sec += 20
	}
	if mono == 0 {
		return Time{uint64(nsec), sec + unixToInternal, Local}`,
}

// buildStepped builds the relay whose clock jumps.
func (w *world) buildStepped(ctx context.Context) error {
	dir := w.settings.file("stepped")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	flag, err := overlay(ctx, dir, stepping)
	if err != nil {
		return err
	}
	return build(ctx, w.settings.file("relay-stepped"), relayProgram, w.settings.flags(flag)...)
}

// stepClock has one relay replaced by one whose clock jumps, for a while.
func stepClock(_ context.Context, b *breaking) (func(context.Context) error, error) {
	s := b.station()
	s.stop()
	usual := s.binary
	s.binary = b.settings.file("relay-stepped")
	err := s.start()
	b.history.note(entry{What: sayStepped, Worker: s.worker(), Name: s.name})
	return func(context.Context) error {
		s.stop()
		s.binary = usual
		return s.start()
	}, err
}
