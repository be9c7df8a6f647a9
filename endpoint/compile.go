package endpoint

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/relaywebhooks/relay"
)

// compileWait is how long webhooks wait for their template, from when the first of
// them needed it. What takes longer is no template that somebody meant well, and the
// hands of relay are for others.
const compileWait = 100 * time.Millisecond

// recentTemplates is how many are kept although no endpoint may have them: between
// the check of a template and the reading of its row, or for who tries one again.
const recentTemplates = 16

// compiler compiles templates when they are first needed: a hundred thousand of
// them would hold up the start. The worst within its limits takes half a second of
// a core, so that one is compiled at a time, and each text once, however many
// endpoints have it and however often it is put. It is safe for concurrent use.
type compiler struct {
	compile func(template []byte) (relay.Shaper, error)
	turn    chan struct{} // holds one while one is compiled

	mu     sync.Mutex
	known  map[[sha256.Size]byte]weak.Pointer[compiled]
	recent [recentTemplates]*compiled
	next   int // of recent, to be replaced
}

func newCompiler(compile func([]byte) (relay.Shaper, error)) *compiler {
	if compile == nil {
		compile = func([]byte) (relay.Shaper, error) { return nil, errors.New("this relay has no templates") }
	}
	return &compiler{compile: compile, turn: make(chan struct{}, 1), known: map[[sha256.Size]byte]weak.Pointer[compiled]{}}
}

// compiled is a template, if it was needed yet. It is a [relay.Shaper].
type compiled struct {
	compiler *compiler
	text     json.RawMessage
	once     sync.Once
	began    time.Time     // when it was first needed
	done     chan struct{} // closed once there is a shaper or an error
	shaper   relay.Shaper
	err      error
}

// of returns the one for a text. The database writes JSON in another way than
// people do, which makes no difference.
func (c *compiler) of(text json.RawMessage) *compiled {
	var v any
	plain := []byte(text)
	if json.Unmarshal(text, &v) == nil {
		plain, _ = json.Marshal(v) // what was JSON becomes JSON
	}
	key := sha256.Sum256(plain)
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.known[key].Value(); t != nil {
		return t
	}
	t := &compiled{compiler: c, text: text, done: make(chan struct{})}
	c.known[key] = weak.Make(t)
	runtime.AddCleanup(t, c.forget, key)
	return t
}

// forget drops what nobody has any more.
func (c *compiler) forget(key [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[key].Value() == nil { // else it has come back meanwhile
		delete(c.known, key)
	}
}

// keep holds on to one for a while.
func (c *compiler) keep(t *compiled) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent[c.next] = t
	c.next = (c.next + 1) % recentTemplates
}

// start has it compiled when its turn comes, and does not wait.
func (t *compiled) start() {
	t.once.Do(func() {
		t.began = time.Now()
		go func() {
			defer close(t.done)
			t.compiler.turn <- struct{}{}
			defer func() {
				<-t.compiler.turn
				if p := recover(); p != nil {
					t.err = fmt.Errorf("relay could not compile it (%T)", p)
				}
			}()
			t.shaper, t.err = t.compiler.compile(t.text)
		}()
	})
}

// wait returns what is wrong with the template. If ctx ends before that is known the
// error is [relay.ErrNotReady].
func (t *compiled) wait(ctx context.Context) error {
	t.start()
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return relay.ErrNotReady
	}
}

// Shape gives a webhook its form. While others are compiled, or this one is for
// long, the error is [relay.ErrNotReady].
func (t *compiled) Shape(w relay.Webhook) (relay.Webhook, error) {
	t.start()
	select {
	case <-t.done: // as nearly always
	default:
		late := time.NewTimer(compileWait - time.Since(t.began))
		defer late.Stop()
		select {
		case <-t.done:
		case <-late.C:
			return w, relay.ErrNotReady
		}
	}
	if t.err != nil {
		return w, t.err
	}
	return t.shaper.Shape(w)
}

// checkTemplate returns what is wrong with a template that somebody has written.
func (s *Store) checkTemplate(ctx context.Context, template json.RawMessage) (found []error) {
	if template == nil {
		return nil
	}
	t := s.templates.of(template)
	s.templates.keep(t)
	err := t.wait(ctx)
	if errors.Is(err, relay.ErrNotReady) {
		return []error{failed("template: others are being compiled: ask again")}
	}
	for _, e := range faults(err) {
		found = append(found, fmt.Errorf("template: %s", strings.TrimPrefix(e.Error(), "template: ")))
	}
	return found
}

// shaper returns what shapes by a template; nil if there is none.
func (s *Store) shaper(template json.RawMessage) relay.Shaper {
	if template == nil {
		return nil
	}
	return s.templates.of(template)
}
