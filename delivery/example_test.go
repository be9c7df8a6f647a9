package delivery_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/delivery"
)

func ExampleSender_Send() {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("received", r.Header.Get("webhook-id"), "as", r.Header.Get("content-type"))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()
	webhook := relay.Webhook{ID: "order-17", URL: receiver.URL, Body: []byte(`{"type":"order.paid"}`)}

	// The receiver is on this machine, where relay does not call by itself.
	for _, options := range []delivery.Options{
		{AnyPort: true},
		{AnyPort: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
	} {
		sender, err := delivery.New(options)
		if err != nil {
			fmt.Println(err)
			return
		}
		attempt := sender.Send(context.Background(), relay.Endpoint{}, webhook)
		fmt.Println(attempt.Kind, attempt.Status, attempt.Err)
		sender.CloseIdle()
	}
	// Output:
	// blocked 0 127.0.0.1: its address is not one that relay may call
	// received order-17 as application/json
	// response 204
}
