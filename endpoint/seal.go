package endpoint

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/relaywebhooks/relay"
)

const (
	sealingPrefix = "rsk_"    // of a key, so that people and scanners know one when they see it
	sealedPrefix  = "sealed:" // of what was sealed, so that nothing plain is taken for it
	sealingSize   = 32        // bytes of a key: AES-256
	keyIDSize     = 4         // bytes of a key's id
)

// ErrNoSealingKey is what [Sealer.Seal] returns where there is no key to seal with.
var ErrNoSealingKey = errors.New("no key to seal secrets with: " +
	"make one with relay secret --sealing and set it in sealing.keys of every relay process")

// UnknownKeyError says that a text was sealed with a key that the Sealer lacks.
type UnknownKeyError struct{ ID string }

// Error names the key and the setting.
func (e *UnknownKeyError) Error() string {
	return "sealed with key " + e.ID + ", which is not in sealing.keys"
}

// Sealer keeps secrets unreadable where they are stored: AES-256-GCM with a random
// nonce. It is safe for concurrent use. It prints nothing of its keys. The zero value
// has none.
type Sealer struct {
	keys atomic.Pointer[[]sealingKey] // the first seals, all open
}

// A sealingKey has its cipher behind a function, because %s of fmt would print
// all that is in one, the key with it.
type sealingKey struct {
	id   string
	aead func() cipher.AEAD
}

// NewSealer makes a sealer of keys as [NewSealingKey] makes them. The first one
// seals, and all of them open, so that a key can be replaced while texts that
// the old one sealed are still about. Without keys it refuses to seal. The
// error names every fault, and no key.
func NewSealer(keys ...relay.Secret) (*Sealer, error) {
	s := &Sealer{}
	if err := s.Replace(keys...); err != nil {
		return nil, err
	}
	return s, nil
}

// Replace exchanges all keys at once. If any of them is faulty they stay as they
// were.
func (s *Sealer) Replace(keys ...relay.Secret) error {
	var parsed []sealingKey
	var faults []error
	for i, text := range keys {
		key, err := parseSealingKey(text)
		if err == nil && find(parsed, key.id) != nil {
			err = errors.New("stands there twice, or has the id of another: make a new one")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("endpoint: sealing key %d of %d: %w", i+1, len(keys), err))
		}
		parsed = append(parsed, key)
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	s.keys.Store(&parsed)
	return nil
}

// list returns the keys. Those of the zero Sealer are none.
func (s *Sealer) list() []sealingKey {
	if keys := s.keys.Load(); keys != nil {
		return *keys
	}
	return nil
}

// NewSealingKey returns a new random key for [NewSealer]: rsk_ and 32 bytes in
// base64.
func NewSealingKey() relay.Secret {
	var key [sealingSize]byte
	_, _ = rand.Read(key[:]) // which never fails
	return relay.Secret(sealingPrefix + base64.StdEncoding.EncodeToString(key[:]))
}

func parseSealingKey(text relay.Secret) (sealingKey, error) {
	encoded, ok := strings.CutPrefix(string(text), sealingPrefix)
	if !ok {
		return sealingKey{}, errors.New("does not begin with " + sealingPrefix + ": make one with relay secret --sealing")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(key) != sealingSize {
		return sealingKey{}, fmt.Errorf("is not %s and %d bytes in base64: make one with relay secret --sealing", sealingPrefix, sealingSize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealingKey{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return sealingKey{}, err
	}
	// The id is public. It tells nothing about a key of 256 random bits.
	sum := sha256.Sum256(append([]byte("relay sealing key\x00"), key...))
	return sealingKey{id: hex.EncodeToString(sum[:keyIDSize]), aead: func() cipher.AEAD { return aead }}, nil
}

func find(keys []sealingKey, id string) *sealingKey {
	for i := range keys {
		if keys[i].id == id {
			return &keys[i]
		}
	}
	return nil
}

// KeyIDs names the keys, the one that seals first. An id is 8 hexadecimal digits
// and no secret.
func (s *Sealer) KeyIDs() []string {
	var ids []string
	for _, key := range s.list() {
		ids = append(ids, key.id)
	}
	return ids
}

// Seal returns plain as a text that only the key can open, and only for the same
// about, which says whose it is and what: the endpoint's key, where it is called,
// and the field. So it is of no use in another row. The text is sealed:<key id>:<base64>. The
// same secret sealed twice gives two texts. Without a key the error is
// [ErrNoSealingKey].
func (s *Sealer) Seal(plain, about string) (string, error) {
	keys := s.list()
	if len(keys) == 0 {
		return "", ErrNoSealingKey
	}
	key := keys[0]
	box := key.aead().Seal(nil, nil, []byte(plain), associated(about)) //nolint:gosec // it makes its own nonce
	return sealedPrefix + key.id + ":" + base64.RawURLEncoding.EncodeToString(box), nil
}

// Open returns what was sealed. The error is an [*UnknownKeyError] if none of
// the keys sealed it; else it says that the text is not a sealed one, or was
// changed, or was sealed for another about. No error holds anything of the text
// but its key's id.
func (s *Sealer) Open(sealed, about string) (string, error) {
	id, box, err := parseSealed(sealed)
	if err != nil {
		return "", err
	}
	key := find(s.list(), id)
	if key == nil {
		return "", &UnknownKeyError{ID: id}
	}
	plain, err := key.aead().Open(nil, nil, box, associated(about))
	if err != nil {
		return "", fmt.Errorf("does not open with its key %s: it was changed, or belongs to another endpoint, setting or URL", id)
	}
	return string(plain), nil
}

// Stale reports whether a text is to be sealed anew, because another key than
// the first one sealed it, or none. Without keys nothing is.
func (s *Sealer) Stale(sealed string) bool {
	keys := s.list()
	return len(keys) > 0 && !strings.HasPrefix(sealed, sealedPrefix+keys[0].id+":")
}

// parseSealed takes a text apart in the one way in which Seal writes it.
func parseSealed(sealed string) (id string, box []byte, err error) {
	rest, ok := strings.CutPrefix(sealed, sealedPrefix)
	id, encoded, parts := strings.Cut(rest, ":")
	if raw, err := hex.DecodeString(id); !ok || !parts || err != nil || len(raw) != keyIDSize || hex.EncodeToString(raw) != id {
		return "", nil, errors.New("is not sealed: set it by relay endpoint, which seals it")
	}
	// Line ends are skipped by the decoder, and would be a second way to write it.
	box, err = base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return "", nil, errors.New("is cut off, or was changed: set it anew")
	}
	return id, box, nil
}

// associated is what a text is bound to beside its key. With the prefix in it a key
// that has another use too gives nothing away that counts here.
func associated(about string) []byte { return []byte(sealedPrefix + about) }

// about is what a sealed secret is bound to: with the origin in it, whoever may
// write to the table cannot have it sent elsewhere.
func about(key, origin, field string) string { return key + " " + origin + " " + field }

// originOf is the scheme, host and port of a URL, to which its secrets belong; ""
// of what is no URL.
func originOf(url string) string {
	canonical, err := relay.CheckURL(url)
	if err != nil {
		return ""
	}
	scheme, rest, _ := strings.Cut(canonical, "://")
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + host
}
