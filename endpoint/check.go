package endpoint

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/signature"
)

// check returns what is wrong with an endpoint's settings, its URL aside. Each
// fault begins with the name of a setting.
func check(ep relay.Endpoint) (faults []error) {
	fail := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case ep.Name == "":
		fail("name: is missing")
	case len(ep.Name) > relay.MaxName:
		fail("name: is longer than %d bytes", relay.MaxName)
	case hasControl(ep.Name):
		fail("name: holds a control character or invalid UTF-8")
	}
	if len(ep.Tenant) > relay.MaxName || hasControl(ep.Tenant) {
		fail("tenant: is longer than %d bytes, or holds a control character", relay.MaxName)
	}
	if ep.Timeout < 0 {
		fail("timeout: is %v, want 0 (the default) or more", ep.Timeout)
	}
	if ep.Concurrency < 0 {
		fail("concurrency: is %d, want 0 (the default) or more", ep.Concurrency)
	}
	if ep.Rate < 0 || math.IsNaN(ep.Rate) || math.IsInf(ep.Rate, 0) {
		fail("rate: is %v, want 0 (unlimited) or more, per second", ep.Rate)
	}
	if ep.Burst < 0 {
		fail("burst: is %d, want 0 (the default) or more", ep.Burst)
	}
	if ep.MaxAttempts < 0 || ep.MaxAttempts > relay.MaxMaxAttempts {
		fail("max_attempts: is %d, want 0 (the default) to %d", ep.MaxAttempts, relay.MaxMaxAttempts)
	}
	return append(faults, checkLists(ep)...)
}

// hasControl is what it is where messages are read: a name that no message may
// hold is not registered.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError })
}

// maxRanges is more than anybody needs, and few enough to be looked through after
// every attempt.
const maxRanges = 100

func checkLists(ep relay.Endpoint) (faults []error) {
	if len(ep.Schedule) >= relay.MaxMaxAttempts {
		faults = append(faults, fmt.Errorf("schedule: has %d waits, want less than %d", len(ep.Schedule), relay.MaxMaxAttempts))
	}
	for i, d := range ep.Schedule {
		if d < 0 || d > relay.MaxExpiry {
			faults = append(faults, fmt.Errorf("schedule: wait %d is %v, want 0 to %v", i+1, d, relay.MaxExpiry))
		}
	}
	if len(ep.SuccessCodes) > maxRanges {
		faults = append(faults, fmt.Errorf("success_codes: are %d ranges, want %d at most", len(ep.SuccessCodes), maxRanges))
	}
	for _, c := range ep.SuccessCodes {
		if c.From < 100 || c.To > 599 || c.From > c.To {
			faults = append(faults, fmt.Errorf("success_codes: %d–%d, want a range within 100–599", c.From, c.To))
		}
	}
	return slices.Concat(faults, checkSecrets(ep.Secrets), checkHeader(ep), checkExchange(ep))
}

// checkSecrets has the signer read the secrets. One that was replaced counts until
// its overlap has ended.
func checkSecrets(secrets []relay.Secret) (faults []error) {
	if n := len(secrets); n > relay.MaxSecrets {
		faults = append(faults, fmt.Errorf("secrets: %d, those included that were replaced and have not ended: each signs every request, want at most %d", n, relay.MaxSecrets))
	}
	for i, s := range secrets {
		if _, err := signature.NewSigner(string(s)); err != nil {
			faults = append(faults, fmt.Errorf("secrets: number %d: %w", i+1, err))
		}
	}
	return faults
}

func checkHeader(ep relay.Endpoint) (faults []error) {
	bytes := 0
	for _, name := range slices.Sorted(maps.Keys(ep.Header)) {
		for _, value := range ep.Header[name] {
			bytes += len(name) + len(value)
			if err := relay.CheckRequestHeader(name, value); err != nil {
				faults = append(faults, fmt.Errorf("headers: %w", err))
			}
		}
	}
	if len(ep.Header) > relay.MaxHeaders || bytes > relay.MaxHeaderBytes {
		faults = append(faults, fmt.Errorf("headers: more than %d, or more than %d bytes", relay.MaxHeaders, relay.MaxHeaderBytes))
	}
	return faults
}

// checkExchange looks at how a request is made.
func checkExchange(ep relay.Endpoint) (faults []error) {
	if t := ep.ContentType; t != "" {
		media, _, err := mime.ParseMediaType(t)
		if err != nil || !strings.Contains(media, "/") || len(t) > relay.MaxName || relay.CheckRequestHeader("X", t) != nil {
			faults = append(faults, fmt.Errorf("content_type: is %.80q, want a media type such as text/plain; charset=utf-8", t))
		}
	}
	if all, ok := relay.CheckTLS(ep.TLS).(interface{ Unwrap() []error }); ok {
		faults = append(faults, all.Unwrap()...)
	}
	if ep.TLS != nil && !strings.HasPrefix(strings.ToLower(ep.URL), "https:") {
		faults = append(faults, errors.New("url: does not begin with https://, so that ca, certificate and key mean nothing"))
	}
	return faults
}

// check returns what is wrong with settings whose secrets are written out.
func (s *settings) check(longest time.Duration) (faults []error) {
	fail := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	ep := s.endpoint()
	if _, err := relay.CheckURL(ep.URL); err != nil {
		fail("url: %s", strings.TrimPrefix(err.Error(), "URL: "))
	}
	if longest > 0 && ep.Timeout > longest {
		fail("timeout: %s is more than the %s that consumer.ack_wait and consumer.drain allow",
			relay.FormatDuration(ep.Timeout), relay.FormatDuration(longest))
	}
	if len(s.Secrets) > 0 && !slices.ContainsFunc(s.Secrets, func(one signing) bool { return one.Until.IsZero() }) {
		fail("secrets: one at least must be without an end, or the others would end and leave none")
	}
	if s.Basic != nil && (s.Basic.User == "" || strings.Contains(s.Basic.User, ":") || hasControl(s.Basic.User)) {
		fail("basic.user: must be a name without a colon")
	}
	return slices.Concat(faults, s.checkHeaders(), check(ep))
}

// checkHeaders refuses headers of which only one would be sent.
func (s *settings) checkHeaders() (faults []error) {
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		plain := http.CanonicalHeaderKey(name)
		if other, twice := seen[plain]; twice {
			faults = append(faults, fmt.Errorf("headers: %.40s and %.40s are the same header", other, name))
		}
		seen[plain] = name
	}
	ways := 0
	for _, given := range []bool{s.Basic != nil, s.Bearer != "", seen["Authorization"] != ""} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		faults = append(faults, errors.New("basic: only one of basic, bearer and a header Authorization can be sent"))
	}
	return faults
}
