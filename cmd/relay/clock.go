package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// skewLook is within how long every clock has been looked at again: Postgres'
// is compared once a minute.
const skewLook = 65 * time.Second

// clocks compares this machine's clock with those of the servers. It is safe
// for concurrent use.
type clocks struct {
	host    string
	servers []serverClock

	mu       sync.Mutex
	farSince time.Time // when check first found one far off; zero while none is
}

// serverClock is the clock of one server.
type serverClock struct {
	label string // of the metric
	name  string // for people: what it is, and where
	skew  func() (ahead time.Duration, known bool)
}

// compared are the clocks that this relay stands on.
func (a *app) compared() *clocks {
	host, err := os.Hostname()
	if err != nil {
		host = "relay's"
	}
	at := func(name, where string) string { return strings.TrimSuffix(name+" at "+where, " at ") }
	return &clocks{host: host, servers: []serverClock{
		{"nats", at("NATS", a.conn.ConnectedUrlRedacted()), func() (time.Duration, bool) {
			now := a.consumer.Stats()
			return now.Skew, now.SkewKnown
		}},
		{"postgres", at("Postgres", a.pool.Config().ConnConfig.Host), a.record.Skew},
	}}
}

// skews are the differences that are known, by server.
func (c *clocks) skews() map[string]time.Duration {
	known := map[string]time.Duration{}
	for _, s := range c.servers {
		if ahead, ok := s.skew(); ok {
			known[s.label] = ahead
		}
	}
	return known
}

// check returns an error that says whose clock is off and by how much, if one
// is so far off that signatures are in danger.
func (c *clocks) check(now time.Time) error {
	var far, near []string
	var least, most time.Duration
	for _, s := range c.servers {
		ahead, known := s.skew()
		switch {
		case !known:
			continue
		case ahead.Abs() <= muchSkew:
			near = append(near, s.name)
			continue
		case len(far) == 0:
			least, most = ahead, ahead
		}
		far = append(far, s.name+", which is "+aheadText(ahead))
		least, most = min(least, ahead), max(most, ahead)
	}
	settled := c.settled(now, len(far) > 0)
	if len(far) == 0 {
		return nil
	}
	const advice = ". Set them by NTP: signatures carry the time, and receivers refuse what is five minutes off"
	them := strings.Join(far, ", and from that of ")
	switch {
	case len(far) > 1 && most-least <= muchSkew:
		return fmt.Errorf("the clock of this machine, %s, is wrong: it differs from that of %s%s", c.host, them, advice)
	case len(far) == 1 && len(near) > 0 && settled:
		return fmt.Errorf("the clock of %s, is wrong: this machine's, %s, agrees with that of %s%s",
			them, c.host, strings.Join(near, " and "), advice)
	default: // nobody can tell whose it is
		return fmt.Errorf("the clock of this machine, %s, differs from that of %s%s", c.host, them, advice)
	}
}

// aheadText says a skew in words.
func aheadText(ahead time.Duration) string {
	text := formatDuration(ahead.Abs().Round(time.Second))
	if ahead < 0 {
		return text + " behind"
	}
	return text + " ahead"
}

// settled reports whether a difference, if there is one, has lasted until every
// clock was looked at again. Before, a clock that seems to agree may only not
// have been asked since.
func (c *clocks) settled(now time.Time, far bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !far {
		c.farSince = time.Time{}
		return true
	}
	if c.farSince.IsZero() {
		c.farSince = now
	}
	return now.Sub(c.farSince) >= skewLook
}
