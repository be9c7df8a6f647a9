package main

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// newLogger makes the program's logger. Its level is zerolog's global one, which
// a reload can change while the program runs.
func newLogger(c LogConfig, w io.Writer) zerolog.Logger {
	zerolog.SetGlobalLevel(c.Level.zerolog())
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	if c.Format == formatConsole || c.Format == formatAuto && isTerminal(w) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05.000", NoColor: !isTerminal(w)}
	}
	return zerolog.New(w).With().Timestamp().Logger()
}

// tameStandardLog takes over the standard library's own log. net/http writes a
// line there for each frame of HTTP/2 that it does not know and for each answer
// that nobody asked for, so that any endpoint could fill the disk; and it has no
// setting for that. They become notices at debug, a few a minute.
func tameStandardLog(log zerolog.Logger) {
	few := log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Minute})
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(slog.New(zerolog.NewSlogHandler(few)))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
