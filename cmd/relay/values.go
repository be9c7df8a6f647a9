package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
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
	ranges := codeRanges{}
	for part := range strings.SplitSeq(string(text), ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		lo, err1 := strconv.Atoi(strings.TrimSpace(from))
		hi, err2 := strconv.Atoi(strings.TrimSpace(to))
		if err1 != nil || err2 != nil || lo < 200 || hi > 599 || lo > hi {
			return errors.New("must be status codes from 200 to 599, such as 200-299 or 200,202")
		}
		ranges = append(ranges, relay.CodeRange{From: lo, To: hi})
	}
	*c = ranges
	return nil
}

// String returns what UnmarshalText reads.
func (c codeRanges) String() string {
	parts := make([]string, len(c))
	for i, r := range c {
		parts[i] = strconv.Itoa(r.From)
		if r.To != r.From {
			parts[i] += "-" + strconv.Itoa(r.To)
		}
	}
	return strings.Join(parts, ",")
}

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

var days = regexp.MustCompile(`^([0-9]{1,6})d(.*)$`)

// parseDuration is time.ParseDuration with days, and without a bare 0's
// exception: every duration has a unit.
func parseDuration(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	var whole time.Duration
	if m := days.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1]) // at most six digits
		if n > 100_000 {
			return 0, errors.New("is longer than relay can count")
		}
		if whole, s = time.Duration(n)*24*time.Hour, m[2]; s == "" {
			return whole, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || s == "0" {
		return 0, errors.New("is not a duration; write it with a unit, such as 30s, 5m or 2d")
	}
	if d < 0 {
		return 0, errors.New("must not be negative")
	}
	if whole+d < 0 {
		return 0, errors.New("is longer than relay can count")
	}
	return whole + d, nil
}

// formatDuration writes what parseDuration reads, without idle zeros.
func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

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
