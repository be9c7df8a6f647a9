package signature_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/signature"
)

// TestStandardWebhooks holds relay, from the published event to the request on
// the wire, to what Standard Webhooks asks of a sender.
func TestStandardWebhooks(t *testing.T) {
	t.Run("SW-1 the three headers are on the wire in lower case, once each", threeHeaders)
	t.Run("SW-2 an id has no dot, at most 256 bytes, and letters, digits, _ and - only", idForm)
	t.Run("SW-3 the id stays the same over retries; timestamp and signature are the attempt's", idOverRetries)
	t.Run("SW-4 vector V1, HMAC-SHA256", func(t *testing.T) { vector(t, "V1") })
	t.Run("SW-5 vector V2, HMAC-SHA256", func(t *testing.T) { vector(t, "V2") })
	t.Run("SW-6 vector V3, ed25519", func(t *testing.T) { vector(t, "V3") })
	t.Run("SW-7 two active secrets make two signatures with a space between, the new one first", twoSecrets)
	t.Run("SW-8 v1 and v1a stand in one header", twoVersions)
	t.Run("SW-9 a secret that was removed does not sign any more, not even a retry", removedSecret)
	t.Run("SW-10 a secret of less than 24 or more than 64 bytes, or in bad base64, is rejected at load", badSecrets)
	t.Run("SW-11 2xx is success, everything else is failure", successCodes)
	t.Run("SW-12 a redirect is not followed, and its host is never dialled", redirects)
	t.Run("SW-13 410 disables a registered endpoint, whose webhooks are held, and one of any other is dead", gone)
	t.Run("SW-14 429, 502 and 504 let the endpoint rest, and no other", rests)
	t.Run("SW-15 Retry-After in seconds is heeded, whatever the failure", retryAfterSeconds)
	t.Run("SW-16 Retry-After as a date is heeded", retryAfterDate)
	t.Run("SW-17 an absurd Retry-After is clamped", retryAfterAbsurd)
	t.Run("SW-18 the deadline of 15 to 30 seconds covers the answer's body", deadline)
	t.Run("SW-19 the signature covers the exact bytes of any body", exactBytes)
	t.Run("SW-20 content-type is passed on, and application/json by default", contentType)
	t.Run("SW-21 with policy.schedule: standard, retries span three days, however jitter falls", threeDays)
	t.Run("SW-22 the official library verifies every captured request", officialVerifiesAll)
}

// wire answers one request with 204 and returns it as it came.
func wire(t *testing.T) (url string, got func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	heard := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		request := make([]byte, 1<<16)
		n := 0
		for !bytes.Contains(request[:n], []byte("\r\n\r\n")) {
			more, err := c.Read(request[n:])
			if n += more; err != nil {
				break
			}
		}
		fmt.Fprint(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		heard <- string(request[:n])
	}()
	return "http://" + l.Addr().String() + "/", func() string { return <-heard }
}

func signedBy(secrets ...relay.Secret) relaytest.Options {
	return relaytest.Options{Delivery: delivery.Options{Secrets: secrets}}
}

func threeHeaders(t *testing.T) {
	url, got := wire(t)
	r := relaytest.Start(t)
	r.RequireDelivered(r.Publish(map[string]any{"url": url, "payload": 1, "id": "once"}))
	request := got()
	for name, form := range map[string]string{
		"webhook-id": "once", "webhook-timestamp": `\d{10}`, "webhook-signature": `v1,[A-Za-z0-9+/]{43}=`,
	} {
		exact := regexp.MustCompile("\r\n"+name+": "+form+"\r\n").FindAllString(request, -1)
		if n := strings.Count(strings.ToLower(request), "\r\n"+name+":"); len(exact) != 1 || n != 1 {
			t.Errorf("%s stands there %d times, and %d times as it should, in\n%s", name, n, len(exact), request)
		}
	}
}

