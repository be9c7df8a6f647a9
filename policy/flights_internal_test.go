package policy

import (
	"testing"
	"testing/synctest"
	"time"
)

// The rule of sharing, with a budget of 100 slow calls.
func TestSlowEndpointsShare(t *testing.T) {
	quick := load{took: 20 * time.Millisecond, calls: 30}
	unknown, unknownIn := load{}, load{calls: 1}
	slow, slowIn := load{took: time.Second}, load{took: time.Second, calls: 5}
	turned := load{took: 20 * time.Millisecond, calls: 5, old: 1} // quick, and now one hangs
	edge := load{took: slowAfter, calls: 30}
	tests := []struct {
		name             string
		endpoints, calls int // slow, in flight
		load             load
		want             any // nil, or the share
	}{
		{"nothing is slow", 0, 0, slowIn, nil},
		{"below half, slow", 3, 49, slowIn, nil},
		{"below half, unknown", 3, 49, unknownIn, nil},
		{"half, quick", 3, 50, quick, nil},
		{"half, as slow as quick ones may be", 3, 50, edge, nil},
		{"half, slow, below its share", 8, 50, slowIn, nil},
		{"half, slow, at its share", 10, 50, slowIn, 5},
		{"half, slow, above its share", 25, 50, slowIn, 2},
		{"half, turned slow", 25, 50, turned, 2},
		{"half, unknown, nothing in flight", 25, 50, unknown, nil},
		{"half, more endpoints than calls to share, none in flight", 60, 60, slow, nil},
		{"half, more endpoints than calls to share, one in flight", 60, 60, unknownIn, 1},
		{"seven eighths but one, slow, none in flight", 87, 87, slow, nil},
		{"seven eighths, slow, none in flight", 88, 88, slow, 0},
		{"seven eighths, unknown, none in flight", 88, 88, unknown, nil},
		{"one short of all, unknown, none in flight", 99, 99, unknown, nil},
		{"all, slow, none in flight", 100, 100, slow, 0},
		{"all, unknown, none in flight", 100, 100, unknown, 0},
		{"all, turned slow", 100, 100, turned, 0},
		{"all, quick", 100, 100, quick, nil},
		{"more than all, quick", 300, 356, quick, nil},
		{"more than all, unknown", 300, 356, unknown, 0},
	}
	for _, test := range tests {
		f := &flights{endpoints: test.endpoints, calls: test.calls}
		test.load.tenant = &tenant{slow: test.endpoints, calls: test.calls}
		got := f.crowded(&test.load, &Options{SlowCalls: 100})
		if test.want == nil {
			if got != nil {
				t.Errorf("%s: refused: %v", test.name, got)
			}
			continue
		}
		if got == nil || got.share != test.want {
			t.Errorf("%s: %+v, want a share of %v", test.name, got, test.want)
		}
	}
}

func (f *flights) requireBegun(t *testing.T, x *flight, l *load) {
	t.Helper()
	if full := f.begin(x, l, &Options{SlowCalls: 100}); full != nil {
		t.Fatal(full)
	}
}

// What is counted as slow, step by step.
func TestCountOfSlowCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flights{}
		require := func(what string, endpoints, calls int) {
			t.Helper()
			if e, c := f.slow(time.Now()); e != endpoints || c != calls {
				t.Fatalf("%s: %d endpoints, %d calls; want %d and %d", what, e, c, endpoints, calls)
			}
		}
		of := &tenant{}
		a, b := &load{tenant: of}, &load{tenant: of}
		var xs [4]flight
		for i := range 3 {
			f.requireBegun(t, &xs[i], a)
			time.Sleep(100 * time.Millisecond)
		}
		f.requireBegun(t, &xs[3], b)
		require("a's first is 300 ms old", 1, 3)
		f.end(&xs[0], slowAfter+1, true)
		require("a's smoothed time is too long", 1, 2)
		f.end(&xs[1], slowAfter, true)
		require("a has become quick", 0, 0)
		time.Sleep(250 * time.Millisecond)
		require("a's last is old, b's is not yet", 1, 1)
		time.Sleep(time.Nanosecond)
		require("b's is old", 2, 2)
		f.end(&xs[2], slowAfter, true)
		f.end(&xs[3], 0, false)
		f.end(&xs[3], 0, false) // it is not in flight any more
		require("all have ended", 0, 0)
		if f.oldest != nil || f.newest != nil || a.calls != 0 || a.old != 0 || b.calls != 0 || b.old != 0 {
			t.Errorf("something is left: %+v, %+v, %+v", f, a, b)
		}
	})
}

// Any of them may end first.
func TestFlightsLeaveInAnyOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}} {
		f, l, xs := &flights{}, &load{tenant: &tenant{}}, make([]flight, 3)
		for i := range xs {
			f.requireBegun(t, &xs[i], l)
		}
		for n, i := range order {
			f.end(&xs[i], time.Millisecond, true)
			seen := 0
			for x := f.oldest; x != nil; x = x.beyond {
				seen++
			}
			if seen != 2-n {
				t.Errorf("order %v: %d are left after %d have ended", order, seen, n+1)
			}
		}
		if f.oldest != nil || f.newest != nil {
			t.Errorf("order %v: the list is not empty", order)
		}
	}
}
