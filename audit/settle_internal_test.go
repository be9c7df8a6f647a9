package audit

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestRecordedSoonAfterAnyOutage ends outages at all moments between two tries:
// what was sent must be recorded before the rest of its claim is over, or
// another process that has the same message takes the claim for left over and
// sends it again.
func TestRecordedSoonAfterAnyOutage(t *testing.T) {
	const soon = 300 * time.Millisecond
	for outage := 10 * time.Millisecond; outage < 40*time.Second; outage += outage/7 + 13*time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			back := time.Now().Add(outage)
			f := newFake(Options{}, func(context.Context, []*call[int, int]) error {
				if time.Now().Before(back) {
					return &pgconn.ConnectError{}
				}
				return nil
			})
			stop := f.start()
			defer stop()
			if _, err := f.do(t.Context(), key(1), 1, 4); err != nil {
				t.Fatal(err)
			}
			if late := time.Since(back); late > soon {
				t.Errorf("after an outage of %v it took %v more", outage, late)
			}
		})
	}
}
