package consumer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
)

// The header names of the raw form. Each has the name of its envelope field.
const (
	headerPrefix     = "Relay-"
	headerURL        = "Relay-Url"
	headerEndpoint   = "Relay-Endpoint"
	headerID         = "Relay-Id"
	requestHeader    = "Relay-Header-" // Relay-Header-<Name>: a header of the request
	defaultMethod    = http.MethodPost
	defaultMediaType = "application/json"
)

// maxFaults bounds how many faults of one message are found. One of a megabyte
// has room for a hundred thousand, and nobody reads them.
const maxFaults = 20

// reading is a message being read. It collects the faults, so that a producer
// learns all of them at once.
type reading struct {
	w      relay.Webhook
	faults []error
}

func (r *reading) fault(name, format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf("%s: %s", clip(name), fmt.Sprintf(format, args...)))
}

// hopeless reports whether there are so many faults that it is not worth
// reading on.
func (r *reading) hopeless() bool { return len(r.faults) >= maxFaults }

// decode reads a message into a webhook. The error joins every fault of the
// message; the webhook then holds what could be read, for the record.
func decode(m meta, header nats.Header, body []byte) (relay.Webhook, error) {
	r := &reading{w: relay.Webhook{
		Key: m.key, Generation: m.generation, Again: m.again,
		Method: defaultMethod,
	}}
	h := canonical(header)
	if size := producersBytes(header); size > relay.MaxMessageHeader {
		r.fault("message headers", "%d bytes, more than %d", size, relay.MaxMessageHeader)
	}
	if len(h[headerURL]) > 0 || len(h[headerEndpoint]) > 0 {
		r.raw(h, body)
	} else {
		r.envelope(h, body)
	}
	r.tenant(m)
	r.checkHeaders()
	r.trace(h)
	r.identify(m, h)
	r.check(m)
	return r.w, errors.Join(r.faults...)
}

// raw reads the form in which the body is the HTTP body and the fields are
// headers. Of a field that stands there twice the first counts.
func (r *reading) raw(h textproto.MIMEHeader, body []byte) {
	r.w.Body = body
	for _, name := range sortedKeys(h) {
		short, ok := strings.CutPrefix(name, headerPrefix)
		if !ok || strings.HasPrefix(name, metaPrefix) || r.hopeless() {
			continue
		}
		if name, ok := strings.CutPrefix(name, requestHeader); ok {
			r.addHeaders(name, h[requestHeader+name])
			continue
		}
		field := strings.ReplaceAll(strings.ToLower(short), "-", "_")
		read, known := fields[field]
		if !known || slices.Contains(envelopeOnly, field) {
			r.fault(name, "relay knows no such header%s", suggest(field))
			continue
		}
		read(r, value{name: name, raw: []byte(h[name][0]), header: true})
	}
}

// envelope reads the form in which the message is one JSON object. It walks
// the object itself: a map would forget fields that stand there twice, and
// payload must stay as published, byte for byte.
func (r *reading) envelope(h textproto.MIMEHeader, body []byte) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		r.fault("message", "neither an envelope (a JSON object with url or endpoint) nor a raw message (header %s or %s)%s",
			headerURL, headerEndpoint, marked(body))
		return
	}
	for seen := map[string]bool{}; dec.More(); {
		if r.hopeless() {
			return
		}
		token, err := dec.Token()
		if err != nil {
			r.fault("envelope", "%v", err)
			return
		}
		name, _ := token.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			r.fault("envelope", "field %s: %v", clip(name), err)
			return
		}
		r.field(name, raw, seen[name])
		seen[name] = true
	}
	if _, err := dec.Token(); err != nil {
		r.fault("envelope", "%v", err)
	} else if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		r.fault("envelope", "something follows after the closing brace")
	}
	r.beside(h)
}

// beside refuses the headers of the raw form that stand beside an envelope, but
// for Relay-Id, which a dead letter has.
func (r *reading) beside(h textproto.MIMEHeader) {
	for _, name := range sortedKeys(h) {
		switch {
		case !strings.HasPrefix(name, headerPrefix), strings.HasPrefix(name, metaPrefix), r.hopeless():
		case name == headerID:
			if id := h.Get(headerID); !idPattern.MatchString(id) {
				r.fault(name, "want 1 to %d of A-Z a-z 0-9 _ -, not %q", relay.MaxID, clip(id))
			}
		default:
			r.fault(name, "belongs to the raw form, which needs %s or %s; in an envelope write it as a field", headerURL, headerEndpoint)
		}
	}
}

