package hostile

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Forever writes a text until the other end has had enough.
func Forever(c net.Conn, text string) {
	block := strings.Repeat(text, 1+4096/len(text))
	for {
		if _, err := io.WriteString(c, block); err != nil {
			return
		}
	}
}

// Drip writes a byte every few milliseconds.
func Drip(c net.Conn, text string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
			return
		}
		<-tick.C
	}
}

// Server listens on loopback and gives each connection, by its number, to
// serve, which owns it until it returns.
func Server(t testing.TB, serve func(n int, c net.Conn)) (url string, accepted func() int) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			n := len(open)
			mu.Unlock()
			wg.Go(func() {
				defer Close(c)
				serve(n, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			Close(c)
		}
		mu.Unlock()
		wg.Wait()
	})
	return "http://" + l.Addr().String() + "/", func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(open)
	}
}

// ReadRequest reads one whole request.
func ReadRequest(r *bufio.Reader) error {
	q, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, q.Body)
	return err
}

// UntilClosed reads until the other end has closed the connection.
func UntilClosed(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// Close closes the connection.
func Close(c net.Conn) { _ = c.Close() }

// Reset makes the connection end with a RST.
func Reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	Close(c)
}

// Write writes a text, if it can.
func Write(c net.Conn, text string) { _, _ = io.WriteString(c, text) }
