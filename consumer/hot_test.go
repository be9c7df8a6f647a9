package consumer_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// pulls counts the pulls that pass through it.
type pulls struct {
	io.Writer
	n atomic.Int64
}

func (p *pulls) Write(b []byte) (int, error) {
	p.n.Add(int64(bytes.Count(b, []byte("CONSUMER.MSG.NEXT.WEBHOOKS.relay"))))
	return p.Writer.Write(b)
}

// A pull that ends at once, because nobody answers it, is not repeated at once.
func TestPullingFromNothingIsNotHot(t *testing.T) {
	server := relaytest.StartNATS(t)
	u, err := url.Parse(server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	counted := &pulls{}
	go func() {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", u.Host)
		if err != nil {
			return
		}
		counted.Writer = far
		go func() { _, _ = io.Copy(near, far) }()
		_, _ = io.Copy(counted, near)
	}()
	r := relaytest.Start(t, relaytest.Options{NATS: server, NATSURL: "nats://" + listener.Addr().String()})
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
	if err := r.JS.DeleteConsumer(t.Context(), consumer.StreamQueue, consumer.DurableQueue); err != nil {
		t.Fatal(err)
	}
	before := counted.n.Load()
	<-time.After(3 * time.Second)
	if n := counted.n.Load() - before; n > 20 {
		t.Errorf("%d pulls in 3 s", n)
	}
	if _, err := consumer.Setup(t.Context(), r.JS, consumer.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
}
