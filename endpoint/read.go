package endpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// fields are what a request may hold, by name, and where each goes.
func (s *settings) fields() map[string]any {
	return map[string]any{
		"tenant": &s.Tenant, "name": &s.Name, "url": &s.URL, "revision": &s.Revision,
		"secrets": &s.Secrets, "headers": &s.Headers, "basic": &s.Basic, "bearer": &s.Bearer,
		"content_type": &s.ContentType, "http2": &s.HTTP2,
		"ca": &s.CA, "certificate": &s.Certificate, "key": &s.Key,
		"timeout": &s.Timeout, "rate": &s.Rate, "burst": &s.Burst, "concurrency": &s.Concurrency,
		"schedule": &s.Schedule, "max_attempts": &s.MaxAttempts, "success_codes": &s.SuccessCodes,
		"template": &s.Template, "heed": &s.Heed,
	}
}

// readSettings reads settings as a person writes them. What an answer shows beside
// them, under "state", is passed over. The error joins every fault, each beginning
// with its field.
func readSettings(raw []byte) (settings, error) {
	var s settings
	var state json.RawMessage
	fields := s.fields()
	fields["state"] = &state
	faults := readObject(raw, fields)
	if before, query, ok := strings.Cut(s.URL, "?"); ok {
		s.URL, s.Query = before, secret(query)
	}
	return s, errors.Join(faults...)
}

// readStored reads settings as they stand in the table. Sealed secrets stay so. What
// relay has written is read in one go; only to say what is wrong each field is looked
// at.
func readStored(raw []byte) (settings, error) {
	var s settings
	if strictly(raw, &s) == nil {
		return s, nil
	}
	s = settings{}
	fields := s.fields()
	fields["query"] = &s.Query
	faults := readObject(raw, fields)
	return s, errors.Join(faults...)
}

// unreadError is a fault of a request as a whole: nothing can be said about its fields.
type unreadError string

// Error is the fault.
func (e unreadError) Error() string { return string(e) }

// maxFaults bounds how many faults of one request are named: one of a megabyte has
// room for a hundred thousand, and each names every field there is.
const maxFaults = 20

// readObject reads a JSON object into its fields. An unknown field is a fault, and
// so is one that stands there twice. null is the same as leaving a field out.
func readObject(raw []byte, fields map[string]any) (faults []error) {
	if !utf8.Valid(raw) {
		return []error{unreadError("the request is not UTF-8")}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return []error{unreadError("the request must be a JSON object")}
	}
	for seen := map[string]bool{}; dec.More(); {
		if len(faults) >= maxFaults {
			return append(faults, errors.New("relay has not looked further"))
		}
		token, err := dec.Token()
		name, _ := token.(string)
		var value json.RawMessage
		if err == nil {
			err = dec.Decode(&value)
		}
		if err != nil {
			return append(faults, unreadError("the request is no whole JSON object"))
		}
		if err := readField(value, fields[name], seen[name]); err != nil {
			if fields[name] == nil {
				err = fmt.Errorf("%w; there are %s", err, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
			}
			faults = append(faults, fmt.Errorf("%.80s: %w", legible(name), err))
		}
		seen[name] = true
	}
	return append(faults, readEnd(dec)...)
}

// legible is the name of a field in a fault, which may go into a header, a log and a
// terminal.
func legible(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, name)
}

// readEnd reads the closing brace, after which nothing may follow.
func readEnd(dec *json.Decoder) []error {
	if _, err := dec.Token(); err != nil {
		return []error{unreadError("the request is no whole JSON object")}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return []error{errors.New("something follows after the request's closing brace")}
	}
	return nil
}

func readField(raw json.RawMessage, to any, again bool) error {
	switch {
	case to == nil:
		return errors.New("relay knows no such field")
	case again:
		return errors.New("stands there twice")
	case string(raw) == "null":
		return nil
	}
	err := strictly(raw, to)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok || err != nil && strings.HasPrefix(err.Error(), "json: ") {
		err = errors.New(wanted(to)) // json's own words may repeat a value
	}
	return err
}

// wanted says what a field must be.
func wanted(to any) string {
	switch to.(type) {
	case *string, **string, *secret:
		return "must be a text"
	case *int, *int64:
		return "must be a whole number"
	case *float64:
		return "must be a number"
	case *bool:
		return "must be true or false"
	case *map[string]secret:
		return `must be an object of texts, such as {"X-Api-Key": "…"}`
	case **basic:
		return `must be {"user": …, "password": …}`
	case *[]signing, *[]duration:
		return "must be a list"
	}
	return "cannot be read"
}

// strictly decodes one JSON value and takes no field that it does not know.
func strictly(raw []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(to)
}
