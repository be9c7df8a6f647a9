package audit_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// tried is an attempt that began so many minutes after noon.
func tried(minutes int, success, failing bool) relay.Attempt {
	a := answered(500)
	a.Started = time.Date(2026, 11, 23, 12, minutes, 0, 0, time.UTC)
	a.Success, a.Failing = success, failing
	return a
}

// An endpoint fails since the first failure after its last success, by when they
// began, however late and in whatever order they are recorded.
func TestFailingSince(t *testing.T) {
	const well, sick, odd = 'w', 's', 'o' // odd: a failure that does not count against the endpoint
	type attempt struct {
		minute int
		as     rune
	}
	for name, c := range map[string]struct {
		attempts []attempt
		want     int // minutes after noon; -1: it is not failing
	}{
		"one failure":                       {[]attempt{{1, sick}}, 1},
		"one success":                       {[]attempt{{1, well}}, -1},
		"the first failure stands":          {[]attempt{{1, sick}, {2, sick}, {3, sick}}, 1},
		"a success ends it":                 {[]attempt{{1, sick}, {2, sick}, {3, well}}, -1},
		"it begins anew":                    {[]attempt{{1, sick}, {2, well}, {3, sick}, {4, sick}}, 3},
		"what does not count is left out":   {[]attempt{{1, odd}, {2, sick}, {3, odd}}, 2},
		"what does not count ends nothing":  {[]attempt{{1, sick}, {2, odd}}, 1},
		"a failure from before the success": {[]attempt{{5, well}, {4, sick}}, -1},
		"a success from before the failure": {[]attempt{{5, sick}, {4, well}}, 5},
		"failures on both sides":            {[]attempt{{1, sick}, {6, sick}, {3, well}, {7, sick}}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := connect(t, testdb.New(t))
			l := run(t, pool, audit.Options{})
			for _, a := range c.attempts {
				w := event()
				record(t, l, w, grant(t, l, w), relay.Verdict{Action: relay.Retry}, tried(a.minute, a.as == well, a.as == sick))
			}
			got := query[*time.Time](t, pool, "SELECT failing_since FROM relay.endpoints")
			switch {
			case got == nil && c.want < 0:
			case got == nil || c.want < 0 || !got.Equal(tried(c.want, false, false).Started):
				t.Errorf("failing since %v, want minute %d", got, c.want)
			}
		})
	}
}

// One record may hold two attempts, and one batch many records.
func TestFailingSinceWithinOneRecord(t *testing.T) {
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	w := event()
	c := grant(t, l, w)
	first := tried(1, false, true)
	first.ID = relay.AttemptID{1}
	for range 2 { // repeated, it changes nothing
		record(t, l, w, c, relay.Verdict{Action: relay.Delivered}, first, tried(2, true, false))
	}
	if since := query[*time.Time](t, pool, "SELECT failing_since FROM relay.endpoints"); since != nil {
		t.Errorf("it is well, and failing since %v", since)
	}
}

func TestFailing(t *testing.T) {
	t.Parallel()
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	for key, minutes := range map[string][]int{"long": {0, 30, 50}, "longest": {0, 59}, "short": {0, 9}, "once": {0}} {
		for _, m := range minutes {
			w := event()
			w.EndpointKey = key
			record(t, l, w, grant(t, l, w), relay.Verdict{Action: relay.Retry}, tried(m, false, true))
		}
	}
	if _, err := pool.Exec(t.Context(), `UPDATE relay.endpoints SET failing_since = failing_since - interval '1 second'
		WHERE endpoint_key = 'longest'`); err != nil {
		t.Fatal(err)
	}
	at := func(m int) time.Time { return tried(m, false, true).Started }
	got, err := l.Failing(t.Context(), 50*time.Minute)
	want := []relay.Failing{
		{EndpointKey: "longest", Since: at(0).Add(-time.Second), Last: at(59)},
		{EndpointKey: "long", Since: at(0), Last: at(50)},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
}

// What waits in its lane after an attempt has as many attempts left as before.
func TestAnAttemptThatDisabledUsesUpNone(t *testing.T) {
	t.Parallel()
	pool := connect(t, testdb.New(t))
	l := run(t, pool, audit.Options{})
	w := event()
	kept := relay.Verdict{Action: relay.Retry, Place: relay.Parked, Reason: "held: disabled: 410 Gone"}
	for made := range 3 {
		c := grant(t, l, w)
		if c.Made != 0 {
			t.Fatalf("claimed for the %d. time with %d attempts made", made+1, c.Made)
		}
		for range 2 {
			if got := record(t, l, w, c, kept, answered(410)); got != kept {
				t.Fatalf("%+v", got)
			}
		}
	}
	finish(t, l, w, relay.Verdict{Action: relay.Delivered})
	check(t, query[string](t, pool, "SELECT status || attempts || generation_attempts FROM relay.webhooks"), "delivered41")
	check(t, query[int](t, pool, "SELECT count(*) FROM relay.attempts"), 4)
}
