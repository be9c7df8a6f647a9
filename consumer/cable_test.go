package consumer_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/relaywebhooks/relay/embedded"
)

// cable is a TCP connection to a NATS server that a test can cut, and that may
// spoil what passes through it.
type cable struct {
	listener net.Listener
	target   string
	up, down edit // of what the client says, and of what the server says
	mu       sync.Mutex
	cut      bool
	conns    map[net.Conn]struct{}
}

// edit is given each line of NATS' protocol, split into words, and all of what
// is said with it: the line and the message that follows it. What it returns is
// passed on instead. It is called from one goroutine for each connection.
type edit func(words []string, said []byte) []byte

// newCable is a cable to a server. Without an edit everything passes as it is.
func newCable(t *testing.T, server *embedded.NATS, up, down edit) *cable {
	t.Helper()
	u, err := url.Parse(server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: listener, target: u.Host, up: up, down: down, conns: map[net.Conn]struct{}{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { c.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		c.Cut()
		running.Wait()
	})
	return c
}

func (c *cable) carry(near net.Conn) {
	far, err := net.Dial("tcp", c.target)
	if err != nil {
		_ = near.Close()
		return
	}
	hangUp := func() { _, _ = near.Close(), far.Close() }
	if !c.plug(near, far) {
		hangUp()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { pass(far, near, c.up); hangUp() })
	both.Go(func() { pass(near, far, c.down); hangUp() })
	both.Wait()
}

// pass copies what one side says to the other one, until either is gone.
func pass(to io.Writer, from io.Reader, spoil edit) {
	if spoil == nil {
		_, _ = io.Copy(to, from)
		return
	}
	for r := bufio.NewReader(from); ; {
		said, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		words := strings.Fields(string(said))
		if len(words) > 2 && (strings.HasSuffix(words[0], "PUB") || strings.HasSuffix(words[0], "MSG")) {
			size, _ := strconv.Atoi(words[len(words)-1])
			message := make([]byte, size+len("\r\n"))
			if _, err := io.ReadFull(r, message); err != nil {
				return
			}
			said = bytes.Join([][]byte{said, message}, nil)
		}
		if _, err := to.Write(spoil(words, said)); err != nil {
			return
		}
	}
}

func (c *cable) plug(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		c.conns[conn] = struct{}{}
	}
	return !c.cut
}

// Cut breaks every connection and lets no new one through.
func (c *cable) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
}

// Mend lets connections through again.
func (c *cable) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = false
}

func (c *cable) URL() string { return "nats://" + c.listener.Addr().String() }
