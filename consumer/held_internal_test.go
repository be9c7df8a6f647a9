package consumer

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// A request that is slow gives its slot back, once, and only as many as may.
func TestSlowRequestsGiveTheirSlotsBack(t *testing.T) {
	room := newSlots(4)
	if n, _ := room.take(); n != 4 {
		t.Fatal("want all four")
	}
	h := newHeld(2)
	var hands []*hand
	msgs := make([]delivery, 4)
	for i := range msgs {
		msgs[i] = delivery{msg: nats.NewMsg("a")}
		room.fill()
		hands = append(hands, h.add(msgs[i], room))
	}
	for _, in := range hands[:3] {
		in.sends()
	}
	h.yield(time.Now())
	if room.idle != 0 {
		t.Errorf("%d slots are free before anything is slow", room.idle)
	}
	h.yield(time.Now().Add(slowAfter))
	h.yield(time.Now().Add(slowAfter))
	if room.idle != 2 {
		t.Errorf("%d slots are free, want those of as many slow ones as may be", room.idle)
	}
	for i, in := range hands {
		h.remove(msgs[i])
		in.release()
	}
	if room.idle != 4 || h.slow != 0 {
		t.Errorf("%d slots are free and %d are slow when all is done", room.idle, h.slow)
	}
}
