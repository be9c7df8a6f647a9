package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/relaywebhooks/relay/consumer"
)

// check names everything that relay would refuse, before it is published: what
// is stored and then dead-lettered is harder to find. It also writes waits as
// moments, which is what a message holds.
func (c *sendCommand) check(body []byte, now time.Time) error {
	var faults []error
	for _, h := range c.Header {
		if !strings.Contains(h, ":") {
			faults = append(faults, fmt.Errorf("--header: %q is not \"Name: value\"", h))
		}
	}
	c.ScheduledAt = moment(c.ScheduledAt, now)
	c.ExpiresAt = moment(c.ExpiresAt, now)
	if expires, err := time.Parse(time.RFC3339, c.ExpiresAt); err == nil && !expires.After(now) {
		faults = append(faults, errors.New("expires_at: is in the past"))
	}
	return errors.Join(append(faults, consumer.Check(c.message(body), now))...)
}

// moment writes a wait, such as 10m, as the moment at which it ends: in whole
// seconds, and not before. What is no wait is left as it is.
func moment(text string, now time.Time) string {
	wait, err := parseDuration(text)
	if err != nil {
		return text
	}
	return now.Add(wait + time.Second - 1).UTC().Truncate(time.Second).Format(time.RFC3339)
}
