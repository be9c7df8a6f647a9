package consumer_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// BenchmarkDeliver is the whole way of a webhook of 1 KB: from the stream, with
// sync_interval always, to a receiver on this machine, its rows and its
// acknowledgement. Publishing is not counted.
func BenchmarkDeliver(b *testing.B) {
	r := relaytest.Start(b)
	r.Stop()
	var got atomic.Int64
	done := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if got.Add(1) == int64(b.N) {
			close(done)
		}
	}))
	defer receiver.Close()
	m := nats.NewMsg(consumer.SubjectOutbound)
	m.Header.Set("Relay-Url", receiver.URL)
	m.Data = make([]byte, 1024)
	for range b.N {
		r.PublishMsg(m)
	}
	b.ResetTimer()
	relaytest.Start(b, relaytest.Options{NATS: r.NATS, DatabaseURL: r.URL})
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "webhooks/s")
}
