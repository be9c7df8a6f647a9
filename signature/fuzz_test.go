package signature_test

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/relaywebhooks/relay/signature"
)

// The seeds of both targets are in testdata/fuzz, named after what they are.

// Whatever arrives, Verify does not panic, says why it does not believe, and
// believes no more than the official library does. What it was sent beside a
// good signature changes nothing.
func FuzzVerify(f *testing.F) {
	official, err := standardwebhooks.NewWebhook(secret1)
	if err != nil {
		f.Fatal(err)
	}
	alone, both := mustVerifier(f, secret1), mustVerifier(f, public, secret1)
	alone.Tolerance, both.Tolerance = -1, -1
	f.Fuzz(func(t *testing.T, id, stamp, list string, body []byte) {
		h := headers(id, stamp, list)
		err := alone.Verify(h, body)
		if !known(err) {
			t.Fatalf("an error of no known kind: %v", err)
		}
		if err == nil && official.VerifyIgnoringTimestamp(body, h) != nil {
			t.Fatal("believed; the official library does not")
		}
		if err == nil && both.Verify(h, body) != nil {
			t.Fatal("one more key makes it disbelieve")
		}
		if both.Verify(h, body) == nil {
			body = append(body, '.') // so that the list is wrong
		}
		seconds, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil || seconds < 0 || seconds > 253402300799 || id == "" || strings.Contains(id, ".") {
			return
		}
		for _, secret := range []string{secret1, private} {
			good, err := signature.Sign(id, time.Unix(seconds, 0), body, secret)
			if err != nil {
				t.Fatal(err)
			}
			room := strings.Count(list, " ") < 31
			if err := both.Verify(headers(id, stamp, list+" "+good), body); (err == nil) != room {
				t.Fatalf("a good signature after %q: %v", list, err)
			}
			if err := both.Verify(headers(id, stamp, good+" "+list), body); err != nil {
				t.Fatalf("a good signature before %q: %v", list, err)
			}
			if err := both.Verify(headers(id, stamp, good), append(body, 0)); !errors.Is(err, signature.ErrNoMatch) {
				t.Fatalf("believed for another body: %v", err)
			}
		}
	})
}

func known(err error) bool {
	for _, kind := range []error{
		nil, signature.ErrMissingHeader, signature.ErrID, signature.ErrTimestamp, signature.ErrTooOld, signature.ErrTooNew,
		signature.ErrNoMatch,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// sayings are all that is ever said about a secret: none of it comes from the
// secret itself.
var sayings = regexp.MustCompile(`^signature: secret 1 of 1: not a usable secret: (` + strings.Join([]string{
	`\d+ bytes, want 24 to 64`, `not in base64 \(standard alphabet, padded\)`,
	`whsk_ with \d+ bytes, want 32 or 64`, `whpk_ with \d+ bytes, want 32`,
	`the two halves of the whsk_ key do not belong together`,
	`whpk_ is the public half, which cannot sign; use whsk_`,
	`whsk_ is the private half, which stays with the sender; use whpk_`,
}, "|") + `)$`)

// Whatever is given as a secret is refused without being repeated, or signs
// what its receiver believes. The official library makes the same signature.
func FuzzSecret(f *testing.F) {
	at, body := time.Unix(1614265330, 0), []byte("{}")
	f.Fuzz(func(t *testing.T, text string) {
		verifier, err := signature.NewVerifier(text)
		if err != nil && (!errors.Is(err, signature.ErrSecret) || !sayings.MatchString(err.Error())) {
			t.Fatalf("for a verifier: %v", err)
		}
		list, err := signature.Sign("msg_1", at, body, text)
		if err != nil {
			if !errors.Is(err, signature.ErrSecret) || !sayings.MatchString(err.Error()) {
				t.Fatalf("for a signer: %v", err)
			}
			if verifier != nil && !strings.HasPrefix(text, "whpk_") {
				t.Fatal("it verifies, and cannot sign")
			}
			return
		}
		if strings.HasPrefix(text, "whsk_") {
			half, err := signature.Public(text)
			if err != nil {
				t.Fatal(err)
			}
			verifier = mustVerifier(t, half)
		} else {
			agrees(t, text, at, body, list)
		}
		verifier.Tolerance = -1
		if err := verifier.Verify(headers("msg_1", "1614265330", list), body); err != nil {
			t.Fatal(err)
		}
	})
}

// agrees holds a signature to that of the official library, which must be able
// to read every secret that is taken.
func agrees(t *testing.T, secret string, at time.Time, body []byte, got string) {
	t.Helper()
	official, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	want, err := official.Sign("msg_1", at, body)
	if err != nil || got != want {
		t.Fatalf("signed %q; the official library says %q, %v", got, want, err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(raw) < 24 || len(raw) > 64 {
		t.Fatalf("taken, with %d bytes, %v", len(raw), err)
	}
}
