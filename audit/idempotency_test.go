package audit_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

func keyed(key string) relay.Webhook {
	w := event()
	w.IdempotencyKey = key
	return w
}

func TestDuplicate(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	first, second := keyed("k"), keyed("k")
	c := grant(t, l, first)

	want := relay.Verdict{
		Action: relay.Duplicate, Place: relay.Gone,
		Reason: fmt.Sprintf("duplicate of %s (%s)", first.ID, first.Key),
	}
	check(t, claim(t, l, second).Verdict, want)
	check(t, claim(t, l, second).Verdict, want) // redelivered
	check(t, state(t, pool, second), "dead at gone, generation 0, 0 attempts (0), streak 0, free, no time")
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.dead_letters"), 0)

	record(t, l, first, c, relay.Verdict{Action: relay.Delivered}, answered(200))
	check(t, claim(t, l, keyed("k")).Verdict.Action, relay.Duplicate) // for as long as the row is kept

	second.Generation = 1 // somebody wants it all the same
	grant(t, l, second)
	unseen := keyed("k") // and a replay whose row is long dropped
	unseen.Generation = 1
	grant(t, l, unseen)
}

func TestKeyOfADeadEventIsFree(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	for _, action := range []relay.Action{relay.Failed, relay.Dead} {
		first := keyed(action.String())
		finish(t, l, first, relay.Verdict{Action: action, Reason: "no", Place: relay.DeadLetters})
		check(t, claim(t, l, first).Verdict.Action, action) // redelivered: takes nothing back
		second := keyed(action.String())
		grant(t, l, second)

		first.Generation = 1 // its replay fails again and frees nothing of the second's
		finish(t, l, first, relay.Verdict{Action: action, Reason: "no", Place: relay.DeadLetters})
		check(t, claim(t, l, keyed(action.String())).Verdict.Action, relay.Duplicate)
	}
}

func TestOldCopyOfAReplayTakesNoKey(t *testing.T) {
	l := run(t, connect(t, testdb.New(t)), audit.Options{})
	first := keyed("k")
	finish(t, l, first, relay.Verdict{Action: relay.Dead, Place: relay.DeadLetters})
	replay := first
	replay.Generation = 1
	grant(t, l, replay)
	check(t, claim(t, l, first).Verdict.Action, relay.Superseded)
	grant(t, l, keyed("k"))
}

func TestKeyOfAnEventThatBecameInvalidIsFree(t *testing.T) {
	l := run(t, connect(t, testdb.New(t)), audit.Options{})
	w := keyed("k")
	w.Tenant = "acme"
	finish(t, l, w, relay.Verdict{Action: relay.Retry})
	w.EndpointKey, w.IdempotencyKey, w.Tenant = relay.InvalidEndpoint, "", "" // its endpoint is no longer registered
	finish(t, l, w, relay.Verdict{Action: relay.Dead, Place: relay.DeadLetters})
	again := keyed("k")
	again.Tenant = "acme"
	grant(t, l, again)
}

func TestKeysOfTenantsAreApart(t *testing.T) {
	l := run(t, connect(t, testdb.New(t)), audit.Options{})
	a, b, again := keyed("k"), keyed("k"), keyed("k")
	a.Tenant, b.Tenant, again.Tenant = "a", "b", "b"
	grant(t, l, a)
	grant(t, l, b)
	check(t, claim(t, l, again).Verdict.Action, relay.Duplicate)
}

func TestInvalidEventTakesNoKey(t *testing.T) {
	l := run(t, connect(t, testdb.New(t)), audit.Options{})
	w := keyed("k")
	w.EndpointKey, w.URL, w.Method, w.Body = relay.InvalidEndpoint, "", "", nil
	v := relay.Verdict{Action: relay.Dead, Reason: "invalid: no URL", Place: relay.DeadLetters}
	check(t, record(t, l, w, grant(t, l, w), v), v)
	grant(t, l, keyed("k"))
}

// TestKeyChangesHands has the holder of a key die just when another event has
// found it taken: the other one gets the key, not only the permission.
func TestKeyChangesHands(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	first, second := keyed("k"), keyed("k")
	grant(t, l, first)
	exec(t, pool, fmt.Sprintf(`CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		DELETE FROM relay.idempotency WHERE seq = %d; RETURN NULL; END $$`, first.Key.Seq))
	exec(t, pool, "CREATE TRIGGER die AFTER INSERT ON relay.idempotency FOR EACH STATEMENT EXECUTE FUNCTION die()")
	grant(t, l, second)
	check(t, query[int64](t, pool, "SELECT seq FROM relay.idempotency"), int64(second.Key.Seq))
}

// TestOneOfManyWins lets two processes claim many events with few keys.
func TestOneOfManyWins(t *testing.T) {
	url := testdb.New(t)
	pool := connect(t, url)
	logs := []*audit.Log{
		run(t, connect(t, url), audit.Options{Worker: "w1"}),
		run(t, connect(t, url), audit.Options{Worker: "w2"}),
	}
	const keys, each = 20, 10
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[string]int{}
	for i := range keys * each {
		wg.Go(func() {
			key := fmt.Sprintf("k%d", i%keys)
			w := keyed(key)
			c, err := logs[i/keys%2].Claim(t.Context(), w)
			switch {
			case err != nil:
				t.Error(err)
			case c.Verdict.Action == relay.Send:
				mu.Lock()
				won[key]++
				mu.Unlock()
			case c.Verdict.Action != relay.Duplicate || !strings.HasPrefix(c.Verdict.Reason, "duplicate of order-"):
				t.Errorf("claim: %v %q", c.Verdict.Action, c.Verdict.Reason)
			}
		})
	}
	wg.Wait()
	for i := range keys {
		if n := won[fmt.Sprintf("k%d", i)]; n != 1 {
			t.Errorf("key %d: %d winners", i, n)
		}
	}
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.webhooks WHERE place = 'gone'"), keys*(each-1))
}
