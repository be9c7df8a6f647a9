package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A green campaign means something only if a broken protocol makes a red one.
// Each of these breaks the protocol on purpose, in a copy of the real source,
// and the checker must say so.
func TestTheCheckerFindsABrokenProtocol(t *testing.T) {
	const (
		handle = "consumer/handle.go"
		record = "\trecorded, err := c.Log.Record(ctx, w, claim, attempts, verdict) // no record, no acknowledgement\n"
	)
	for name, c := range map[string]struct {
		changes []replacement
		faults  []string
		breaks  []string // invariants of which at least one must be found broken
	}{
		"acknowledge before the commit": {
			changes: []replacement{{handle, record, "\tif verdict.Place == relay.Gone {\n\t\t_ = c.ack(ctx, m)\n\t}\n" + record}},
			faults:  []string{"pg-lock-and-kill-relay"},
			breaks:  []string{"I1", "I5"},
		},
		"skip the claim": {
			changes: []replacement{{
				"audit/audit.go", "\tc, err := claims.do(ctx, w.Key, weigh(w), claiming{webhook: w, id: newID()})\n",
				"\tin := claiming{webhook: w, id: newID()}\n" +
					"\tgo func() { _, _ = claims.do(ctx, w.Key, weigh(w), in) }()\n" +
					"\tc, err := relay.Claim{ID: in.id, Until: time.Now().Add(l.o.Lease), Lease: l.o.Lease, " +
					"Verdict: relay.Verdict{Action: relay.Send, Place: relay.InQueue}}, error(nil)\n",
			}},
			faults: []string{"kill-postgres-and-relay", "kill-relay"},
			breaks: []string{"I3", "I5", "I6"},
		},
		"key rows by the delivery count": {
			changes: []replacement{{
				handle, "\tc.At(BeforeRecord)\n",
				"\tfor i := range attempts {\n\t\tif info, err := m.Metadata(); err == nil {\n" +
					"\t\t\tattempts[i].ID = relay.AttemptID{byte(info.NumDelivered), byte(i)}\n\t\t}\n\t}\n\tc.At(BeforeRecord)\n",
			}},
			faults: []string{"kill-nats", "kill-relay"},
			breaks: []string{"I3", "I12"},
		},
		"nak when Postgres fails": {
			changes: []replacement{
				{handle, "\t\tc.left(w, \"record\", err)\n", "\t\t_ = m.Nak()\n"},
				{
					"audit/settle.go", "\t\tcase overtaken, away:\n\t\t}\n",
					"\t\tcase overtaken:\n\t\tcase away:\n\t\t\tc.fail(err, batch...)\n\t\t\treturn\n\t\t}\n",
				},
			},
			faults: []string{"kill-postgres"},
			breaks: []string{"I3", "I6"},
		},
		"put the webhook id into a subject": {
			changes: []replacement{{
				"consumer/settle.go", "subject := subjectLater + w.EndpointKey + \".\" + w.Key.String()",
				"subject := subjectLater + w.EndpointKey + \".\" + w.ID",
			}},
			faults: []string{"kill-relay"},
			breaks: []string{"I1", "I5"},
		},
		"hear of no change": {
			changes: []replacement{
				{"endpoint/store.go", "\t\terr := s.refresh(ctx, patience)\n", "\t\terr := error(nil)\n"},
				{"endpoint/state.go", "err := s.refresh(context.WithoutCancel(ctx), patience)", "err := ctx.Err()"},
			},
			breaks: []string{"held", "settings", "signed"},
		},
		"sign with an old secret for ever": {
			changes: []replacement{{"endpoint/settings.go", "if !one.Until.IsZero() && !now.Before(one.Until) {", "if one.Secret == \"\" {"}},
			breaks:  []string{"signed"},
		},
		"let no old secret sign": {
			changes: []replacement{{"endpoint/write.go", "if overlap > 0 && one.Until", "if overlap < 0 && one.Until"}},
			breaks:  []string{"signed"},
		},
		"acknowledge what is held": {
			changes: []replacement{{
				"consumer/settle.go", "\t\terr = c.park(",
				"\t\tif ep, _ := c.Endpoints.ByKey(w.EndpointKey); ep.Held != \"\" {\n\t\t\terr = c.ack(ctx, m)\n\t\t\tbreak\n\t\t}\n\t\terr = c.park(",
			}},
			breaks: []string{"I1", "I5"},
		},
		"let 410 kill an event of a registered endpoint": {
			changes: []replacement{{
				"policy/judge.go", "case status == http.StatusGone && ep.Name != \"\":", "case status == http.StatusGone && ep.Name == \"nobody\":",
			}},
			breaks: []string{"kept"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flag, err := overlay(t.Context(), t.TempDir(), c.changes...)
			if err != nil {
				t.Fatal(err)
			}
			s := settings{
				Registered: true,
				Duration:   12 * time.Second, Seed: 1, Rate: 80, Relays: 2, Dir: t.TempDir(), BuildFlags: []string{flag},
				Only: append(c.faults, "none"), Every: time.Second, WarmUp: 2 * time.Second, Patience: 8 * time.Second,
			}
			var out strings.Builder
			v, err := s.run(t.Context(), &out)
			if err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			found := map[string]int{}
			for _, x := range v.Violations {
				found[x.Invariant]++
			}
			if !slices.ContainsFunc(c.breaks, func(i string) bool { return found[i] > 0 }) {
				t.Errorf("found %v, want one of %v\n%s", found, c.breaks, out.String())
			}
			t.Logf("found %v", found)
		})
	}
}
