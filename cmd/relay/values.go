package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
)

// logLevel is the least important level that is logged.
type logLevel string

const levelInfo logLevel = "info"

// UnmarshalText takes the names of zerolog's levels that make sense to set.
func (l *logLevel) UnmarshalText(text []byte) error {
	return oneOf(l, text, "debug", levelInfo, "warn", "error")
}

func (l logLevel) zerolog() zerolog.Level {
	level, err := zerolog.ParseLevel(string(l))
	if err != nil {
		return zerolog.InfoLevel
	}
	return level
}

// logFormat is how log lines look.
type logFormat string

const (
	formatAuto    logFormat = "auto" // console on a terminal, else JSON
	formatJSON    logFormat = "json"
	formatConsole logFormat = "console"
)

// UnmarshalText takes the three formats.
func (f *logFormat) UnmarshalText(text []byte) error {
	return oneOf(f, text, formatAuto, formatJSON, formatConsole)
}

func oneOf[T ~string](to *T, text []byte, values ...T) error {
	if !slices.Contains(values, T(text)) {
		return fmt.Errorf("must be one of %s", joinWords(values))
	}
	*to = T(text)
	return nil
}

// syncInterval is how often the embedded NATS server makes its files durable:
// "always", which is before every acknowledgement, or a duration.
type syncInterval string

const syncAlways syncInterval = "always"

// UnmarshalText takes always or a positive duration.
func (s *syncInterval) UnmarshalText(text []byte) error {
	if d, err := parseDuration(string(text)); string(text) != string(syncAlways) && (err != nil || d <= 0) {
		return errors.New("must be always, or a duration such as 2m")
	}
	*s = syncInterval(text)
	return nil
}

// every returns 0 for always.
func (s syncInterval) every() time.Duration {
	d, err := parseDuration(string(s))
	if err != nil {
		return 0
	}
	return d
}

// codeRanges are HTTP status codes, written as 200-299,304.
type codeRanges []relay.CodeRange

// UnmarshalText reads codes and ranges of codes, separated by commas.
func (c *codeRanges) UnmarshalText(text []byte) error {
	ranges, err := relay.ParseCodes(string(text))
	if err == nil {
		*c = ranges
	}
	return err
}

// String returns what UnmarshalText reads.
func (c codeRanges) String() string { return relay.FormatCodes(c) }

// serverURL is one NATS URL, or several with commas between them. It prints
// without its password.
type serverURL string

// String hides passwords and tokens.
func (s serverURL) String() string {
	parts := strings.Split(string(s), ",")
	for i, part := range parts {
		parts[i] = redactURL(strings.TrimSpace(part))
	}
	return strings.Join(parts, ",")
}

// proxyURL is the way out of the network. It prints without its password.
type proxyURL string

// String hides the password.
func (p proxyURL) String() string { return redactURL(string(p)) }

// databaseURL is a Postgres URL or a key=value string. It prints without its
// password.
type databaseURL string

var password = regexp.MustCompile(`(?i)(password\s*=\s*)('(?:\\.|[^'\\])*'?|[^\s&]+)`)

// String hides the password, wherever it stands.
func (d databaseURL) String() string {
	s := string(d)
	if strings.Contains(s, "://") || !strings.Contains(s, "=") {
		s = redactURL(s)
	}
	return password.ReplaceAllString(s, "${1}xxxxx")
}

// endpointURL is where webhooks go. It prints without its query, in which
// receivers like to put their tokens.
type endpointURL string

// String hides the query.
func (u endpointURL) String() string {
	if before, _, ok := strings.Cut(string(u), "?"); ok {
		return redactURL(before) + "?[hidden]"
	}
	return redactURL(string(u))
}

// redactURL hides all of what it cannot read: it may be a password.
func redactURL(s string) string {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return ""
	case err != nil, u.Opaque != "" && strings.Contains(u.Opaque, "@"):
		return "[hidden]"
	case u.User == nil && strings.Contains(s, "@"):
		return "[hidden]" // user:password@host, without a scheme
	}
	if u.User != nil {
		if _, has := u.User.Password(); !has && u.Scheme != "postgres" && u.Scheme != "postgresql" {
			u.User = url.User("xxxxx") // nats://token@host: the name is the token
		}
	}
	return u.Redacted()
}

func parseDuration(s string) (time.Duration, error) { return relay.ParseDuration(s) }

func formatDuration(d time.Duration) string { return relay.FormatDuration(d) }

func joinWords[T ~string](words []T) string {
	s := make([]string, len(words))
	for i, w := range words {
		s[i] = string(w)
	}
	if len(s) < 2 {
		return strings.Join(s, "")
	}
	return strings.Join(s[:len(s)-1], ", ") + " or " + s[len(s)-1]
}
