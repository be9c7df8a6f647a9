// Package template shapes webhooks for endpoints that want another body, other
// headers or another URL query than the producer wrote, such as the chats Slack,
// Discord and Teams. A template is a few expressions in CEL, the Common Expression
// Language: it has no loops without end, no variables to change, and reaches
// nothing but the webhook.
//
// # What an expression knows
//
//   - payload: the body as JSON; null where there is none, or it is no JSON
//   - body: the body as text; what is no UTF-8 in it is U+FFFD
//   - id, event_type, tenant, endpoint: strings, "" where there is none
//   - metadata: the event's metadata, an empty map if there is none
//   - accepted: when JetStream accepted the event, a timestamp
//
// None of them differs between the attempts of an event, so neither does what is
// sent. Maps are walked in the order of their keys.
//
// Whole numbers in JSON are int, those above 9223372036854775807 are uint, and all
// others double. Whole numbers beyond 64 bits lose digits as double does; body has
// all of them. In an object that names a key twice the last one counts.
//
// # What becomes of a result
//
// A string is sent as it is, bytes too; everything else becomes JSON, with the
// keys of objects in order, timestamps in RFC 3339, durations in seconds such as
// "1.5s", and bytes in base64. A double that is a whole number is written without a
// fraction, and infinity and NaN are refused.
//
// # What a template may not do
//
// Everything about it is bounded: its size, the work of one webhook, the text that it
// makes, the size and depth of the payload that it looks at. There are no regular
// expressions. All bounds are in package relay, and what meets one is an error.
package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/relaywebhooks/relay"
)

// Source is a template as people write it. Each expression may be left out, and
// what it would make stays as the producer wrote it.
type Source struct {
	// Body makes the body.
	Body string `json:"body,omitempty" yaml:"body"`
	// ContentType is no expression. Defaults to text/plain where Body makes a string,
	// to application/octet-stream where it makes bytes, else to application/json.
	ContentType string `json:"content_type,omitempty" yaml:"content_type"`
	// Headers make request headers, in place of the producer's of that name. Numbers
	// and truths are written as in JSON, and null leaves the header as it was.
	Headers map[string]string `json:"headers,omitempty" yaml:"headers"`
	// Query makes parameters that are appended to the URL, in the order of their
	// names. null leaves one out.
	Query map[string]string `json:"query,omitempty" yaml:"query"`
}

// Fault is one thing that is wrong with a template.
type Fault struct { //nolint:errname // people call them so
	Field   string // body, content_type, headers.<name> or query.<name>; "" for the whole
	Problem string // with line and column where it is in an expression
	late    bool   // it took too long
}

// Error says what is wrong where.
func (f *Fault) Error() string {
	if f.Field == "" {
		return "template: " + f.Problem
	}
	return "template: " + f.Field + ": " + f.Problem
}

// Parse reads a template that is written as JSON:
//
//	{"body": "{'text': payload.title}", "content_type": "…", "headers": {"X-Name": "…"}, "query": {"name": "…"}}
//
// It does not look into the expressions; [Compile] does.
func Parse(text []byte) (Source, error) {
	var s Source
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Source{}, &Fault{Problem: "it cannot be read: " + clip(strings.TrimPrefix(err.Error(), "json: "))}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Source{}, &Fault{Problem: "it cannot be read: something follows after the closing brace"}
	}
	return s, nil
}

// Compile makes a shaper of a template. The error joins a [*Fault] for everything
// that is wrong with it, and never holds more of it than the names in it.
//
// What the shaper returns as an error names the field, and the place in its
// expression, and nothing of the webhook.
func Compile(s Source) (relay.Shaper, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	e, err := theEngine()
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	t := &template{engine: e, contentType: s.ContentType}
	c := compiler{engine: e, template: t}
	if s.Body != "" {
		t.body = c.expression("body", s.Body)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		t.headers = append(t.headers, part{name, c.expression("headers."+name, s.Headers[name])})
	}
	for _, name := range slices.Sorted(maps.Keys(s.Query)) {
		t.query = append(t.query, part{name, c.expression("query."+name, s.Query[name])})
	}
	if len(c.faults) > 0 {
		return nil, errors.Join(c.faults...)
	}
	return t, nil
}

// CompileJSON is [Parse] and [Compile].
func CompileJSON(text []byte) (relay.Shaper, error) {
	s, err := Parse(text)
	if err != nil {
		return nil, err
	}
	return Compile(s)
}

// check finds what is wrong outside the expressions.
func (s Source) check() error {
	var faults []error
	fault := func(field, problem string, args ...any) {
		faults = append(faults, &Fault{Field: field, Problem: fmt.Sprintf(problem, args...)})
	}
	size, seen := len(s.Body), map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		size += len(s.Headers[name])
		canonical := http.CanonicalHeaderKey(name)
		if seen[canonical] {
			fault("headers."+clip(name), "is there twice, in another spelling")
		}
		seen[canonical] = true
		if err := relay.CheckRequestHeader(name, ""); err != nil {
			fault("headers."+clip(name), "%s", err)
		}
	}
	for name, text := range s.Query {
		size += len(text)
		if name == "" || len(name) > relay.MaxName {
			fault("query."+clip(name), "the name must have 1 to %d bytes", relay.MaxName)
		}
	}
	switch {
	case size > relay.MaxTemplate:
		fault("", "its expressions have %d bytes, more than %d", size, relay.MaxTemplate)
	case size == 0:
		fault("", "it has no expression: write a body, headers or a query")
	case len(s.Headers) > relay.MaxHeaders, len(s.Query) > relay.MaxHeaders:
		fault("", "more than %d headers or query parameters", relay.MaxHeaders)
	}
	if media, _, err := mime.ParseMediaType(s.ContentType); s.ContentType != "" &&
		(err != nil || !strings.Contains(media, "/") || len(s.ContentType) > relay.MaxName || relay.CheckRequestHeader("X", s.ContentType) != nil) {
		fault("content_type", "is not a media type such as text/plain; charset=utf-8")
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

// clip shortens what somebody wrote, for a line that people read.
func clip(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
