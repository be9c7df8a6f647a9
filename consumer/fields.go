package consumer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/relaywebhooks/relay"
)

// fields maps the names of the envelope to how each is read. In the raw form
// the same fields are headers: max_attempts is Relay-Max-Attempts.
var fields = map[string]func(*reading, value){
	"url":             func(r *reading, v value) { r.w.URL = r.text(v, relay.MaxURL) },
	"endpoint":        func(r *reading, v value) { r.w.EndpointName = r.text(v, relay.MaxName) },
	"method":          (*reading).method,
	"content_type":    (*reading).contentType,
	"event_type":      func(r *reading, v value) { r.w.EventType = r.text(v, relay.MaxName) },
	"id":              (*reading).id,
	"tenant":          func(r *reading, v value) { r.w.Tenant = r.text(v, relay.MaxName) },
	"max_attempts":    (*reading).maxAttempts,
	"scheduled_at":    func(r *reading, v value) { r.w.ScheduledAt = r.moment(v) },
	"expires_at":      func(r *reading, v value) { r.w.ExpiresAt = r.moment(v) },
	"idempotency_key": func(r *reading, v value) { r.w.IdempotencyKey = r.text(v, relay.MaxName) },
	"metadata":        (*reading).metadata,
	"headers":         (*reading).headers,                             // envelope only
	"payload":         func(r *reading, v value) { r.w.Body = v.raw }, // envelope only
}

var envelopeOnly = []string{"headers", "payload"}

// value is a field as the producer wrote it: JSON in the envelope, text in a
// header.
type value struct {
	name   string // as the producer knows it: max_attempts or Relay-Max-Attempts
	raw    []byte
	header bool
}

var (
	idPattern = regexp.MustCompile(fmt.Sprintf(`^[A-Za-z0-9_-]{1,%d}$`, relay.MaxID))
	methods   = []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodGet}
)

// text reads a string field.
func (r *reading) text(v value, limit int) string {
	s := string(v.raw)
	if !v.header {
		if err := json.Unmarshal(v.raw, &s); err != nil {
			r.fault(v.name, "not a string")
			return ""
		}
	}
	switch {
	case s == "":
		r.fault(v.name, "empty")
	case len(s) > limit:
		r.fault(v.name, "%d bytes, more than %d", len(s), limit)
	case hasControl(s) || strings.ContainsRune(s, utf8.RuneError):
		// Where JSON is no UTF-8, encoding/json puts U+FFFD: two keys that differ
		// would become one.
		r.fault(v.name, "control characters or invalid UTF-8")
	default:
		return s
	}
	return ""
}

func (r *reading) id(v value) {
	s := r.text(v, 1<<20)
	if s != "" && !idPattern.MatchString(s) {
		r.fault(v.name, "want 1 to %d of A-Z a-z 0-9 _ -, not %q", relay.MaxID, clip(s))
		return
	}
	r.w.ID = s
}

func (r *reading) method(v value) {
	m := r.text(v, relay.MaxName)
	if m != "" && !slices.Contains(methods, m) {
		r.fault(v.name, "want one of %s, not %q", strings.Join(methods, " "), clip(m))
		return
	}
	r.w.Method = m
}

func (r *reading) contentType(v value) {
	s := r.text(v, relay.MaxName)
	if s == "" {
		return
	}
	if media, _, err := mime.ParseMediaType(s); err != nil || !strings.Contains(media, "/") {
		r.fault(v.name, "want a media type such as text/plain; charset=utf-8, not %q", clip(s))
		return
	}
	r.w.ContentType = s
}

func (r *reading) maxAttempts(v value) {
	n, err := strconv.Atoi(string(v.raw))
	if err != nil || n < 1 || n > relay.MaxMaxAttempts {
		r.fault(v.name, "want a whole number from 1 to %d, not %s", relay.MaxMaxAttempts, clip(string(v.raw)))
		return
	}
	r.w.MaxAttempts = n
}

func (r *reading) moment(v value) time.Time {
	s := r.text(v, relay.MaxName)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		r.fault(v.name, "want RFC 3339, such as 2026-01-31T08:00:00Z, not %q", clip(s))
		return time.Time{}
	}
	return t.UTC()
}

