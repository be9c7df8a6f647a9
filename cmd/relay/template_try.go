package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/relaywebhooks/relay"
)

// triedRequest is the request that a webhook would become.
type triedRequest struct {
	Method      string      `json:"method"`
	URL         string      `json:"url"`
	ContentType string      `json:"content_type,omitempty"`
	Headers     http.Header `json:"headers,omitempty"`
	Body        string      `json:"body,omitempty"`
	BodyBase64  string      `json:"body_base64,omitempty"` // of what is no UTF-8
}

// tryTemplate shows the request that a webhook would become by the template in a
// file. It needs no running relay, and sends nothing. What w leaves open is made
// up.
func (p *program) tryTemplate(file string, w relay.Webhook) error {
	shaper, err := readTemplate(file)
	if err != nil {
		var faults []error
		for _, fault := range each(err) {
			faults = append(faults, fmt.Errorf("%s: %s", file, strings.TrimPrefix(fault.Error(), "template: ")))
		}
		return usageError{errors.Join(faults...)}
	}
	if w.ID == "" {
		w.ID = "msg_try"
	}
	if w.URL == "" {
		w.URL = "https://endpoint.example/"
	}
	w.Key, w.Method, w.ContentType = relay.NewKey(time.Now(), 1), http.MethodPost, "application/json"
	if w, err = shaper.Shape(w); err != nil {
		return err
	}
	t := triedRequest{Method: w.Method, URL: w.URL, ContentType: w.ContentType, Headers: w.Header, Body: string(w.Body)}
	if !utf8.Valid(w.Body) {
		t.Body, t.BodyBase64 = "", base64.StdEncoding.EncodeToString(w.Body)
	}
	return p.showJSON(t)
}

// local tries a template in a file.
func (c *endpointTryCommand) local(p *program) error {
	if c.Template == "" {
		return usageError{errors.New("name an endpoint, or a file with --template")}
	}
	payload := []byte(c.Payload)
	if c.From != "" {
		var err error
		if payload, err = written("@"+strings.TrimPrefix(c.From, "@"), p.stdin); c.From == "-" {
			payload, err = written("-", p.stdin)
		}
		if err != nil {
			return usageError{err}
		}
	}
	if len(payload) > relay.MaxBody {
		return usageError{fmt.Errorf("the payload has %d bytes, more than the %d of a webhook", len(payload), relay.MaxBody)}
	}
	w := relay.Webhook{ID: c.ID, EventType: c.EventType, Body: payload}
	if c.Tenant != nil {
		w.Tenant = *c.Tenant
	}
	return p.tryTemplate(strings.TrimPrefix(c.Template, "@"), w)
}
