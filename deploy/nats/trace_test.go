package nats_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// tracer is a server's log that keeps who published to what. It fails the test
// on errors.
type tracer struct {
	t    *testing.T
	mu   sync.Mutex
	used map[string][]string // subjects by client id
}

// traced turns the server's trace on for connections made from now on. The
// answer tells the subjects to which a client has published.
func traced(t *testing.T, s *server.Server) func(*client) []string {
	t.Helper()
	tr := &tracer{t: t, used: map[string][]string{}}
	s.SetLoggerV2(tr, false, true, false)
	return func(c *client) []string {
		id, err := c.GetClientID()
		if err != nil {
			t.Fatal(err)
		}
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return slices.Clone(tr.used[fmt.Sprintf("cid:%d", id)])
	}
}

// Tracef reads lines such as
//
//	127.0.0.1:4222 - cid:7 - "v1.55.0:go:name" - <<- [HPUB subject reply 10 20]
func (tr *tracer) Tracef(format string, v ...any) {
	who, op, ok := strings.Cut(fmt.Sprintf(format, v...), "<<- [")
	if !ok {
		return
	}
	words := strings.Fields(op)
	if len(words) < 2 || words[0] != "PUB" && words[0] != "HPUB" {
		return
	}
	for word := range strings.FieldsSeq(who) {
		if strings.HasPrefix(word, "cid:") {
			tr.mu.Lock()
			tr.used[word] = append(tr.used[word], words[1])
			tr.mu.Unlock()
			return
		}
	}
}

func (tr *tracer) Noticef(string, ...any) {}
func (tr *tracer) Debugf(string, ...any)  {}
func (tr *tracer) Warnf(string, ...any)   {}

func (tr *tracer) Errorf(format string, v ...any) { tr.t.Errorf("nats-server: "+format, v...) }
func (tr *tracer) Fatalf(format string, v ...any) { tr.t.Errorf("nats-server: "+format, v...) }
