package main

import (
	"testing"
	"time"
)

// What `make campaign` runs, by the Makefile.
func usual(seed uint64) settings {
	return settings{Seed: seed, Duration: 70 * time.Second, WarmUp: 5 * time.Second, Every: 400 * time.Millisecond, Rest: 12}
}

func TestACampaignHasRoomForItsFaults(t *testing.T) {
	for seed := range uint64(100) {
		n := newNemesis(usual(seed))
		rests := 0
		for i, p := range n.calendar {
			if !p.rest {
				continue
			}
			rests++
			if i+1 < len(n.calendar) && n.calendar[i+1].at-p.at-p.hold < resumeBound {
				t.Errorf("seed %d: %s is followed by %s at once", seed, p.name, n.calendar[i+1].name)
			}
		}
		if len(n.calendar) < 25 || rests < 1 {
			t.Errorf("seed %d: %d faults, %d with time to heal", seed, len(n.calendar), rests)
		}
	}
}

func TestEveryThirdFaultOfAClusterIsOfTheCluster(t *testing.T) {
	s := settings{Seed: 1, Duration: 10 * time.Minute, WarmUp: time.Second, Every: time.Second, Rest: 3, Cluster: true}
	times, since := map[string]int{}, 0
	for _, p := range newNemesis(s).calendar[1:] { // the first is an outage that stands alone
		times[p.name]++
		if since++; p.needs == 'c' {
			since = 0
		}
		if since > 2 {
			t.Errorf("%s is the third fault in a row that has nothing to do with the cluster", p.name)
		}
	}
	for _, f := range clusterFaults() {
		if times[f.name] < 2 {
			t.Errorf("%s comes %d times in ten minutes", f.name, times[f.name])
		}
	}
}

func TestAnOlderRelayIsUpgradedAgainAndAgain(t *testing.T) {
	s := usual(1)
	s.From = "v0.1.0"
	upgrades := 0
	for _, p := range newNemesis(s).calendar {
		if p.name == upgrading {
			upgrades++
		}
	}
	if upgrades < 6 {
		t.Errorf("%d upgrades in a campaign that is for them", upgrades)
	}
}

func TestTheSameSeedMakesTheSameCalendar(t *testing.T) {
	a, b := newNemesis(usual(7)).calendar, newNemesis(usual(7)).calendar
	for i := range a {
		if a[i].name != b[i].name || a[i].at != b[i].at || a[i].seed != b[i].seed {
			t.Fatalf("fault %d: %s at %v, then %s at %v", i, a[i].name, a[i].at, b[i].name, b[i].at)
		}
	}
}
