package consumer

import (
	"testing"
	"time"
)

func TestTheNewestMessageIsKept(t *testing.T) {
	var q tail
	if q.came(7) != nil || q.keep(message{seq: 6}) || !q.keep(message{seq: 7}) {
		t.Fatal("want the newest kept, and it alone")
	}
	if q.came(5) != nil || q.came(7) != nil {
		t.Error("it was given back for one that is no newer")
	}
	if m := q.came(8); m == nil || m.seq != 7 {
		t.Errorf("%v came back when a newer one came", m)
	}
	if q.keep(message{seq: 7}) || !q.keep(message{seq: 8}) {
		t.Error("want the newer one kept, and it alone")
	}
	if m := q.before(time.Now().Add(-tailFor)); m != nil {
		t.Errorf("%v was let go at once", m)
	}
	if m := q.before(time.Now()); m == nil || m.seq != 8 {
		t.Errorf("%v was let go, want what was kept", m)
	}
	if m := q.before(time.Now()); m != nil {
		t.Errorf("%v was let go twice", m)
	}
}
