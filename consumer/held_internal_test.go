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

// Who finds no hand free is asked back when one is, the oldest first, unless
// the server has brought it back by itself.
func TestWhatIsPutOffIsAskedBack(t *testing.T) {
	a := newAsides(10 * time.Second)
	reply := func(to string) delivery { return delivery{msg: &nats.Msg{Reply: to}} }
	for a.hands > 0 {
		if !a.take(reply("busy")) {
			t.Fatal("a hand was free")
		}
	}
	for _, to := range []string{"old", "first", "second", "third"} {
		if a.take(reply(to)) {
			t.Fatal("no hand was free")
		}
	}
	a.putOff[0].at = time.Now().Add(-9 * time.Second)
	if due := a.due(false); len(due) != 0 {
		t.Errorf("%v are asked back although no hand is free", due)
	}
	a.free()
	a.free()
	if due := a.due(false); len(due) != 2 || due[0].reply != "first" || due[1].reply != "second" {
		t.Errorf("%v are asked back, want the first two", due)
	}
	if due := a.due(true); len(due) != 1 || a.size() != 0 {
		t.Errorf("%v are asked back at the end, %d are left", due, a.size())
	}
}
