package audit

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

const circuitsEach = time.Second

// circuit is the latest known state of one endpoint's circuit.
type circuit struct {
	url, name, state string
	until            time.Time
}

// circuits holds what is yet to be mirrored. It is safe for concurrent use.
type circuits struct {
	mu    sync.Mutex
	byKey map[string]circuit
}

// Circuit notes the state of an endpoint's circuit, for people who look into
// relay.endpoints; a zero until means that no end is known. It never waits:
// Run writes the latest state of each endpoint about once a second, and tries
// again while Postgres is away.
func (l *Log) Circuit(key, url, name, state string, until time.Time) {
	l.circuits.mu.Lock()
	defer l.circuits.mu.Unlock()
	if l.circuits.byKey == nil {
		l.circuits.byKey = map[string]circuit{}
	}
	l.circuits.byKey[key] = circuit{url: url, name: name, state: state, until: until}
}

// take empties the mirror's backlog.
func (c *circuits) take() map[string]circuit {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.byKey
	c.byKey = nil
	return out
}

// giveBack returns what could not be written, unless it is out of date.
func (c *circuits) giveBack(old map[string]circuit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(old, c.byKey)
	c.byKey = old
}

// mirrorCircuits writes the circuits' states until ctx ends.
func (l *Log) mirrorCircuits(ctx context.Context) {
	for pause(ctx, circuitsEach) {
		l.flushCircuits(ctx)
	}
}

const upsertCircuits = `
INSERT INTO relay.endpoints AS e (endpoint_key, url, host, name, circuit_state, circuit_until)
SELECT i.key, i.url, i.host, NULLIF(i.name, ''), i.state, NULLIF(i.until, '0001-01-01 00:00:00Z')
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    AS i (key, url, host, name, state, until)
ORDER BY i.key
ON CONFLICT (endpoint_key) DO UPDATE SET
    name = coalesce(excluded.name, e.name), circuit_state = excluded.circuit_state,
    circuit_until = excluded.circuit_until, updated_at = now()`

func (l *Log) flushCircuits(ctx context.Context) {
	const patience = 5 * time.Second
	changed := l.circuits.take()
	if len(changed) == 0 {
		return
	}
	var keys, urls, hosts, names, states []string
	var untils []time.Time
	for _, k := range slices.Sorted(maps.Keys(changed)) {
		c := changed[k]
		u, host := showURL(c.url)
		keys, urls, hosts = append(keys, text(k, maxName)), append(urls, u), append(hosts, host)
		names, states = append(names, text(c.name, maxName)), append(states, text(c.state, maxName))
		untils = append(untils, c.until)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := l.pool.Exec(ctx, upsertCircuits, keys, urls, hosts, names, states, untils); err != nil {
		l.o.Logger.Debug().Err(err).Int("endpoints", len(keys)).Msg("cannot mirror the circuits; trying again")
		l.circuits.giveBack(changed)
	}
}
