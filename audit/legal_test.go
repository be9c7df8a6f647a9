package audit_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/relaywebhooks/relay"
)

// facts are what the rules of [requireLegal] speak of.
type facts struct {
	Status                              string
	Generation, Attempts, Rows, OfThis  int
	Claimed, Leased, Due, Ended, Passed bool
	Streak                              int
}

// requireLegal holds an event's row against the rules, and returns its
// terminal status in the generation of w, or "". A terminal status never
// changes within a generation.
func requireLegal(t *testing.T, rt *rapid.T, pool *pgxpool.Pool, w relay.Webhook, ended string) string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
		SELECT status, generation, attempts,
			(SELECT count(*) FROM relay.attempts a WHERE a.accepted_at = w.accepted_at AND a.seq = w.seq AND kind <> 'unrecorded') AS rows,
			(SELECT count(*) FROM relay.attempts a WHERE a.accepted_at = w.accepted_at AND a.seq = w.seq AND kind <> 'unrecorded'
				AND a.generation = w.generation) - generation_attempts AS of_this,
			claim IS NOT NULL AS claimed, claimed_until IS NOT NULL AND claimed_by IS NOT NULL AS leased,
			next_due IS NOT NULL AS due, failed_at IS NOT NULL AS ended, delivered_at IS NOT NULL AS passed,
			unrecorded_streak AS streak
		FROM relay.webhooks w WHERE accepted_at = $1 AND seq = $2`, w.Key.Time, int64(w.Key.Seq))
	if err != nil {
		rt.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[facts])
	if err != nil {
		rt.Fatal(err)
	}
	if len(found) == 0 {
		return "" // not claimed yet
	}
	f := found[0]
	terminal := slices.Contains([]string{"delivered", "failed", "dead"}, f.Status)
	for rule, holds := range map[string]bool{
		"attempts = rows other than unrecorded":             f.Attempts == f.Rows && f.OfThis == 0,
		"processing = claimed, with a lease":                f.Claimed == (f.Status == "processing") && f.Claimed == f.Leased,
		"only a pending event is due":                       !f.Due || f.Status == "pending",
		"delivered_at = delivered":                          f.Passed == (f.Status == "delivered"),
		"failed_at = failed or dead":                        f.Ended == (f.Status == "failed" || f.Status == "dead"),
		"the generation is none of the future":              f.Generation <= w.Generation,
		"no more unrecorded ones in a row than are allowed": f.Streak <= relay.MaxUnrecorded,
		"what ended stays so":                               ended == "" || f.Generation < w.Generation || f.Status == ended,
	} {
		if !holds {
			rt.Fatalf("%s: %+v", rule, f)
		}
	}
	if terminal && f.Generation == w.Generation {
		return f.Status
	}
	return ""
}
