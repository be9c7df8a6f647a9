package relaytest_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/signature"
)

const (
	private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	public  = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	other   = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

// complaints stands in for a test and keeps what would fail it.
type complaints struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

func (c *complaints) Errorf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

func (c *complaints) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.said = nil }()
	return strings.Join(c.said, "\n")
}

// What a receiver gets and cannot verify fails its test.
func TestAReceiverFailsTheTestOverWhatIsNotSigned(t *testing.T) {
	for _, tc := range []struct {
		name, sign string
		trust      []relay.Secret
		edit       func(http.Header)
		want       string // part of the complaint, "" for none
	}{
		{name: "signed", sign: string(relaytest.Secret)},
		{name: "another secret", sign: other, want: "not signed with a secret that this receiver trusts"},
		{name: "a secret that it was told of", sign: other, trust: []relay.Secret{relaytest.Secret, other}},
		{name: "ed25519", sign: private, trust: []relay.Secret{public}},
		{name: "ed25519, forged", sign: private, trust: []relay.Secret{public}, want: "no signature matches", edit: func(h http.Header) {
			h.Set("Webhook-Id", "msg_2")
		}},
		{name: "no signature", sign: other, want: "0 headers webhook-signature", edit: func(h http.Header) { h.Del("Webhook-Signature") }},
		{name: "two ids", sign: other, want: "2 headers webhook-id", edit: func(h http.Header) { h.Add("Webhook-Id", "msg_2") }},
		{name: "old", sign: string(relaytest.Secret), want: "too old", edit: func(h http.Header) {
			at := time.Now().Add(-6 * time.Minute)
			list, err := signature.Sign("msg_1", at, []byte("{}"), string(relaytest.Secret))
			if err != nil {
				t.Error(err)
			}
			h.Set("Webhook-Timestamp", fmt.Sprint(at.Unix()))
			h.Set("Webhook-Signature", list)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &complaints{TB: t}
			r := relaytest.NewReceiver(c)
			if tc.trust != nil {
				r.Trust(tc.trust...)
			}
			post(t, r.URL, tc.sign, tc.edit)
			if got := c.take(); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("it says %q, want %q", got, tc.want)
			}
		})
	}
}

// post sends a signed webhook, edited, and waits for the answer.
func post(t *testing.T, url, secret string, edit func(http.Header)) {
	t.Helper()
	now := time.Now()
	list, err := signature.Sign("msg_1", now, []byte("{}"), secret)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {fmt.Sprint(now.Unix())}, "Webhook-Signature": {list}}
	if edit != nil {
		edit(req.Header)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// A test's own secrets are those that its receiver trusts, in a receiver's form.
func TestAReceiverTrustsTheSecretsOfItsRelay(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options{Delivery: delivery.Options{Secrets: []relay.Secret{private}}})
	id := r.Publish(map[string]any{"url": r.Receiver.URL, "payload": 1})
	if list := r.Next().Header.Get("Webhook-Signature"); !strings.HasPrefix(list, "v1a,") {
		t.Errorf("signed %q", list)
	}
	r.RequireDelivered(id)
}
