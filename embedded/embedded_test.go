package embedded

import (
	"bytes"
	"encoding/json"
	"net"
	"sync"
	"testing"
)

// logged is what was logged. Servers log from many goroutines.
type logged struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

// entries takes what was logged so far.
func (l *logged) entries(t *testing.T) (all []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for d := json.NewDecoder(&l.lines); d.More(); {
		var entry map[string]any
		if err := d.Decode(&entry); err != nil {
			t.Fatal(err)
		}
		all = append(all, entry)
	}
	return all
}

// messages takes the texts of what was logged so far.
func (l *logged) messages(t *testing.T) (all []string) {
	t.Helper()
	for _, entry := range l.entries(t) {
		text, _ := entry["message"].(string)
		all = append(all, text)
	}
	return all
}

// freePort returns a port of 127.0.0.1 that nobody listened on a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("address %v is not TCP", l.Addr())
	}
	return addr.Port
}
