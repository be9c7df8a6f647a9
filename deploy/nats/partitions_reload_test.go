//go:build !race

package nats_test

// nats-server 2.15.2 takes new options without a lock while it answers direct
// gets. That is a race of its own, at which the detector would stop this test, so
// it runs without.

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// reload gives the running server other numbers.
func (p *partitions) reload(n, used int) {
	p.t.Helper()
	o := p.configure(n, used)
	o.Port, o.StoreDir = p.options.Port, p.options.StoreDir
	addOnlooker(p.t, o)
	if err := p.server.ReloadOptions(o); err != nil {
		p.t.Fatal(err)
	}
}

// TestTheNumberOfPartitionsChanges goes from two partitions to three and to one,
// while events are published and others wait for their endpoint. All of them are
// delivered.
func TestTheNumberOfPartitionsChanges(t *testing.T) {
	p := startPartitions(t)
	var published atomic.Int64
	again := map[string]bool{}
	stop, ended := make(chan struct{}), sync.WaitGroup{}
	ended.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if p.publish(n) > 1 {
				again[id(n)] = true
			}
			published.Add(1)
		}
	})
	more := func(n int64) {
		t.Helper()
		until := published.Load() + n
		eventually(t, "more is published", func(context.Context) bool { return published.Load() >= until })
	}
	more(100)
	p.reload(3, 3)
	p.run(t)
	eventually(t, "the third partition delivers", func(context.Context) bool {
		return p.worlds[2].count("SELECT count(*) FROM relay.webhooks WHERE status = 'delivered'") > 10
	})
	p.status.Store(http.StatusServiceUnavailable)
	more(200) // they wait, in all three
	p.reload(3, 1)
	more(1) // it was on its way meanwhile
	before := p.stored()
	more(100)
	if after := p.stored(); after[0] < before[0]+100 || after[1] != before[1] || after[2] != before[2] {
		t.Errorf("%d events went to the three partitions before, %d after; want 100 for the first one only", before, after)
	}
	close(stop)
	ended.Wait()
	for k, w := range p.worlds {
		if w.count("SELECT count(*) FROM relay.webhooks WHERE status <> 'delivered'") == 0 {
			t.Errorf("nothing waits in partition %d", k)
		}
	}
	p.status.Store(http.StatusOK)
	total := int(published.Load())
	p.delivered(t, total)
	if rows := p.sum("SELECT count(*) FROM relay.webhooks"); rows > total+len(again) {
		t.Errorf("%d rows for %d events, of which %d were published again", rows, total, len(again))
	}
	t.Logf("%d events, %d of them published again", total, len(again))
}
