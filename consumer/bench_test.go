package consumer_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
)

// BenchmarkDeliver is the whole way of a webhook of 1 KB: from the stream to a
// receiver on this machine, its rows and its acknowledgement. Publishing is not
// counted.
func BenchmarkDeliver(b *testing.B) {
	eachSync(b, func(b *testing.B, server *embedded.NATS) {
		b.Helper()
		r := relaytest.Start(b, relaytest.Options{NATS: server})
		r.Stop()
		receiver := newCounter(b)
		publish(b, r, receiver.url)
		b.ResetTimer()
		relaytest.Start(b, relaytest.Options{NATS: server, DatabaseURL: r.URL})
		<-receiver.done
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "webhooks/s")
	})
}

// BenchmarkDrain is the same for webhooks that were parked, from the moment at
// which their endpoint is well again. It includes the slow start.
func BenchmarkDrain(b *testing.B) {
	eachSync(b, func(b *testing.B, server *embedded.NATS) {
		b.Helper()
		r := relaytest.Start(b, relaytest.Options{
			NATS:     server,
			Policy:   policy.Options{Circuit: policy.CircuitOptions{Delay: time.Hour}},
			Consumer: consumer.Options{MaxSleep: time.Minute},
		})
		receiver := newCounter(b)
		receiver.sick.Store(true)
		for range 5 {
			r.RequireDead(r.Publish(map[string]any{"url": receiver.url, "max_attempts": 1}))
		}
		publish(b, r, receiver.url)
		for r.Consumer.Stats().Parked < uint64(b.N) {
			<-time.After(100 * time.Millisecond)
		}
		receiver.sick.Store(false)
		b.ResetTimer()
		if _, err := r.Conn.Request(consumer.SubjectDrain, []byte(receiver.url), time.Minute); err != nil {
			b.Fatal(err)
		}
		<-receiver.done
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "webhooks/s")
	})
}

// eachSync runs a benchmark with either way to make stored messages durable.
func eachSync(b *testing.B, run func(*testing.B, *embedded.NATS)) {
	b.Helper()
	for _, sync := range []string{"always", "2m"} {
		b.Run("sync="+sync, func(b *testing.B) {
			server, err := embedded.StartNATS(embedded.NATSOptions{Dir: b.TempDir(), Port: -1, Sync: sync})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(server.Shutdown)
			run(b, server)
		})
	}
}

// counter is a receiver that is done when it has answered every webhook.
type counter struct {
	url  string
	sick atomic.Bool
	done chan struct{}
}

func newCounter(b *testing.B) *counter {
	b.Helper()
	c := &counter{done: make(chan struct{})}
	var got atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if c.sick.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		} else if got.Add(1) == int64(b.N) {
			close(c.done)
		}
	}))
	b.Cleanup(s.Close)
	c.url = s.URL
	return c
}

// publish stores as many webhooks of 1 KB as the benchmark wants.
func publish(b *testing.B, r *relaytest.Relay, url string) {
	b.Helper()
	for left := b.N; left > 0; left -= 500 {
		batch := make([]*nats.Msg, min(left, 500))
		for i := range batch {
			batch[i] = nats.NewMsg(consumer.SubjectOutbound)
			batch[i].Header.Set("Relay-Url", url)
			batch[i].Data = make([]byte, 1024)
		}
		if _, err := jetstreamext.PublishMsgBatch(b.Context(), r.JS, batch); err != nil {
			b.Fatal(err)
		}
	}
}
