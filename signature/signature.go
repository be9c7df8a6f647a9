// Package signature signs and verifies webhooks as Standard Webhooks 1.0.0
// asks: https://www.standardwebhooks.com.
//
// What is signed is "<webhook-id>.<webhook-timestamp>.<body>", the body byte
// for byte. A secret is either symmetric, "whsec_" and 24 to 64 bytes in
// base64, or asymmetric, an ed25519 key: "whsk_" for the private half that
// signs, "whpk_" for the public half that verifies.
//
// Receivers may import this package: it needs the standard library and nothing
// else of relay. All types are safe for concurrent use.
package signature

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The headers of a signed webhook, as they are written on the wire.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

var (
	// ErrSecret means that a secret is none: a wrong length, broken base64 or
	// a prefix that does not belong here. Errors never repeat the secret.
	ErrSecret = errors.New("not a usable secret")
	// ErrID means that a webhook id is empty or contains a '.', which would
	// make it unclear where the id ends and the timestamp begins.
	ErrID = errors.New("webhook id is empty or contains a '.'")
)

// Sign returns the webhook-signature header for a body sent at a moment: one
// signature for each secret, in their order, separated by spaces. While a
// secret is being replaced, pass the new one and then the old one. To sign more
// than once with the same secrets, use a [Signer]. The error wraps [ErrSecret]
// or [ErrID].
func Sign(id string, at time.Time, body []byte, secrets ...string) (header string, err error) {
	s, err := NewSigner(secrets...)
	if err != nil {
		return "", err
	}
	return s.Sign(id, at, body)
}

// A Signer signs with secrets that were read once. It is safe for concurrent
// use.
type Signer struct {
	keys []signingKey
}

// NewSigner reads secrets of the forms whsec_… and whsk_…, from 1 to 32 of them.
// A secret without a prefix counts as whsec_, as it does elsewhere. The error
// names every secret that is none, by its place.
func NewSigner(secrets ...string) (*Signer, error) {
	keys, err := readAll(secrets, readSigningKey)
	if err != nil {
		return nil, err
	}
	return &Signer{keys: keys}, nil
}

// Sign returns the webhook-signature header for a body sent at a moment. Only
// an unusable id makes it fail, and a Signer that did not come from
// [NewSigner]: it has nothing to sign with. The body is not copied, except for
// ed25519, which needs the signed bytes in one piece.
func (s *Signer) Sign(id string, at time.Time, body []byte) (header string, err error) {
	if len(s.keys) == 0 {
		return "", errNoSecret
	}
	if !validID(id) {
		return "", fmt.Errorf("signature: %w", ErrID)
	}
	var scratch [384]byte
	prefix := appendPrefix(scratch[:0], id, at)
	var out [256]byte
	list := out[:0]
	for i, k := range s.keys {
		if i > 0 {
			list = append(list, ' ')
		}
		list = k.appendSignature(list, prefix, body)
	}
	return string(list), nil
}

func validID(id string) bool { return id != "" && strings.IndexByte(id, '.') < 0 }

var errNoSecret = fmt.Errorf("signature: no secret: %w", ErrSecret)

// readAll reads every secret, or none. The error names every one at fault by
// its place in the list, never by its text.
func readAll[K any](secrets []string, read func(string) (K, error)) ([]K, error) {
	switch n := len(secrets); {
	case n == 0:
		return nil, errNoSecret
	case n > maxSignatures:
		return nil, fmt.Errorf("signature: %d secrets, want at most %d: %w", n, maxSignatures, ErrSecret)
	}
	keys, faults := make([]K, len(secrets)), []error(nil)
	for i, text := range secrets {
		k, err := read(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("signature: secret %d of %d: %w", i+1, len(secrets), err))
		}
		keys[i] = k
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return keys, nil
}
