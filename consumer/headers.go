package consumer

import (
	"net/http"
	"net/textproto"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
)

// trace keeps the W3C trace context, under whatever capitals it was written.
func (r *reading) trace(h textproto.MIMEHeader) {
	for _, name := range []string{"traceparent", "tracestate", "baggage"} {
		v := h.Get(name)
		if v == "" || len(v) > relay.MaxHeaderBytes || hasControl(v) {
			continue
		}
		if r.w.Trace == nil {
			r.w.Trace = http.Header{}
		}
		r.w.Trace.Set(name, v)
	}
}

// canonical makes header names comparable: NATS keeps the capitals that the
// producer wrote, and a producer in another language writes others.
func canonical(h nats.Header) textproto.MIMEHeader {
	out := make(textproto.MIMEHeader, len(h))
	for _, name := range sortedKeys(h) {
		key := canonicalName(name)
		if before, again := out[key]; again {
			out[key] = slices.Concat(before, h[name])
		} else {
			out[key] = h[name]
		}
	}
	return out
}

// canonicalName is what [textproto.CanonicalMIMEHeaderKey] is for the names that
// HTTP allows. The others get capitals too, so that what relay must refuse is
// not overlooked.
func canonicalName(name string) string {
	out := []byte(name)
	upper := true
	for i, c := range out {
		switch {
		case upper && 'a' <= c && c <= 'z':
			out[i] = c - 'a' + 'A'
		case !upper && 'A' <= c && c <= 'Z':
			out[i] = c - 'A' + 'a'
		}
		upper = c == '-'
	}
	return string(out)
}

// producersBytes leaves out what JetStream or relay may have added to a copy: an
// event that was accepted must not grow beyond the limit while it waits.
func producersBytes(h nats.Header) int {
	size := 0
	for name, values := range h {
		canonical := http.CanonicalHeaderKey(name)
		if canonical != headerID && !ofServers(canonical) {
			size += fieldBytes(name, values)
		}
	}
	return size
}

func headerBytes(h nats.Header) int {
	size := 0
	for name, values := range h {
		size += fieldBytes(name, values)
	}
	return size
}

// fieldBytes is what one header takes on the wire.
func fieldBytes(name string, values []string) int {
	size := 0
	for _, v := range values {
		size += len(name) + len(v) + len(": \r\n")
	}
	return size
}
