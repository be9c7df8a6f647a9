package main

import (
	"io"
	"os"

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

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