func (r *reading) metadata(v value) {
	var object map[string]json.RawMessage
	switch err := json.Unmarshal(v.raw, &object); {
	case err != nil || object == nil:
		r.fault(v.name, "not a JSON object")
	case len(v.raw) > relay.MaxMetadata:
		r.fault(v.name, "%d bytes, more than %d", len(v.raw), relay.MaxMetadata)
	case !utf8.Valid(v.raw):
		r.fault(v.name, "invalid UTF-8")
	case hugeNumber(v.raw):
		r.fault(v.name, "a number with an exponent of more than three digits")
	default:
		r.w.Metadata = v.raw
	}
}

// hugeNumber reports whether JSON holds a number such as 1e9999, which Postgres
// writes out in full or does not take.
func hugeNumber(raw []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err != nil {
			return false
		}
		n, ok := token.(json.Number)
		if !ok {
			continue
		}
		if i := strings.IndexAny(n.String(), "eE"); i >= 0 && len(strings.TrimLeft(n.String()[i+1:], "+-0")) > 3 {
			return true
		}
	}
}

// headers reads the envelope's headers: an object of strings, or of lists of
// strings for a header with several values.
func (r *reading) headers(v value) {
	dec := json.NewDecoder(bytes.NewReader(v.raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		r.fault(v.name, "not a JSON object")
		return
	}
	for seen := map[string]bool{}; dec.More() && !r.hopeless(); {
		token, err := dec.Token()
		name, ok := token.(string)
		var raw json.RawMessage
		if err == nil {
			err = dec.Decode(&raw)
		}
		if err != nil || !ok { // cannot be: it was read as a whole before
			r.fault(v.name, "not a JSON object")
			return
		}
		values, ok := headerValues(raw)
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !ok:
			r.fault("headers."+name, "neither a string nor a list of strings, in UTF-8")
		case seen[canonical]:
			r.fault("headers."+name, "stands there twice; several values are a list")
		default:
			r.addHeaders(name, values)
		}
		seen[canonical] = true
	}
}

// headerValues reads a string or a list of strings. A null is neither, and what
// is no UTF-8 would not go out as it was written.
func headerValues(raw json.RawMessage) ([]string, bool) {
	var one *string
	var many []*string
	if json.Unmarshal(raw, &one) == nil {
		many = []*string{one}
	} else if json.Unmarshal(raw, &many) != nil {
		return nil, false
	}
	values := make([]string, len(many))
	for i, v := range many {
		if v == nil || strings.ContainsRune(*v, utf8.RuneError) {
			return nil, false
		}
		values[i] = *v
	}
	return values, true
}

func (r *reading) addHeaders(name string, values []string) {
	if r.w.Header == nil {
		r.w.Header = http.Header{}
	}
	for _, v := range values {
		if r.hopeless() {
			return
		}
		if err := relay.CheckRequestHeader(name, v); err != nil {
			r.faults = append(r.faults, err)
			continue
		}
		r.w.Header.Add(name, v)
	}
}

func (r *reading) checkHeaders() {
	count, size := 0, 0
	for name, values := range r.w.Header {
		for _, v := range values {
			count++
			size += len(name) + len(v)
		}
	}
	if count > relay.MaxHeaders {
		r.fault("headers", "%d, more than %d", count, relay.MaxHeaders)
	}
	if size > relay.MaxHeaderBytes {
		r.fault("headers", "%d bytes, more than %d", size, relay.MaxHeaderBytes)
	}
	if count > relay.MaxHeaders || size > relay.MaxHeaderBytes {
		r.w.Header = nil // the record has no use for them
	}
}

func sortedKeys[M ~map[string]V, V any](m M) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }

// clip shortens what a producer wrote, for a reason that people read.
func clip(s string) string {
	const most = 64
	s = s[:min(len(s), most*utf8.UTFMax+1)]
	s = strings.ToValidUTF8(s, "�")
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '�'
		}
		return r
	}, s)
}

// suggest names the field that was probably meant.
func suggest(name string) string {
	squeeze := func(s string) string { return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)) }
	for _, field := range sortedKeys(fields) {
		if squeeze(field) == squeeze(name) || squeeze(field) == squeeze(name)+"s" || squeeze(field)+"s" == squeeze(name) {
			return fmt.Sprintf(" (did you mean %s?)", field)
		}
	}
	return ""
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
