package signature

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Secrets and signatures, by version.
const (
	prefixSymmetric = "whsec_"
	prefixPrivate   = "whsk_"
	prefixPublic    = "whpk_"

	versionSymmetric  = "v1"
	versionAsymmetric = "v1a"

	minSecret, maxSecret = 24, 64 // bytes, by the specification
)

// A signingKey appends "<version>,<base64>" to dst.
type signingKey interface {
	appendSignature(dst, prefix, body []byte) []byte
}

// A verifyingKey says whether a decoded signature is its own.
type verifyingKey interface {
	version() string
	matches(signature, prefix, body []byte) bool
}

func readSigningKey(text string) (signingKey, error) {
	switch {
	case strings.HasPrefix(text, prefixPrivate):
		return readPrivate(strings.TrimPrefix(text, prefixPrivate))
	case strings.HasPrefix(text, prefixPublic):
		return nil, fmt.Errorf("%w: whpk_ is the public half, which cannot sign; use whsk_", ErrSecret)
	default:
		return readSymmetric(text)
	}
}

func readVerifyingKey(text string) (verifyingKey, error) {
	switch {
	case strings.HasPrefix(text, prefixPublic):
		return readPublic(strings.TrimPrefix(text, prefixPublic))
	case strings.HasPrefix(text, prefixPrivate):
		return nil, fmt.Errorf("%w: whsk_ is the private half, which stays with the sender; use whpk_", ErrSecret)
	default:
		return readSymmetric(text)
	}
}

// symmetric is an HMAC-SHA256 key. Setting up an HMAC costs as much as signing
// a short body, so they are kept.
type symmetric struct {
	pool sync.Pool // of *mac
}

type mac struct {
	hash.Hash
	sum [sha256.Size]byte
}

func readSymmetric(text string) (*symmetric, error) {
	secret, err := decode(strings.TrimPrefix(text, prefixSymmetric))
	if err != nil {
		return nil, err
	}
	if len(secret) < minSecret || len(secret) > maxSecret {
		return nil, fmt.Errorf("%w: %d bytes, want %d to %d", ErrSecret, len(secret), minSecret, maxSecret)
	}
	k := new(symmetric)
	k.pool.New = func() any { return &mac{Hash: hmac.New(sha256.New, secret)} }
	return k, nil
}

func (k *symmetric) version() string { return versionSymmetric }

// take computes the sum into a mac that goes back into the pool after use.
func (k *symmetric) take(prefix, body []byte) *mac {
	m, _ := k.pool.Get().(*mac)
	m.Reset()
	m.Write(prefix)
	m.Write(body)
	m.Sum(m.sum[:0])
	return m
}

func (k *symmetric) appendSignature(dst, prefix, body []byte) []byte {
	m := k.take(prefix, body)
	defer k.pool.Put(m)
	return appendVersioned(dst, versionSymmetric, m.sum[:])
}

func (k *symmetric) matches(signature, prefix, body []byte) bool {
	m := k.take(prefix, body)
	defer k.pool.Put(m)
	return hmac.Equal(signature, m.sum[:])
}

type private ed25519.PrivateKey

// readPrivate takes the seed alone, or the seed and the public key, in which
// case they must belong together: signing with a public key that does not would
// give the private one away.
func readPrivate(text string) (private, error) {
	b, err := decode(text)
	if err != nil {
		return nil, err
	}
	if len(b) != ed25519.SeedSize && len(b) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("%w: whsk_ with %d bytes, want %d or %d", ErrSecret, len(b), ed25519.SeedSize, ed25519.PrivateKeySize)
	}
	k := ed25519.NewKeyFromSeed(b[:ed25519.SeedSize])
	if len(b) == ed25519.PrivateKeySize && !k.Equal(ed25519.PrivateKey(b)) {
		return nil, fmt.Errorf("%w: the two halves of the whsk_ key do not belong together", ErrSecret)
	}
	return private(k), nil
}

func (k private) appendSignature(dst, prefix, body []byte) []byte {
	return appendVersioned(dst, versionAsymmetric, ed25519.Sign(ed25519.PrivateKey(k), join(prefix, body)))
}

// Public returns the half of an ed25519 key that a receiver verifies with,
// whpk_…, for the half that signs, whsk_…. The error wraps [ErrSecret].
func Public(secret string) (string, error) {
	text, ok := strings.CutPrefix(secret, prefixPrivate)
	if !ok {
		return "", fmt.Errorf("signature: %w: only a whsk_ key has a public half", ErrSecret)
	}
	k, err := readPrivate(text)
	if err != nil {
		return "", fmt.Errorf("signature: %w", err)
	}
	return prefixPublic + base64.StdEncoding.EncodeToString(k[ed25519.SeedSize:]), nil
}

type public ed25519.PublicKey

func readPublic(text string) (public, error) {
	b, err := decode(text)
	if err != nil {
		return nil, err
	}
	if len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: whpk_ with %d bytes, want %d", ErrSecret, len(b), ed25519.PublicKeySize)
	}
	return public(b), nil
}

func (public) version() string { return versionAsymmetric }

func (k public) matches(signature, prefix, body []byte) bool {
	return ed25519.Verify(ed25519.PublicKey(k), join(prefix, body), signature)
}

func join(prefix, body []byte) []byte {
	return append(append(make([]byte, 0, len(prefix)+len(body)), prefix...), body...)
}

func decode(text string) ([]byte, error) {
	b, ok := fromBase64(text)
	if !ok {
		return nil, fmt.Errorf("%w: not in base64 (standard alphabet, padded)", ErrSecret)
	}
	return b, nil
}

// fromBase64 reads the one way in which bytes are written: padded, no loose
// bits, and no line breaks, which Go would leave out.
func fromBase64(text string) ([]byte, bool) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return b, err == nil
}

func appendPrefix(dst []byte, id string, at time.Time) []byte {
	dst = append(append(dst, id...), '.')
	return append(strconv.AppendInt(dst, at.Unix(), 10), '.')
}

func appendVersioned(dst []byte, version string, sum []byte) []byte {
	dst = append(append(dst, version...), ',')
	return base64.StdEncoding.AppendEncode(dst, sum)
}
