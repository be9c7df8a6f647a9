package endpoint

import (
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

// A secret that is replaced by a process whose clock is wrong ends for all at the same
// time, when it was to end: every process goes by Postgres' clock.
func TestAWrongClockEndsNoSecret(t *testing.T) {
	t.Parallel()
	const next = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	for name, off := range map[string]time.Duration{"behind": -time.Hour, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, sealer := registered(t, 1, nil)
			right, wrong := loaded(t, pool, sealer), NewStore(StoreOptions{Pool: pool, Registry: &Registry{}, Sealer: sealer})
			wrong.clock = func() time.Time { return time.Now().Add(off) }
			if err := wrong.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			key := nameKey("tenant-0", "orders-0")
			entry, err := wrong.Rotate(t.Context(), key, next, time.Minute, "a test")
			if err != nil {
				t.Fatal(err)
			}
			if until := time.Until(entry.Secrets[1].Until); until < 50*time.Second || until > 70*time.Second {
				t.Errorf("the old secret signs for another %v, want a minute", until)
			}
			for _, s := range []*Store{right, wrong} {
				if err := s.refresh(t.Context(), patience); err != nil {
					t.Fatal(err)
				}
				if ep, _ := s.o.Registry.ByKey(key); len(ep.Secrets) != 2 || ep.Secrets[0] != relay.Secret(next) {
					t.Errorf("%d secrets sign", len(ep.Secrets))
				}
			}
		})
	}
}
