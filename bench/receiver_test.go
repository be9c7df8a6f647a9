package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

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
