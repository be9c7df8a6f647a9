package signature

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Why a webhook was not believed. Compare with [errors.Is].
var (
	ErrMissingHeader = errors.New("header is missing")
	ErrTimestamp     = errors.New("webhook-timestamp is not a number of seconds")
	ErrTooOld        = errors.New("webhook-timestamp is too old")
	ErrTooNew        = errors.New("webhook-timestamp is in the future")
	ErrNoMatch       = errors.New("no signature matches")
	ErrTooLarge      = errors.New("the body is too large")
)

// maxSignatures bounds the work that one forged header can cause, and with it
// how many secrets may sign. A sender in the middle of replacing one uses two.
const maxSignatures = 32

// lastSecond is the end of the year 9999; far beyond it, time wraps around.
const lastSecond = 253402300799

// Verify returns nil if the header signs the body with one of the secrets,
// whsec_… or whpk_…, at most five minutes from now. While a secret is being
// replaced, pass both. To verify more than once with the same secrets, or to
// have the body read, use a [Verifier]; the errors are those of
// [NewVerifier] and [Verifier.Verify].
func Verify(h http.Header, body []byte, secrets ...string) error {
	v, err := NewVerifier(secrets...)
	if err != nil {
		return err
	}
	return v.Verify(h, body)
}

// A Verifier verifies webhooks. Set its fields before the first use; after
// that it is safe for concurrent use.
type Verifier struct {
	Tolerance time.Duration // how far the timestamp may be off, either way; 0 means 5 minutes, negative any distance
	MaxBody   int64         // bytes that [Verifier.Request] reads; 0 means 1 MiB

	keys []verifyingKey
}

// NewVerifier reads secrets of the forms whsec_… and whpk_…, from 1 to 32 of
// them. A webhook is believed if one of its signatures matches one of them. A
// secret without a prefix counts as whsec_. The error wraps [ErrSecret].
func NewVerifier(secrets ...string) (*Verifier, error) {
	keys, err := readAll(secrets, readVerifyingKey)
	if err != nil {
		return nil, err
	}
	return &Verifier{keys: keys}, nil
}

// Request reads the body of a request, verifies it, and returns it; the
// request's Body then reads it again from its beginning. After an error nothing
// of the body is to be used. An error other than the sentinels of this package
// means that the body could not be read.
func (v *Verifier) Request(r *http.Request) (body []byte, err error) {
	limit := cmp.Or(v.MaxBody, 1<<20)
	body, err = io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("signature: read the body: %w", err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("signature: %w: more than %d bytes", ErrTooLarge, limit)
	}
	if err := v.Verify(r.Header, body); err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// Verify returns nil if the header signs the body, byte for byte as it was
// received, with one of the secrets and at a moment close enough to now.
// Otherwise it returns one of the sentinels of this package, wrapped. What a
// forger learns from the time it takes is which version a signature has.
func (v *Verifier) Verify(h http.Header, body []byte) error {
	id, stamp, list := h.Get(HeaderID), h.Get(HeaderTimestamp), h.Get(HeaderSignature)
	switch {
	case id == "":
		return missing(HeaderID)
	case stamp == "":
		return missing(HeaderTimestamp)
	case list == "":
		return missing(HeaderSignature)
	case !validID(id):
		return fmt.Errorf("signature: %w", ErrID)
	}
	at, err := v.checkTime(stamp)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if !v.anyMatches(list, appendPrefix(nil, id, at), body) {
		return fmt.Errorf("signature: %w", ErrNoMatch)
	}
	return nil
}

func missing(name string) error { return fmt.Errorf("signature: %s: %w", name, ErrMissingHeader) }

func (v *Verifier) checkTime(stamp string) (time.Time, error) {
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || seconds < 0 || seconds > lastSecond {
		return time.Time{}, ErrTimestamp
	}
	at, tolerance := time.Unix(seconds, 0), cmp.Or(v.Tolerance, 5*time.Minute)
	switch off := time.Since(at); {
	case tolerance < 0:
	case off > tolerance:
		return at, ErrTooOld
	case off < -tolerance:
		return at, ErrTooNew
	}
	return at, nil
}

func (v *Verifier) anyMatches(list string, prefix, body []byte) bool {
	tried := 0
	for item := range strings.SplitSeq(list, " ") {
		if tried++; tried > maxSignatures {
			return false
		}
		version, text, _ := strings.Cut(item, ",")
		given, ok := fromBase64(text)
		if !ok {
			continue
		}
		for _, k := range v.keys {
			if k.version() == version && k.matches(given, prefix, body) {
				return true
			}
		}
	}
	return false
}
