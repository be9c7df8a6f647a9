package consumer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// askAs asks relay's service about what belongs to a tenant; nil if nobody says whose.
func askAs(t *testing.T, r *relaytest.Relay, tenant *string, subject, text string) *nats.Msg {
	t.Helper()
	request := nats.NewMsg(subject)
	request.Data = []byte(text)
	if tenant != nil {
		request.Header.Set(consumer.HeaderTenant, *tenant)
	}
	answer, err := r.Conn.RequestMsg(request, relaytest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// requireAnswer asks for what is to succeed.
func requireAnswer[T any](t *testing.T, r *relaytest.Relay, tenant *string, subject, text string) (v T) {
	t.Helper()
	answer := askAs(t, r, tenant, subject, text)
	if err := json.Unmarshal(answer.Data, &v); err != nil || answer.Header.Get("Nats-Service-Error") != "" {
		t.Fatalf("%s %q: %s, %v", subject, text, answer.Data, err)
	}
	return v
}

// requireAmbiguous asks for what several tenants have, and holds that they are listed.
func requireAmbiguous(t *testing.T, r *relaytest.Relay, subject, text string) {
	t.Helper()
	answer := askAs(t, r, nil, subject, text)
	said := string(answer.Data)
	if answer.Header.Get("Nats-Service-Error-Code") != "400" || !strings.Contains(said, "is an endpoint of several tenants, name one of them") ||
		!strings.Contains(said, `tenant "a" (key `) || !strings.Contains(said, `tenant "b" (key `) {
		t.Errorf("%s %q: %v %s", subject, text, answer.Header, said)
	}
}

// Operators say whose endpoint they mean: names and URLs are each tenant's own. Where
// they do not say and several have one, nothing is done.
func TestAnOperatorNamesATenant(t *testing.T) {
	t.Parallel()
	sick := relaytest.NewReceiver(t)
	sick.Always(relaytest.Status(http.StatusNotFound))
	r := relaytest.Start(t, relaytest.Options{Endpoints: []relay.Endpoint{
		{Name: "orders", Tenant: "a", URL: sick.URL}, {Name: "orders", Tenant: "b", URL: sick.URL},
	}})
	for _, tenant := range []string{"a", "b"} {
		publishTo(r, consumer.SubjectTenant+tenant, `{"endpoint":"orders","id":"of_`+tenant+`"}`)
		r.RequireDead("of_" + tenant)
	}
	sick.Always(relaytest.Status(http.StatusOK))
	for _, text := range []string{"orders", sick.URL} {
		for _, subject := range []string{consumer.SubjectReplay, consumer.SubjectLanes, consumer.SubjectDrain, consumer.SubjectExpire, consumer.SubjectBury} {
			requireAmbiguous(t, r, subject, text)
		}
	}
	for _, text := range []string{"orders", sick.URL} {
		askAs(t, r, new("a"), consumer.SubjectReplay, text)
	}
	r.RequireDelivered("of_a")
	requireEmpty(t, r)
	if w := r.RequireDead("of_b"); w.Generation != 0 {
		t.Errorf("b's event was replayed as well: %+v", w)
	}
}

// Whatever letters a request names, with a tenant it means those of the tenant alone:
// also among what could not be read, which lies under one key.
func TestAReplayOfATenant(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	r.Receiver.Always(relaytest.Status(http.StatusNotFound))
	ids := map[string]string{"a": "of_a", "b": "of_b", "": "of_none"}
	subjects := map[string]string{"a": consumer.SubjectTenant + "a", "b": consumer.SubjectTenant + "b.orders", "": consumer.SubjectOutbound}
	seqs := map[string]string{}
	for i, tenant := range []string{"a", "b", ""} {
		publishTo(r, subjects[tenant], `{"url":"`+r.Receiver.URL+`","id":"`+ids[tenant]+`"}`)
		r.RequireDead(ids[tenant])
		seqs[tenant] = fmt.Sprint(2*i + 1)
		publishTo(r, subjects[tenant], `{"url":"`+r.Receiver.URL+`","id":"invalid_`+ids[tenant]+`","colour":"red"}`)
		r.RequireDead("invalid_" + ids[tenant])
	}
	r.Receiver.Always(relaytest.Status(http.StatusOK))
	replayed := func(tenant, text string) int {
		t.Helper()
		job := requireEnded(t, r, consumer.SubjectJob, requireAnswer[consumer.Job](t, r, &tenant, consumer.SubjectReplay, text))
		if job.State != "done" || job.Tenant == nil || *job.Tenant != tenant {
			t.Errorf("%q of %q: %+v", text, tenant, job)
		}
		return job.Replayed
	}
	key := r.Webhooks("of_a")[0].EndpointKey
	for _, c := range []struct {
		tenant, text string
		want         int
	}{
		{"b", seqs["a"], 0},
		{"b", seqs[""], 0},
		{"c", "all", 0},
		{"c", "1-100", 0},
		{"b", relay.InvalidEndpoint, 1},
		{"b", "1-100", 2},
		{"a", key, 1},
		{"", "all", 2},
	} {
		if got := replayed(c.tenant, c.text); got != c.want {
			t.Errorf("%q of %q: %d replayed, want %d", c.text, c.tenant, got, c.want)
		}
		for _, id := range ids {
			r.RequireStatus(id, "delivered", "dead")
			r.RequireDead("invalid_" + id) // again: it is as unreadable as before
		}
	}
	if answer := askAs(t, r, new("b"), consumer.SubjectReplay, key); !strings.Contains(string(answer.Data), `belongs to tenant "a"`) {
		t.Errorf("a's key by b: %s", answer.Data)
	}
	unreadable := map[string]int{"a": 0, "b": 2, "": 1} // how often it was replayed
	for tenant, id := range ids {
		want := unreadable[tenant]
		if w := r.RequireDelivered(id); w.Generation != 1 {
			t.Errorf("%s: %+v", id, w)
		}
		if w := r.RequireDead("invalid_" + id); w.Generation != want {
			t.Errorf("%s: %+v, want generation %d", id, w, want)
		}
	}
}

// Lanes say whose they are, and can be asked for by tenant.
func TestLanesOfATenant(t *testing.T) {
	t.Parallel()
	options := circuitOptions()
	options.Policy.Circuit.Delay = 10 * time.Minute
	r := relaytest.Start(t, options)
	r.Receiver.Always(relaytest.Status(http.StatusInternalServerError))
	for _, tenant := range []string{"a", "b"} {
		for i := range 6 {
			publishTo(r, consumer.SubjectTenant+tenant, fmt.Sprintf(`{"url":"%s/%s%d","id":"%s_%d","max_attempts":9}`, r.Receiver.URL, tenant, i%2, tenant, i))
		}
	}
	requireLanes := func(tenant *string, want int) {
		t.Helper()
		var all consumer.Lanes
		if !r.Eventually(func() bool {
			all = requireAnswer[consumer.Lanes](t, r, tenant, consumer.SubjectLanes, "")
			return all.Count == want
		}) {
			t.Fatalf("%+v, want %d", all, want)
		}
		var events uint64
		for _, l := range all.Lanes {
			events += l.Events
			if l.Tenant == "" || tenant != nil && l.Tenant != *tenant || !strings.HasPrefix(l.URL, r.Receiver.URL+"/"+l.Tenant) {
				t.Errorf("%+v", l)
			}
		}
		if events != all.Events || len(all.Lanes) != want {
			t.Errorf("%+v", all)
		}
	}
	requireLanes(nil, 4)
	requireLanes(new("a"), 2)
	requireLanes(new("c"), 0)
	requireLanes(new(""), 0)
}
