package relaytest

import (
	"fmt"
	"net/http"
	"strings"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/signature"
)

// Secret signs what a relay of this package sends, unless the test says
// otherwise: in [delivery.Options], or for an endpoint. It is the example of
// the specification.
const Secret relay.Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // in the open, as it says

// verifier says whether a request is signed with its secret.
type verifier func(h http.Header, body []byte) error

// verifiers has the official library read what is whsec_…, so that relay is not
// its own judge. That knows no ed25519.
func verifiers(secrets []relay.Secret) ([]verifier, error) {
	all := make([]verifier, len(secrets))
	for i, secret := range secrets {
		if own, err := signature.NewVerifier(string(secret)); err != nil {
			return nil, fmt.Errorf("trust a secret: %w", err)
		} else if strings.HasPrefix(string(secret), "whpk_") {
			all[i] = own.Verify
			continue
		}
		official, err := standardwebhooks.NewWebhook(string(secret))
		if err != nil {
			return nil, fmt.Errorf("trust a secret: %w", err)
		}
		all[i] = func(h http.Header, body []byte) error { return official.Verify(body, h) }
	}
	return all, nil
}

// verify returns nil if one of the verifiers believes a request, or if there is
// none. Each header must stand there once: which of two would count is up to
// the library that reads them.
func verify(trusted []verifier, h http.Header, body []byte) error {
	if len(trusted) == 0 {
		return nil
	}
	for _, name := range []string{signature.HeaderID, signature.HeaderTimestamp, signature.HeaderSignature} {
		if n := len(h.Values(name)); n != 1 {
			return fmt.Errorf("%d headers %s, want 1", n, name)
		}
	}
	var err error
	for _, v := range trusted {
		if err = v(h, body); err == nil {
			return nil
		}
	}
	return fmt.Errorf("not signed with a secret that this receiver trusts: %w", err)
}

// receiverHalf is what a receiver gets of the secrets that sign.
func receiverHalf(secrets []relay.Secret) ([]relay.Secret, error) {
	half := make([]relay.Secret, len(secrets))
	for i, secret := range secrets {
		half[i] = secret
		if strings.HasPrefix(string(secret), "whsk_") {
			public, err := signature.Public(string(secret))
			if err != nil {
				return nil, fmt.Errorf("read a secret: %w", err)
			}
			half[i] = relay.Secret(public)
		}
	}
	return half, nil
}
