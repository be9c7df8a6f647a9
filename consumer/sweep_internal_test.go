package consumer

import (
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

func TestRound(t *testing.T) {
	began := time.Now()
	far := relay.Webhook{ID: "far"}
	tests := []struct {
		name  string
		round round
		after time.Duration // since it began
		anew  bool
	}{
		{"the first", round{}, 0, true},
		{"on its way", round{began: began, after: far}, time.Hour, false},
		{"on its way, with a failure", round{began: began, after: far, undone: true}, time.Hour, false},
		{"through", round{began: began, after: far, whole: true}, roundEach - 1, false},
		{"through, long ago", round{began: began, after: far, whole: true}, roundEach, true},
		{"through, with a failure", round{began: began, after: far, whole: true, undone: true}, time.Second, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, now := test.round, began.Add(test.after)
			r.begin(now)
			if anew := r.after.ID == "" && r.began.Equal(now) && !r.undone && !r.whole; anew != test.anew {
				t.Errorf("begins anew: %v; %+v", anew, r)
			}
		})
	}
}