func idForm(t *testing.T) {
	r := relaytest.Start(t)
	for _, id := range []string{"a.b", "a b", "é", "a/b", "a\n", strings.Repeat("x", 257)} {
		r.PublishMsg(&nats.Msg{Subject: consumer.SubjectOutbound, Data: fmt.Appendf(nil, `{"url": %q, "id": %q}`, r.Receiver.URL, id)})
	}
	whole := strings.Repeat("x", 254) + "_-"
	r.RequireDelivered(r.Publish(map[string]any{"url": r.Receiver.URL, "id": whole}))
	if first := r.Next(); first.ID() != whole || len(r.Receiver.Requests()) != 1 {
		t.Errorf("the first of %d requests has the id %q", len(r.Receiver.Requests()), first.ID())
	}
	for i, msgID := range []string{"", "order.17", strings.Repeat("y", 257)} {
		m := &nats.Msg{Subject: consumer.SubjectOutbound, Header: nats.Header{"Relay-Url": {r.Receiver.URL}}, Data: []byte{byte(i)}}
		if msgID != "" {
			m.Header.Set("Nats-Msg-Id", msgID)
		}
		r.PublishMsg(m)
		if id := r.Next().ID(); !regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`).MatchString(id) {
			t.Errorf("Nats-Msg-Id %.20q made the id %q", msgID, id)
		}
	}
}

func idOverRetries(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options{Policy: policy.Options{Schedule: []time.Duration{1100 * time.Millisecond}, Jitter: -1}})
	r.Receiver.Answer(http.StatusInternalServerError)
	id := r.Publish(map[string]any{"url": r.Receiver.URL, "payload": 1})
	first, second := r.Next(), r.Next()
	if first.ID() != id || second.ID() != id {
		t.Errorf("%s was sent as %s and %s", id, first.ID(), second.ID())
	}
	for _, name := range []string{"webhook-timestamp", "webhook-signature"} {
		if first.Header.Get(name) == second.Header.Get(name) {
			t.Errorf("both attempts have %s %s", name, first.Header.Get(name))
		}
	}
	for _, q := range []relaytest.Request{first, second} {
		seconds, err := strconv.ParseInt(q.Header.Get("webhook-timestamp"), 10, 64)
		if late := q.At.Sub(time.Unix(seconds, 0)); err != nil || late < 0 || late > relaytest.Patience {
			t.Errorf("a request that came at %v is of %d, %v", q.At, seconds, err)
		}
	}
}

func vector(t *testing.T, name string) {
	t.Helper()
	for _, v := range vectors {
		if v.name != name {
			continue
		}
		if got, err := signature.Sign(v.id, time.Unix(v.at, 0), []byte(v.body), v.secret); err != nil || got != v.want {
			t.Errorf("got %q, %v; want %q", got, err, v.want)
		}
		return
	}
	t.Errorf("there is no vector %s", name)
}

// again signs a captured request once more.
func again(t *testing.T, q relaytest.Request, secret string) string {
	t.Helper()
	seconds, err := strconv.ParseInt(q.Header.Get("webhook-timestamp"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	list, err := signature.Sign(q.ID(), time.Unix(seconds, 0), q.Body, secret)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func twoSecrets(t *testing.T) {
	r := relaytest.Start(t, signedBy(secret2, secret1))
	r.Publish(map[string]any{"url": r.Receiver.URL, "payload": 1})
	q := r.Next()
	if got, want := q.Header.Get("webhook-signature"), again(t, q, secret2)+" "+again(t, q, secret1); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func twoVersions(t *testing.T) {
	r := relaytest.Start(t, signedBy(private, secret1))
	r.Publish(map[string]any{"url": r.Receiver.URL, "payload": 1})
	q := r.Next()
	if got, want := q.Header.Get("webhook-signature"), again(t, q, private)+" "+again(t, q, secret1); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, secret := range []string{public, secret1} {
		if err := signature.Verify(q.Header, q.Body, secret); err != nil {
			t.Errorf("a receiver with %.6s: %v", secret, err)
		}
	}
}

func removedSecret(t *testing.T) {
	before := signedBy(secret2, secret1)
	before.Policy = policy.Options{Schedule: []time.Duration{time.Second}, Jitter: -1}
	r := relaytest.Start(t, before)
	r.Receiver.Answer(http.StatusInternalServerError)
	id := r.Publish(map[string]any{"url": r.Receiver.URL, "payload": 1})
	if n := len(strings.Fields(r.Next().Header.Get("webhook-signature"))); n != 2 {
		t.Errorf("%d signatures before, want 2", n)
	}
	r.Eventually(func() bool { return len(r.Attempts(id)) == 1 })
	r.Stop()
	r.Receiver.Trust(secret2)
	after := signedBy(secret2)
	after.Policy, after.NATS, after.DatabaseURL = before.Policy, r.NATS, r.URL
	relaytest.Start(t, after)
	retry := r.Next()
	if got, want := retry.Header.Get("webhook-signature"), again(t, retry, secret2); got != want || retry.ID() != id {
		t.Errorf("%s is signed %q, want %q", retry.ID(), got, want)
	}
	if err := signature.Verify(retry.Header, retry.Body, secret1); !errors.Is(err, signature.ErrNoMatch) {
		t.Errorf("a receiver with the removed secret: %v", err)
	}
}

func badSecrets(t *testing.T) {
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{'K'}, n)) }
	for name, secret := range map[string]string{
		"empty": "", "prefix alone": "whsec_", "23 bytes": "whsec_" + b64(23), "65 bytes": "whsec_" + b64(65),
		"unpadded": "whsec_" + strings.TrimRight(b64(25), "="), "not base64": "whsec_" + strings.Repeat("!", 32),
		"a public key": public, "a private key of 31 bytes": "whsk_" + b64(31),
	} {
		secrets := []relay.Secret{relay.Secret(secret1), relay.Secret(secret)}
		if _, err := delivery.New(delivery.Options{Secrets: secrets}); !errors.Is(err, signature.ErrSecret) {
			t.Errorf("%s, for all endpoints: %v", name, err)
		}
		if _, err := endpoint.New([]relay.Endpoint{{Name: "a", URL: "https://a.example/", Secrets: secrets}}); !errors.Is(err, signature.ErrSecret) {
			t.Errorf("%s, for one endpoint: %v", name, err)
		}
	}
}

func officialVerifiesAll(t *testing.T) {
	official, err := standardwebhooks.NewWebhook(secret1)
	if err != nil {
		t.Fatal(err)
	}
	r := relaytest.Start(t, signedBy(private, secret1, secret2))
	r.Receiver.Answer(500, 503, 429, 301, 100, 404)
	const n = 40
	ids := make([]string, n)
	for i := range ids {
		ids[i] = r.Publish(map[string]any{"url": r.Receiver.URL + "/" + strconv.Itoa(i), "payload": strings.Repeat("é\x00", i)})
	}
	for _, id := range ids {
		r.RequireStatus(id, "delivered", "dead")
	}
	requests := r.Receiver.Requests()
	for _, q := range requests {
		if err := official.Verify(q.Body, q.Header); err != nil {
			t.Errorf("%s: %v", q.ID(), err)
		}
	}
	if len(requests) <= n {
		t.Errorf("%d requests for %d webhooks: where are the retries?", len(requests), n)
	}
}