// marked says which encoding a message seems to have that is no JSON because of
// it.
func marked(body []byte) string {
	switch {
	case bytes.HasPrefix(body, []byte("\xef\xbb\xbf")):
		return ": it begins with a byte order mark, which JSON must not have"
	case bytes.HasPrefix(body, []byte("\xff\xfe")), bytes.HasPrefix(body, []byte("\xfe\xff")):
		return ": it looks like UTF-16, and JSON is UTF-8"
	case bytes.HasPrefix(body, []byte("\x1f\x8b")):
		return ": it looks like gzip"
	}
	return ""
}

// field reads one field of the envelope.
func (r *reading) field(name string, raw json.RawMessage, again bool) {
	switch read, known := fields[name]; {
	case !known:
		r.fault(name, "relay knows no such field%s", suggest(name))
	case again:
		r.fault(name, "stands there twice")
	case string(raw) == "null" && name != "payload":
		// null is the same as leaving a field out, except that it is JSON for a payload.
	default:
		read(r, value{name: name, raw: raw})
	}
}

// identify settles the webhook id: the producer's, else Nats-Msg-Id where it
// fits, else one made from the event key. On relay's own copies it was settled
// before.
func (r *reading) identify(m meta, h textproto.MIMEHeader) {
	switch {
	case m.id != "":
		r.w.ID = m.id
	case r.w.ID != "":
	case idPattern.MatchString(h.Get(headerID)):
		r.w.ID = h.Get(headerID)
	case idPattern.MatchString(h.Get(nats.MsgIdHdr)):
		r.w.ID = h.Get(nats.MsgIdHdr)
	default:
		r.w.ID = "evt_" + m.key.String()
	}
}

// check holds the fields against each other and against the clock of the
// moment at which JetStream accepted the event.
func (r *reading) check(m meta) {
	w := &r.w
	accepted := w.Key.Time
	switch {
	case w.URL == "" && w.EndpointName == "" && len(r.faults) == 0:
		r.fault("url", "missing: name a url or an endpoint")
	case w.URL != "" && w.EndpointName != "":
		r.fault("url", "name a url or an endpoint, not both")
	}
	if w.URL != "" {
		if _, err := relay.CheckURL(w.URL); err != nil {
			r.fault("url", "%s", strings.TrimPrefix(err.Error(), "URL: "))
			w.URL = harmless(w.URL)
		}
	}
	if w.ScheduledAt.After(accepted.Add(relay.MaxScheduleAhead)) {
		r.fault("scheduled_at", "more than 30 days ahead")
	}
	if w.ExpiresAt.After(accepted.Add(relay.MaxExpiry)) {
		r.fault("expires_at", "more than 90 days ahead")
	}
	if !w.ExpiresAt.IsZero() && !w.ScheduledAt.IsZero() && !w.ExpiresAt.After(w.ScheduledAt) {
		r.fault("expires_at", "not after scheduled_at")
	}
	if !m.replayed.IsZero() { // a replay is asked for by a person who knows how old the letter is
		w.ScheduledAt, w.ExpiresAt = time.Time{}, time.Time{}
	}
}

// expiry is when an event is given up: when its producer said, or else some time
// after it could first be sent. While its endpoint is held nobody knows when that
// will be, and the answer is the zero time.
func expiry(m meta, w relay.Webhook, ep relay.Endpoint, after time.Duration) time.Time {
	switch {
	case !w.ExpiresAt.IsZero():
		return w.ExpiresAt
	case ep.Held != "":
		return time.Time{}
	}
	return later(later(w.Key.Time, w.ScheduledAt), later(m.replayed, ep.Released)).Add(after)
}

// expired reports whether an event has passed its time.
func expired(w relay.Webhook, now time.Time) bool {
	return !w.ExpiresAt.IsZero() && !now.Before(w.ExpiresAt)
}

// harmless is as much of a refused URL as may stand in a log: neither its query
// nor what may be a password. What relay cannot read it cannot take apart, so
// all that is before an @ is hidden.
func harmless(url string) string {
	shown := url
	if end := strings.IndexAny(url, "?#"); end >= 0 {
		shown = url[:end]
	}
	if !strings.Contains(url, "@") {
		return shown
	}
	rest := ""
	if at := strings.LastIndexByte(shown, '@'); at >= 0 {
		rest = shown[at:]
	}
	return scheme.FindString(shown) + "[hidden]" + rest
}

var scheme = regexp.MustCompile("^[A-Za-z][A-Za-z0-9+.-]*://")
