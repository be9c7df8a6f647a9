package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/relaywebhooks/relay"
)

// Scope is what a token may read.
type Scope string

// The scopes.
const (
	ScopeMetrics  Scope = "metrics"  // /metrics
	ScopeReady    Scope = "ready"    // what is wrong, in words, in /readyz
	ScopeProfiles Scope = "profiles" // /debug/pprof/, on a loopback address
)

// Scopes returns all scopes that there are.
func Scopes() []Scope { return []Scope{ScopeMetrics, ScopeReady, ScopeProfiles} }

// UnmarshalText takes one of [Scopes].
func (s *Scope) UnmarshalText(text []byte) error {
	if !slices.Contains(Scopes(), Scope(text)) {
		return fmt.Errorf("must be one of %s, %s or %s", ScopeMetrics, ScopeReady, ScopeProfiles)
	}
	*s = Scope(text)
	return nil
}

const (
	tokenPrefix = "rat_" // so that people and scanners know a token when they see one
	hashPrefix  = "sha256:"
)

// Hash is what relay knows of a token: sha256: and 64 hexadecimal digits. It is no
// secret, because nobody finds the 256 random bits that [NewToken] puts into a
// token. Of a token that a person thought up it would be.
type Hash string

// UnmarshalText takes what [NewToken] returns.
func (h *Hash) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), hashPrefix)
	if raw, err := hex.DecodeString(digits); !ok || err != nil || len(raw) != sha256.Size {
		return errors.New("must be " + hashPrefix + " and 64 hexadecimal digits, as relay token makes it: the hash, and not the token")
	}
	*h = Hash(strings.ToLower(string(text)))
	return nil
}

// sum returns the bytes of a hash. It is that of no token if the hash is none.
func (h Hash) sum() (sum [sha256.Size]byte) {
	raw, err := hex.DecodeString(strings.TrimPrefix(string(h), hashPrefix))
	if err == nil {
		copy(sum[:], raw)
	}
	return sum
}

// Token is a token by its hash, and what it may read.
type Token struct {
	Name   string // for people
	Hash   Hash
	Scopes []Scope // at least one
}

// NewToken makes a random token, which is to be shown once to whoever will use
// it, and the hash to configure.
func NewToken() (relay.Secret, Hash) {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // which never fails
	token := tokenPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
	sum := sha256.Sum256([]byte(token))
	return relay.Secret(token), Hash(hashPrefix + hex.EncodeToString(sum[:]))
}

// checkTokens returns what is wrong with tokens.
func checkTokens(tokens []Token) (faults []error) {
	seen := map[Hash]string{}
	for _, t := range tokens {
		fail := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("admin: token %.80q: %w", t.Name, fmt.Errorf(format, args...)))
		}
		hash := t.Hash
		if err := hash.UnmarshalText([]byte(t.Hash)); err != nil {
			fail("the hash %w", err)
		} else if other, taken := seen[hash]; taken {
			fail("it is the same as %.80q", other)
		}
		seen[hash] = t.Name
		if len(t.Scopes) == 0 {
			fail("it has no scope: %s, %s or %s", ScopeMetrics, ScopeReady, ScopeProfiles)
		}
		for _, s := range t.Scopes {
			if !slices.Contains(Scopes(), s) {
				fail("there is no scope %.80q: %s, %s or %s", s, ScopeMetrics, ScopeReady, ScopeProfiles)
			}
		}
	}
	return faults
}
