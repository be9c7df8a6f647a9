package consumer

import (
	"testing"
	"time"
)

// Copies are stored one by one where that is quicker, and as a batch where each
// would be synced; and what was found out in a bad moment is not believed for ever.
func TestCopiesAreStoredTheQuickerWay(t *testing.T) {
	var tg together
	if tg.batches(fewCopies) || !tg.batches(10*fewCopies) {
		t.Error("of an unknown server each copy is not taken to be synced")
	}
	for range 20 {
		tg.took(10, 10*10*time.Microsecond)
	}
	if tg.batches(100) || !tg.batches(500) {
		t.Error("copies of 10 us are stored as a batch of 100, or one by one 500 times")
	}
	tg.took(1, time.Hour)
	if tg.batches(100) {
		t.Error("the way of one copy to the server counts")
	}
	tg.took(10, time.Second)
	n := 0
	for ; tg.batches(16); n++ {
		if n > 1000 {
			t.Fatal("one bad moment is believed for ever")
		}
	}
	if n < 10 {
		t.Errorf("after a bad moment only %d batches were made", n)
	}
}
