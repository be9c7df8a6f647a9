package endpoint

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// Templates that no endpoint has any more take no memory: somebody may put
// another one all the time.
func TestTemplatesAreForgotten(t *testing.T) {
	t.Parallel()
	c := newCompiler(nil)
	held := c.of([]byte(`{"body": "held"}`))
	for i := range 10 * recentTemplates {
		c.keep(c.of(fmt.Appendf(nil, `{"body": "%d"}`, i)))
	}
	known := 0
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(time.Millisecond) {
		runtime.GC()
		c.mu.Lock()
		known = len(c.known)
		c.mu.Unlock()
		if known == recentTemplates+1 {
			break
		}
	}
	if known != recentTemplates+1 || c.of([]byte(`{ "body":"held" }`)) != held {
		t.Errorf("%d are known, want those kept lately and the one that somebody has", known)
	}
}
