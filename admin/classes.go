package admin

import (
	"strconv"
	"strings"

	"github.com/relaywebhooks/relay"
)

// outcome names what an attempt came to, for a label.
func outcome(a relay.Attempt) string {
	switch {
	case a.Success:
		return "success"
	case a.Kind == relay.Response:
		return "failure"
	case a.Kind == relay.Error, a.Kind == relay.Blocked, a.Kind == relay.Unrecorded:
		return string(a.Kind)
	default:
		return "other"
	}
}

// statusClass folds a status code into one of seven: a receiver can send any
// three digits, and each would be a series.
func statusClass(status int) string {
	switch {
	case status == 0:
		return "none"
	case status < 100 || status > 599:
		return "other"
	default:
		return strconv.Itoa(status/100) + "xx"
	}
}

// reasonClass folds a verdict's reason, which is written for people, into a
// bounded set of classes.
func reasonClass(attempts []relay.Attempt, v relay.Verdict) string {
	if v.Action == relay.Failed {
		return "exhausted"
	}
	if n := len(attempts); n > 0 && !strings.HasPrefix(v.Reason, "expired") {
		return rejection(attempts[n-1])
	}
	// Without an attempt relay itself decided, and its reasons begin with these.
	for _, class := range []string{"expired", "buried", "invalid", "poison", "blocked"} {
		if strings.HasPrefix(v.Reason, class) {
			return class
		}
	}
	return "other"
}

func rejection(a relay.Attempt) string {
	switch {
	case a.Kind == relay.Blocked:
		return "blocked"
	case a.Status == 410:
		return "gone"
	case a.Kind == relay.Response:
		return "rejected"
	default:
		return "other"
	}
}
