package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/relaywebhooks/relay"
)

// check names everything that relay would refuse, before it is published: what
// is stored and then dead-lettered is harder to find.
func (c *sendCommand) check(body []byte, now time.Time) error {
	var faults []error
	fault := func(flag, problem string, a ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", flag, fmt.Sprintf(problem, a...)))
	}
	c.checkTarget(fault)
	c.checkTexts(fault)
	c.checkTimes(fault, now)
	c.checkHeaders(fault)
	if methods := []string{"POST", "PUT", "PATCH", "DELETE", "GET"}; c.Method != "" && !slices.Contains(methods, c.Method) {
		fault("--method", "must be %s", joinWords(methods))
	}
	if c.MaxAttempts < 0 || c.MaxAttempts > relay.MaxMaxAttempts {
		fault("--max-attempts", "must be from 1 to %d", relay.MaxMaxAttempts)
	}
	if c.Metadata != "" {
		var object map[string]json.RawMessage
		if json.Unmarshal([]byte(c.Metadata), &object) != nil || object == nil {
			fault("--metadata", "must be a JSON object")
		} else if len(c.Metadata) > relay.MaxMetadata {
			fault("--metadata", "has %d bytes, more than %d", len(c.Metadata), relay.MaxMetadata)
		}
	}
	if size := len(c.message(body).Data); size > relay.MaxBody {
		fault("the message", "has %d bytes, more than %d", size, relay.MaxBody)
	}
	return errors.Join(faults...)
}

type faultFunc func(flag, problem string, a ...any)

func (c *sendCommand) checkTarget(fault faultFunc) {
	if (c.URL == "") == (c.Endpoint == "") {
		fault("--url", "name a --url or an --endpoint, one of them")
	}
	if c.URL != "" {
		if _, err := relay.CheckURL(c.URL); err != nil {
			fault("--url", "%s", strings.TrimPrefix(err.Error(), "URL: "))
		}
	}
}

var webhookID = regexp.MustCompile(fmt.Sprintf(`^[A-Za-z0-9_-]{1,%d}$`, relay.MaxID))

func (c *sendCommand) checkTexts(fault faultFunc) {
	if !webhookID.MatchString(c.ID) {
		fault("--id", "must be 1 to %d of A-Z a-z 0-9 _ -", relay.MaxID)
	}
	for flag, value := range map[string]string{
		"--endpoint": c.Endpoint, "--event-type": c.EventType, "--tenant": c.Tenant,
		"--idempotency-key": c.IdempotencyKey, "--content-type": c.ContentType,
	} {
		if len(value) > relay.MaxName {
			fault(flag, "has %d bytes, more than %d", len(value), relay.MaxName)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7F || r == 0xFFFD }) {
			fault(flag, "holds control characters or no UTF-8")
		}
	}
}

// checkTimes also writes waits as moments, which is what a message holds.
func (c *sendCommand) checkTimes(fault faultFunc, now time.Time) {
	moment := func(flag string, value *string, limit time.Duration) time.Time {
		if *value == "" {
			return time.Time{}
		}
		at, err := time.Parse(time.RFC3339, *value)
		if wait, err2 := parseDuration(*value); err != nil && err2 == nil {
			at, err = now.Add(wait+time.Second-1).UTC().Truncate(time.Second), nil // whole seconds, and not before
		}
		if err != nil {
			fault(flag, "must be RFC 3339, such as 2026-01-31T08:00:00Z, or a wait such as 10m")
			return time.Time{}
		}
		if at.After(now.Add(limit)) {
			fault(flag, "is more than %s ahead", formatDuration(limit))
		}
		*value = at.Format(time.RFC3339)
		return at
	}
	scheduled := moment("--scheduled-at", &c.ScheduledAt, relay.MaxScheduleAhead)
	expires := moment("--expires-at", &c.ExpiresAt, relay.MaxExpiry)
	if !expires.IsZero() && !expires.After(scheduled) {
		fault("--expires-at", "must be after --scheduled-at")
	}
	if !expires.IsZero() && !expires.After(now) {
		fault("--expires-at", "is in the past")
	}
}

func (c *sendCommand) checkHeaders(fault faultFunc) {
	size := 0
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		size += len(name) + len(value)
		if !ok {
			fault("--header", "must be \"Name: value\"")
		} else if err := relay.CheckRequestHeader(name, value); err != nil {
			fault("--header", "%s", err)
		}
	}
	if len(c.Header) > relay.MaxHeaders {
		fault("--header", "%d headers, more than %d", len(c.Header), relay.MaxHeaders)
	}
	if size > relay.MaxHeaderBytes {
		fault("--header", "%d bytes together, more than %d", size, relay.MaxHeaderBytes)
	}
}
