package signature_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/relaywebhooks/relay/signature"
)

func ExampleSign() {
	header, err := signature.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0),
		[]byte(`{"test": 2432232314}`), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(header)
	// Output: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
}

// While a secret is being replaced, a sender signs with both, and a receiver
// that knows either of them believes it.
func ExampleVerify() {
	const (
		before = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
		after  = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	)
	now, body := time.Now(), []byte(`{"type":"order.paid"}`)
	list, err := signature.Sign("order-17", now, body, after, before)
	if err != nil {
		fmt.Println(err)
		return
	}
	header := http.Header{}
	header.Set(signature.HeaderID, "order-17")
	header.Set(signature.HeaderTimestamp, fmt.Sprint(now.Unix()))
	header.Set(signature.HeaderSignature, list)

	fmt.Println(signature.Verify(header, body, before))
	fmt.Println(signature.Verify(header, body, after))
	fmt.Println(signature.Verify(header, []byte(`{"type":"order.forged"}`), after))
	// Output:
	// <nil>
	// <nil>
	// signature: no signature matches
}

// A receiver that believes only what is signed.
func ExampleVerifier_Request() {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	verifier, err := signature.NewVerifier(secret)
	if err != nil {
		fmt.Println(err)
		return
	}
	receiver := func(w http.ResponseWriter, r *http.Request) {
		body, err := verifier.Request(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		fmt.Printf("%s: %s\n", r.Header.Get("webhook-id"), body)
	}

	body, now := `{"type":"order.paid"}`, time.Now()
	header, err := signature.Sign("order-17", now, []byte(body), secret)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, sent := range []string{body, `{"type":"order.forged"}`} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(sent))
		r.Header.Set("webhook-id", "order-17")
		r.Header.Set("webhook-timestamp", fmt.Sprint(now.Unix()))
		r.Header.Set("webhook-signature", header)
		w := httptest.NewRecorder()
		receiver(w, r)
		fmt.Print(w.Code, " ", w.Body)
	}
	fmt.Println()
	// Output:
	// order-17: {"type":"order.paid"}
	// 200 401 signature: no signature matches
}
