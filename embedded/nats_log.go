package embedded

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"

	"github.com/rs/zerolog"
)

// natsLog is the server's logger. What the server calls fatal ends the server's
// start, and must not end this process, as its own logger would.
type natsLog struct {
	log zerolog.Logger

	mu    sync.Mutex
	first error
}

// fatal returns the first fatal error, or nil.
func (l *natsLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// Fatalf keeps the error for whoever started the server.
func (l *natsLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error().Msg(text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first != nil {
		return
	}
	l.first = errors.New(text)
	for _, arg := range v {
		if err, ok := arg.(error); ok && errors.Is(err, syscall.EADDRINUSE) {
			l.first = err // it names the address, and its reader may look at it
		}
	}
}

// Errorf logs at error.
func (l *natsLog) Errorf(format string, v ...any) { l.log.Error().Msgf(format, v...) }

// Warnf logs at warn.
func (l *natsLog) Warnf(format string, v ...any) { l.log.Warn().Msgf(format, v...) }

// Noticef logs at debug: a start alone gives thirty notices. Rulers and empty
// lines say nothing in a log of lines.
func (l *natsLog) Noticef(format string, v ...any) {
	if text := fmt.Sprintf(format, v...); text != "" && !strings.HasPrefix(text, "----") {
		l.log.Debug().Msg(text)
	}
}

// Debugf logs at debug.
func (l *natsLog) Debugf(format string, v ...any) { l.log.Debug().Msgf(format, v...) }

// Tracef logs at trace.
func (l *natsLog) Tracef(format string, v ...any) { l.log.Trace().Msgf(format, v...) }
