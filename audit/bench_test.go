package audit_test

import (
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// BenchmarkClaimAndRecord takes new events of 1 KiB for 50 endpoints through a
// claim and a record each.
func BenchmarkClaimAndRecord(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			var batches, rows atomic.Int64
			l := run(b, connect(b, testdb.New(b)), audit.Options{Observe: func(_ string, n int, _ time.Duration) {
				batches.Add(1)
				rows.Add(int64(n))
			}})
			body := order(1024)
			work := make(chan struct{}, callers)
			var wg sync.WaitGroup
			for i := range callers {
				wg.Go(func() {
					for range work {
						w := event()
						w.Body = body
						w.EndpointKey = fmt.Sprintf("endpoint-%d", i%50)
						c, err := l.Claim(b.Context(), w)
						if err == nil {
							_, err = l.Record(b.Context(), w, c, []relay.Attempt{answered(200)}, relay.Verdict{Action: relay.Delivered, Place: relay.Gone})
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			for b.Loop() {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
			b.ReportMetric(float64(rows.Load())/float64(max(batches.Load(), 1)), "rows/batch")
		})
	}
}

// order is JSON of about n bytes, as little alike itself as orders are.
func order(n int) []byte {
	b := []byte(`{"items":[`)
	for i := 0; len(b) < n-2; i++ {
		b = fmt.Appendf(b, `{"sku":%q,"price":%d},`, rand.Text()[:8], i*i*37%9973)
	}
	return append(b[:len(b)-1], `]}`...)
}
