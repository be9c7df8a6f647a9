package main

import (
	"bytes"
	"log" //nolint:depguard // this is about it
	"os"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// An endpoint that has net/http complain, as it does line by line about frames
// that it does not know, does not fill the log.
func TestEndpointsDoNotFillTheLog(t *testing.T) {
	before := zerolog.GlobalLevel()
	t.Cleanup(func() {
		zerolog.SetGlobalLevel(before)
		log.SetOutput(os.Stderr)
	})
	for level, most := range map[zerolog.Level]int{zerolog.InfoLevel: 0, zerolog.DebugLevel: 5} {
		var out bytes.Buffer
		zerolog.SetGlobalLevel(level)
		tameStandardLog(zerolog.New(&out))
		for range 1000 {
			log.Printf("Transport: unhandled response frame type")
		}
		if lines := strings.Count(out.String(), "\n"); lines != most {
			t.Errorf("at %s: %d lines, want %d: %.300s", level, lines, most, out.String())
		}
	}
}
