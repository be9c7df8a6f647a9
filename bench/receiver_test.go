package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// receive starts a receiver for one event of each kind, and returns how to send
// it a webhook: the answer's status, or 0 if there was none.
func receive(t *testing.T, kinds ...Kind) (r *receiver, send func(ctx context.Context, index int) int) {
	t.Helper()
	o := Options{Listen: "127.0.0.1:0", Slow: 2 * time.Second}.withDefaults()
	events := make([]event, len(kinds))
	for i, kind := range kinds {
		events[i] = event{kind, i, load}
	}
	r, err := startReceiver(t.Context(), o, events)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	return r, func(ctx context.Context, index int) int {
		body := strings.NewReader(strings.Repeat("x", 100_000))
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, events[index].url(o.run, index, r.url, ""), body)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
}

func TestTheReceiverAnswersAsItsKindSays(t *testing.T) {
	r, send := receive(t, Healthy, Fail, Limit, Slow)
	for i, want := range []int{http.StatusOK, http.StatusInternalServerError, http.StatusTooManyRequests, http.StatusOK} {
		began := time.Now()
		if got := send(t.Context(), i); got != want {
			t.Errorf("%s: status %d, want %d", r.events[i].kind, got, want)
		}
		if took := time.Since(began); r.events[i].kind == Slow && took < r.o.Slow {
			t.Errorf("slow took %v, want %v", took, r.o.Slow)
		}
		if delivered := r.seen[i].answered.Load() != 0; delivered != (want == http.StatusOK) || r.seen[i].again.Load() != 0 {
			t.Errorf("%s: delivered %v, %d more requests", r.events[i].kind, delivered, r.seen[i].again.Load())
		}
	}
	if send(t.Context(), 0) != http.StatusOK || r.seen[0].again.Load() != 1 || r.seen[0].requests.Load() != 2 {
		t.Errorf("a second request: %d in all, %d again", r.seen[0].requests.Load(), r.seen[0].again.Load())
	}
	if resp, err := http.Post(r.url+"/healthy/l0-earlier?0", "text/plain", nil); err != nil || resp.StatusCode != http.StatusGone || resp.Body.Close() != nil {
		t.Errorf("of an earlier run: %v, %v", resp, err)
	}
}

// Whoever leaves before the answer was not answered.
func TestWhoLeavesWasNotAnswered(t *testing.T) {
	r, send := receive(t, Hang, Slow)
	for i := range r.events {
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan int)
		go func() { left <- send(ctx, i) }()
		for r.seen[i].requests.Load() == 0 {
			wait(t.Context(), time.Millisecond)
		}
		leave()
		if status := <-left; status != 0 {
			t.Errorf("%s: status %d", r.events[i].kind, status)
		}
	}
	if send(t.Context(), 1) != http.StatusOK || r.seen[1].again.Load() != 0 || r.seen[1].requests.Load() != 2 {
		t.Errorf("the one who stays: %d requests, %d after an answer", r.seen[1].requests.Load(), r.seen[1].again.Load())
	}
}

// What a request costs at the receiver, beside what it would cost with net/http.
// Both have the same bare client, whose share is small: cpu-µs/op is of both
// ends together.
func BenchmarkReceiver(b *testing.B) {
	b.Run("bench", func(b *testing.B) {
		o := Options{Listen: "127.0.0.1:0"}.withDefaults()
		events := []event{{Healthy, 0, load}}
		r, err := startReceiver(b.Context(), o, events)
		if err != nil {
			b.Fatal(err)
		}
		defer r.stop()
		drive(b, strings.TrimPrefix(r.url, "http://"), events[0].url(o.run, 0, "", ""))
	})
	b.Run("net-http", func(b *testing.B) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			w.WriteHeader(http.StatusOK)
		}))
		defer s.Close()
		drive(b, s.Listener.Addr().String(), "/healthy/l0?0")
	})
}

// drive makes one request after the other on a connection.
func drive(b *testing.B, address, path string) {
	b.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	body := strings.Repeat("x", 1024)
	request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: relay\r\nContent-Type: application/json\r\n"+
		"Webhook-Id: msg_1700000000000000-17\r\nWebhook-Timestamp: 1700000000\r\nContent-Length: %d\r\n\r\n%s", path, address, len(body), body)
	in := bufio.NewReader(c)
	began := ownCPU()
	for b.Loop() {
		if _, err := io.WriteString(c, request); err != nil {
			b.Fatal(err)
		}
		for line := ""; line != "\r\n"; { // no answer has a body
			if line, err = in.ReadString('\n'); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric((ownCPU()-began)*1e6/float64(b.N), "cpu-µs/op")
}
