package nats_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
)

// BenchmarkPartitions is what NATS does for relay with one partition and with
// more, on one server whose disk is synced for every message: it stores what is
// published one by one, and takes it out again, each message acknowledged and the
// acknowledgement confirmed.
func BenchmarkPartitions(b *testing.B) {
	for _, used := range []int{1, 2, 4} {
		b.Run(fmt.Sprint(used), func(b *testing.B) {
			p := newPartitions(b, 4, used)
			for k := range used {
				setUpAs(b, p.server, fmt.Sprintf("%s_%d", provisioner, k), consumer.StreamOptions{})
			}
			const events = 5000
			var storing, taking time.Duration
			for b.Loop() {
				began := time.Now()
				p.store(b, events)
				storing += time.Since(began)
				began = time.Now()
				p.take(b, used)
				taking += time.Since(began)
			}
			b.ReportMetric(events*float64(b.N)/storing.Seconds(), "stored/s")
			b.ReportMetric(events*float64(b.N)/taking.Seconds(), "acknowledged/s")
		})
	}
}

// store publishes events without waiting for each answer.
func (p *partitions) store(b *testing.B, events int) {
	b.Helper()
	js, err := jetstream.New(p.producer.Conn, jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		b.Fatal(err)
	}
	var acks []jetstream.PubAckFuture
	for n := range events {
		m := &nats.Msg{Subject: p.subject(n), Data: make([]byte, 1024)}
		ack, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute))
		if err != nil {
			b.Fatal(err)
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			b.Fatal(err)
		}
	}
}

// take empties the queues of all partitions at once, each with 128 workers.
func (p *partitions) take(b *testing.B, used int) {
	b.Helper()
	var working sync.WaitGroup
	for k := range used {
		working.Go(func() { empty(b, connect(b, p.server, fmt.Sprintf("%s_%d", relayUser, k)), &working) })
	}
	working.Wait()
}

func empty(b *testing.B, c *client, working *sync.WaitGroup) {
	b.Helper()
	durable, err := c.js.Consumer(b.Context(), consumer.StreamQueue, consumer.DurableQueue)
	if err != nil {
		b.Error(err)
		return
	}
	room := make(chan struct{}, 128)
	for left := durable.CachedInfo().NumPending; left > 0; {
		batch, err := durable.Fetch(int(min(left, 128)))
		if err != nil {
			b.Error(err)
			return
		}
		for m := range batch.Messages() {
			left--
			room <- struct{}{}
			working.Go(func() {
				if err := m.DoubleAck(b.Context()); err != nil {
					b.Error(err)
				}
				<-room
			})
		}
	}
}
