package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// trouble is what is wrong with a cable. The zero value: nothing.
type trouble struct {
	cut     bool          // no connection gets through
	hold    bool          // connections stand, and nothing passes until it ends: a black hole
	deaf    bool          // what the far side says does not arrive until it ends
	mute    bool          // what the near side says does not arrive until it ends
	gone    bool          // the far side forgot the connections, and the near side does not know
	latency time.Duration // added to each piece, in both directions
	rate    int           // bytes per second; 0: no limit
}

// delay is how long a piece takes.
func (t trouble) delay(size int) time.Duration {
	if t.rate == 0 {
		return t.latency
	}
	return t.latency + time.Duration(size)*time.Second/time.Duration(t.rate)
}

// cable carries TCP connections from a port of its own to a target, as badly
// as it is told.
type cable struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu      sync.Mutex
	trouble trouble
	changed chan struct{} // closed and replaced when the trouble changes
	pairs   map[*pair]struct{}
	severs  int // how many answers are still to be cut off
}

// pair is one connection through a cable.
type pair struct{ near, far *net.TCPConn }

func (p *pair) close() {
	_ = p.near.SetLinger(0) // the near side sees a reset, not an orderly end
	_, _ = p.near.Close(), p.far.Close()
}

func newCable(target string) (*cable, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there at once
	if err != nil {
		return nil, fmt.Errorf("campaign: cable: %w", err)
	}
	c := &cable{listener: listener, target: target, changed: make(chan struct{}), pairs: map[*pair]struct{}{}}
	c.running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			if tcp, ok := near.(*net.TCPConn); ok {
				c.running.Go(func() { c.carry(tcp) })
			}
		}
	})
	return c, nil
}

func (c *cable) address() string { return c.listener.Addr().String() }

func (c *cable) close() {
	_ = c.listener.Close()
	c.suffer(trouble{cut: true})
	c.running.Wait()
}

// suffer puts the cable into a state. Connections that the far side forgot
// meanwhile are reset when that ends.
func (c *cable) suffer(t trouble) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.cut || c.trouble.gone {
		for p := range c.pairs {
			p.close()
		}
	}
	if t.gone {
		for p := range c.pairs {
			_ = p.far.Close()
		}
	}
	c.trouble = t
	close(c.changed)
	c.changed = make(chan struct{})
}

// sever cuts the next n connections at the moment an answer would pass: what
// was asked has been done, and the asker does not learn it.
func (c *cable) sever(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.severs = n
}

func (c *cable) state() (trouble, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble, c.changed
}

func (c *cable) carry(near *net.TCPConn) {
	if t, _ := c.state(); t.cut {
		_ = near.SetLinger(0)
		_ = near.Close()
		return
	}
	conn, err := net.DialTimeout("tcp", c.target, 5*time.Second) //nolint:noctx // bounded
	far, ok := conn.(*net.TCPConn)
	if err != nil || !ok {
		_ = near.SetLinger(0)
		_ = near.Close()
		return
	}
	p := &pair{near, far}
	c.plug(p)
	var both sync.WaitGroup
	both.Go(func() { c.pump(p, far, near, false) })
	both.Go(func() { c.pump(p, near, far, true) })
	both.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pairs, p)
	p.close()
}

func (c *cable) plug(p *pair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pairs[p] = struct{}{}
	if c.trouble.cut {
		p.close()
	}
}

// pump carries one direction of a connection, piece by piece.
func (c *cable) pump(p *pair, to io.Writer, from io.Reader, answers bool) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !c.pass(p, to, buffer[:n], answers) {
			return
		}
		if err != nil {
			c.part(p, answers, err)
			return
		}
	}
}

// carries reports whether one end of a connection through the cable is at an
// address: that which the near side dials, or that which the far side sees.
func (c *cable) carries(address string) bool {
	if address == c.address() {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.pairs {
		if p.far.LocalAddr().String() == address {
			return true
		}
	}
	return false
}

// part ends a connection as the network would: not while a trouble hides the
// end from the other side.
func (c *cable) part(p *pair, answers bool, err error) {
	t, changed := c.state()
	if t.gone && answers {
		<-changed // the near side keeps talking to nobody
	}
	if !errors.Is(err, io.EOF) {
		_ = p.near.SetLinger(0)
	}
	_, _ = p.near.Close(), p.far.Close()
}

// pass lets one piece through, in time, or reports that the connection is over.
func (c *cable) pass(p *pair, to io.Writer, piece []byte, answers bool) bool {
	t, changed := c.state()
	for t.hold || t.deaf && answers || t.mute && !answers {
		<-changed
		t, changed = c.state()
	}
	if t.gone && !answers {
		return true // swallowed
	}
	if answers && c.severed(p) {
		return false
	}
	if delay := t.delay(len(piece)); delay > 0 {
		select {
		case <-time.After(delay):
		case <-changed:
		}
	}
	_, err := to.Write(piece)
	return err == nil
}

func (c *cable) severed(p *pair) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.severs == 0 {
		return false
	}
	c.severs--
	p.close()
	return true
}
