package consumer_test

import (
	"net/http"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/relaytest"
)

// Operators say whose endpoint they mean: names and URLs are each tenant's own.
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
		request := nats.NewMsg(consumer.SubjectReplay)
		request.Data = []byte(text)
		request.Header.Set(consumer.HeaderTenant, "a")
		if _, err := r.Conn.RequestMsg(request, relaytest.Patience); err != nil {
			t.Fatal(err)
		}
	}
	r.RequireDelivered("of_a")
	requireEmpty(t, r)
	if w := r.RequireDead("of_b"); w.Generation != 0 {
		t.Errorf("b's event was replayed as well: %+v", w)
	}
}
