package policy

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryAfter reads Retry-After: whole seconds or an HTTP date. The answer lies
// between 0 (none, past, or nonsense) and longest, whatever the endpoint sent.
// Of several headers the largest counts.
func retryAfter(h http.Header, now time.Time, longest time.Duration) time.Duration {
	var asked time.Duration
	for _, value := range h.Values("Retry-After") {
		asked = max(asked, parseRetryAfter(strings.TrimSpace(value), now, longest))
	}
	return asked
}

func parseRetryAfter(value string, now time.Time, longest time.Duration) time.Duration {
	if isDigits(value) {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(longest/time.Second) {
			return longest // more digits than an int64 holds is still a number
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	// Sub does not overflow: it stops at the longest Duration there is.
	return min(max(at.Sub(now), 0), longest)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
