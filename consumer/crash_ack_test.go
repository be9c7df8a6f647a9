package consumer_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/relaywebhooks/relay/relaytest"
)

// swallow stands between a relay and NATS and spoils the first acknowledgement
// that asks for an answer: spoil is given its bytes and returns what the server
// gets to see of it.
func swallow(t *testing.T, target string, spoiled *atomic.Int32, spoil func(line, body []byte) []byte) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				_ = near.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, near, far)
			mu.Unlock()
			running.Go(func() { _, _ = io.Copy(near, far) })
			running.Go(func() { acknowledge(far, bufio.NewReader(near), spoiled, spoil) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return "nats://" + listener.Addr().String()
}

// acknowledge passes on what a client says, but for its first acknowledgement.
func acknowledge(to io.Writer, from *bufio.Reader, spoiled *atomic.Int32, spoil func(line, body []byte) []byte) {
	for {
		line, err := from.ReadBytes('\n')
		if err != nil {
			return
		}
		said := line
		if words := bytes.Fields(line); len(words) > 2 && bytes.HasSuffix(words[0], []byte("PUB")) {
			size, _ := strconv.Atoi(string(words[len(words)-1]))
			body := make([]byte, size+len("\r\n"))
			if _, err := io.ReadFull(from, body); err != nil {
				return
			}
			said = append(bytes.Clone(line), body...)
			ack := bytes.HasPrefix(words[1], []byte("$JS.ACK.")) && len(words) == 4 && bytes.HasPrefix(body, []byte("+ACK"))
			if ack && spoiled.Add(1) == 1 {
				said = spoil(line, body)
			}
		}
		if _, err := to.Write(said); err != nil {
			return
		}
	}
}

// C4: an acknowledgement does not arrive, or its answer does not come back. It
// is sent again; the webhook is not, and JetStream does not deliver it again.
func TestALostAcknowledgementIsRepeated(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(line, body []byte) []byte{
		"lost": func(_, _ []byte) []byte { return nil },
		"its answer is lost": func(line, body []byte) []byte { // the server is not told where to answer
			words := bytes.Fields(line)
			said := bytes.Join([][]byte{words[0], words[1], words[3]}, []byte(" "))
			return append(append(said, "\r\n"...), body...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for settleTimeout
			server := relaytest.StartNATS(t)
			u, err := url.Parse(server.ClientURL())
			if err != nil {
				t.Fatal(err)
			}
			var acks atomic.Int32
			r := relaytest.Start(t, relaytest.Options{NATS: server, NATSURL: swallow(t, u.Host, &acks, spoil)})
			w := r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL}))
			if !r.Eventually(func() bool { return acks.Load() >= 2 }) {
				t.Fatal("the acknowledgement was not repeated")
			}
			requireEmpty(t, r)
			r.Stop()
			if n := len(r.Receiver.Requests()); n != 1 || w.Attempts != 1 || acks.Load() != 2 {
				t.Errorf("%d requests and %d acknowledgements, recorded %+v", n, acks.Load(), w)
			}
		})
	}
}
