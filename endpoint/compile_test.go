package endpoint_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// presses are templates that take as long to compile as the test wants.
type presses struct {
	t           *testing.T
	at, most    atomic.Int64 // compiled at a time
	mu          sync.Mutex
	texts       []string
	begun, goOn chan struct{}
}

func newPresses(t *testing.T) *presses {
	t.Helper()
	return &presses{t: t, begun: make(chan struct{}, 100), goOn: make(chan struct{}, 100)}
}

func (p *presses) compile(text []byte) (relay.Shaper, error) {
	p.most.Store(max(p.most.Load(), p.at.Add(1)))
	defer p.at.Add(-1)
	p.mu.Lock()
	p.texts = append(p.texts, string(text))
	p.mu.Unlock()
	if strings.Contains(string(text), "slow") {
		p.begun <- struct{}{}
		select {
		case <-p.goOn:
		case <-p.t.Context().Done():
		}
	}
	if strings.Contains(string(text), "bad") {
		return nil, errors.New("template: body: is bad")
	}
	return shouting{}, nil
}

func (p *presses) compiled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.texts)
}

// While a template is compiled that takes long, another is not, so that whoever
// changes many at a time takes one core and no more; and endpoints without one are
// changed and found as ever.
func TestOneTemplateIsCompiledAtATime(t *testing.T) {
	url, press := testdb.New(t), newPresses(t)
	one := startProcess(t, url, endpoint.StoreOptions{Compile: press.compile})
	two := startProcess(t, url, endpoint.StoreOptions{Compile: press.compile})
	put := func(name, body string) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := one.store.Put(t.Context(), fmt.Appendf(nil, `{"name": %q, "url": "https://%[1]s.example/", "template": {"body": %[2]q}}`, name, body), "")
			done <- err
		}()
		return done
	}
	first := put("first", "slow 1")
	<-press.begun
	second := put("second", "slow 2")
	one.put(`{"name": "plain", "url": "https://plain.example/", "rate": 3}`)
	two.soon("", "https://plain.example/", func(ep relay.Endpoint, _ error) bool { return ep.Rate == 3 })
	if n := press.compiled(); n != 1 {
		t.Errorf("%d templates are compiled, want one", n)
	}
	press.goOn <- struct{}{}
	if err := <-first; err != nil {
		t.Error(err)
	}
	<-press.begun
	press.goOn <- struct{}{}
	if err := <-second; err != nil {
		t.Error(err)
	}
	if n := press.most.Load(); n != 1 {
		t.Errorf("%d were compiled at a time", n)
	}
	two.soon("first", "", func(ep relay.Endpoint, err error) bool { return err == nil && ep.Shape != nil })
	if n := press.compiled(); n != 2 {
		t.Errorf("a process compiled what it does not need: %d", n)
	}
}

// A text is compiled once, however many endpoints have it, however often it is put
// and however its JSON is written; also one that is faulty.
func TestATemplateIsCompiledOnce(t *testing.T) {
	press := newPresses(t)
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{Compile: press.compile})
	for i := range 20 {
		p.put(fmt.Sprintf(`{"name": "e%d", "url": "https://e%[1]d.example/", "template": {"query": {"a": "x"}, %s"body": "text"}}`, i, strings.Repeat(" ", i)))
		ep := found(t, p, fmt.Sprint("e", i), "")
		if w, err := ep.Shape.Shape(relay.Webhook{Body: []byte("a")}); err != nil || string(w.Body) != "A" {
			t.Errorf("%s, %v", w.Body, err)
		}
	}
	if n := press.compiled(); n != 1 {
		t.Errorf("compiled %d times", n)
	}
	for range 3 {
		_, err := p.store.Put(t.Context(), []byte(`{"name": "bad", "url": "https://bad.example/", "template": {"body": "bad"}}`), "")
		if err == nil || err.Error() != "template: body: is bad" {
			t.Errorf("%v", err)
		}
	}
	if n := press.compiled(); n != 2 {
		t.Errorf("compiled %d times", n)
	}
}

// A webhook does not wait for a template that takes long. What is wrong with one it
// hears.
func TestAWebhookDoesNotWaitForItsTemplate(t *testing.T) {
	url, press := testdb.New(t), newPresses(t)
	startProcess(t, url, endpoint.StoreOptions{Compile: newPresses(t).quickly}).
		put(`{"name": "chat", "url": "https://chat.example/", "template": {"body": "slow"}}`)
	p := startProcess(t, url, endpoint.StoreOptions{Compile: press.compile})
	shape := found(t, p, "chat", "").Shape
	for range 2 {
		if _, err := shape.Shape(relay.Webhook{}); !errors.Is(err, relay.ErrNotReady) {
			t.Fatalf("%v", err)
		}
	}
	press.goOn <- struct{}{}
	p.soon("chat", "", func(ep relay.Endpoint, _ error) bool {
		w, err := ep.Shape.Shape(relay.Webhook{Body: []byte("a")})
		return err == nil && string(w.Body) == "A"
	})
	if n := press.compiled(); n != 1 {
		t.Errorf("compiled %d times", n)
	}
}

// quickly compiles anything at once.
func (*presses) quickly([]byte) (relay.Shaper, error) { return shouting{}, nil }
