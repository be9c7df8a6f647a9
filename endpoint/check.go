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

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/signature"
)

// check returns what is wrong with an endpoint's settings, its URL aside.
func check(ep relay.Endpoint) (faults []error) {
	fail := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case ep.Name == "":
		fail("has no name")
	case len(ep.Name) > relay.MaxName:
		fail("the name is longer than %d bytes", relay.MaxName)
	case strings.ContainsFunc(ep.Name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		fail("the name holds a control character")
	}
	if ep.Timeout < 0 {
		fail("timeout is %v: want 0 (the default) or more", ep.Timeout)
	}
	if ep.Concurrency < 0 {
		fail("concurrency is %d: want 0 (the default) or more", ep.Concurrency)
	}
	if ep.Rate < 0 || math.IsNaN(ep.Rate) || math.IsInf(ep.Rate, 0) {
		fail("rate is %v: want 0 (unlimited) or more, per second", ep.Rate)
	}
	if ep.Burst < 0 {
		fail("burst is %d: want 0 (the default) or more", ep.Burst)
	}
	if ep.MaxAttempts < 0 || ep.MaxAttempts > relay.MaxMaxAttempts {
		fail("max attempts is %d: want 0 (the default) to %d", ep.MaxAttempts, relay.MaxMaxAttempts)
	}
	return append(faults, checkLists(ep)...)
}

func checkLists(ep relay.Endpoint) (faults []error) {
	if len(ep.Schedule) >= relay.MaxMaxAttempts {
		faults = append(faults, fmt.Errorf("schedule has %d waits: want less than %d", len(ep.Schedule), relay.MaxMaxAttempts))
	}
	for i, d := range ep.Schedule {
		if d < 0 || d > relay.MaxExpiry {
			faults = append(faults, fmt.Errorf("schedule: wait %d is %v: want 0 to %v", i+1, d, relay.MaxExpiry))
		}
	}
	for _, c := range ep.SuccessCodes {
		if c.From < 100 || c.To > 599 || c.From > c.To {
			faults = append(faults, fmt.Errorf("success codes %d–%d: want a range within 100–599", c.From, c.To))
		}
	}
	for i, s := range ep.Secrets {
		if _, err := signature.NewSigner(string(s)); err != nil {
			faults = append(faults, fmt.Errorf("secret %d: %w", i+1, err))
		}
	}
	return append(append(faults, checkHeader(ep.Header)...), checkExchange(ep)...)
}

// checkExchange looks at how a request is made.
func checkExchange(ep relay.Endpoint) (faults []error) {
	if t := ep.ContentType; t != "" {
		media, _, err := mime.ParseMediaType(t)
		if err != nil || !strings.Contains(media, "/") || len(t) > relay.MaxName || relay.CheckRequestHeader("X", t) != nil {
			faults = append(faults, fmt.Errorf("content type %.80q: want a media type such as text/plain; charset=utf-8", t))
		}
	}
	if all, ok := relay.CheckTLS(ep.TLS).(interface{ Unwrap() []error }); ok {
		faults = append(faults, all.Unwrap()...)
	}
	if ep.TLS != nil && !strings.HasPrefix(strings.ToLower(ep.URL), "https:") {
		faults = append(faults, errors.New("the URL does not begin with https://, so that ca, certificate and key mean nothing"))
	}
	return faults
}

func checkHeader(h http.Header) (faults []error) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			if err := relay.CheckRequestHeader(name, value); err != nil {
				faults = append(faults, err)
			}
		}
	}
	return faults
}
