package delivery

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay"
)

// What was checked once is called again without another check, and is the same.
func TestATargetIsCheckedOnce(t *testing.T) {
	r := newReceiver(t, nil)
	s := newSender(t)
	for range 2 {
		wantResponse(t, s.Send(t.Context(), relay.Endpoint{}, webhookTo(r.URL+"/a%2Fb?c=%20d")), http.StatusOK, nil)
		wantFailure(t, s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://user@"+strings.TrimPrefix(r.URL, "http://"))), relay.Error, "request")
	}
	for _, q := range r.requests {
		if q.RequestURI != "/a%2Fb?c=%20d" {
			t.Errorf("called %s", q.RequestURI)
		}
	}
	if len(s.targets.known) != 1 {
		t.Errorf("%d URLs are kept, want the one that can be called", len(s.targets.known))
	}
}

// However many URLs there are and however long, few are kept.
func TestFewTargetsAreKept(t *testing.T) {
	s := newSender(t)
	for i := range 3 * keptTargets {
		if _, err := s.target(fmt.Sprint("https://hooks.example/?n=", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.targets.known); n == 0 || n > keptTargets {
		t.Errorf("%d URLs are kept", n)
	}
	long := "https://hooks.example/" + strings.Repeat("x", longestKept)
	if u, err := s.target(long); err != nil || u.String() != long || s.targets.look(long) != nil {
		t.Errorf("a long one: %v, %v", u, err)
	}
}
