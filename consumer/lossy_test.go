package consumer_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay/relaytest"
)

// lossy stands between a client and NATS and loses some of the answers to a
// batched read of a lane, as a connection does that breaks in the middle.
func lossy(t *testing.T, target string, lost *atomic.Int32) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var conns []net.Conn
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				t.Error(err)
				return
			}
			conns = append(conns, near, far)
			running.Go(func() { _, _ = io.Copy(far, near) })
			running.Go(func() { lose(near, bufio.NewReader(far), lost) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		for _, conn := range conns {
			_ = conn.Close()
		}
		running.Wait()
	})
	return "nats://" + listener.Addr().String()
}

// lose passes on what the server says, but for every third answer that follows
// another one in its batch, five times.
func lose(to io.Writer, from *bufio.Reader, lost *atomic.Int32) {
	for n := 0; ; {
		line, err := from.ReadBytes('\n')
		if err != nil {
			return
		}
		if words := bytes.Fields(line); len(words) > 0 && bytes.HasSuffix(words[0], []byte("MSG")) {
			size, _ := strconv.Atoi(string(words[len(words)-1]))
			body := make([]byte, size+len("\r\n"))
			if _, err := io.ReadFull(from, body); err != nil {
				return
			}
			line = append(line, body...)
			if bytes.Contains(body, []byte("Nats-Subject: webhooks.parked.")) && !bytes.Contains(body, []byte("Nats-Last-Sequence: 0\r\n")) {
				if n++; n%3 == 1 && lost.Load() < 5 {
					lost.Add(1)
					continue
				}
			}
		}
		if _, err := to.Write(line); err != nil {
			return
		}
	}
}

// An answer that is lost in the middle of reading a lane costs no event: only
// what was copied is removed.
func TestALossyReadOfALaneLosesNoEvent(t *testing.T) {
	options := circuitOptions()
	options.Policy.Circuit.Delay = time.Hour
	r := relaytest.Start(t, options)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	const n = 60
	for i := range n {
		r.Publish(map[string]any{"url": r.Receiver.URL, "id": fmt.Sprint("lossy_", i), "max_attempts": 50})
	}
	if !r.Eventually(func() bool { return count(t, r, "webhooks.parked.>") > n-10 && count(t, r, "webhooks.due.>") == 0 }) {
		t.Fatalf("%d parked", count(t, r, "webhooks.parked.>"))
	}
	r.Stop()
	endPauses(t, r)
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	server, err := url.Parse(r.NATS.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	var lost atomic.Int32
	options.NATS, options.DatabaseURL, options.NATSURL = r.NATS, r.URL, lossy(t, server.Host, &lost)
	relaytest.Start(t, options)
	for i := range n {
		r.RequireDelivered(fmt.Sprint("lossy_", i))
	}
	requireEmpty(t, r)
	if lost.Load() == 0 {
		t.Error("nothing was lost on the way")
	}
}
