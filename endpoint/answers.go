package endpoint

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/signature"
)

const (
	// defaultOverlap is how long a secret that was replaced signs yet.
	defaultOverlap = 24 * time.Hour
	// maxOverlap bounds it: a secret that was replaced is not kept for ever.
	maxOverlap = 90 * 24 * time.Hour
)

// target is which endpoint a request is about.
type target struct {
	endpoint, reason string
	tenant           *string // nil: nobody has said whose it is
}

// fields are those that every request about one endpoint may have.
func (t *target) fields() map[string]any {
	return map[string]any{"endpoint": &t.endpoint, "tenant": &t.tenant, "reason": &t.reason}
}

// one reads a request about one endpoint, with further fields perhaps: an object, or
// the endpoint alone as text.
func (s *Service) one(ctx context.Context, r request, further map[string]any) (Change, error) {
	var t target
	fields := t.fields()
	maps.Copy(fields, further)
	text := strings.TrimSpace(string(r.body))
	if strings.HasPrefix(text, "{") {
		if found := readObject(r.body, fields); len(found) > 0 {
			return Change{}, errors.Join(found...)
		}
	} else {
		t.endpoint = text
	}
	c, err := s.o.Store.resolve(ctx, t.tenant, t.endpoint)
	c.Reason, c.By = t.reason, r.by
	return c, err
}

// resolve finds the endpoint that a person means, and what is known of it.
func (s *Store) resolve(ctx context.Context, tenant *string, text string) (Change, error) {
	if text == "" {
		return Change{}, errors.New("the request names no endpoint: want its name, its URL or its key")
	}
	ep, err := s.Meant(ctx, tenant, text)
	if fault, ok := strings.CutPrefix(fmt.Sprint(err), "endpoint: URL: "); ok {
		err = fmt.Errorf("url: %s", fault)
	}
	if err != nil || ep.URL != "" {
		return Change{Key: ep.Key, Tenant: ep.Tenant, Name: ep.Name, URL: withoutQuery(ep.URL)}, err
	}
	c, err := s.who(ctx, text)
	if errors.Is(err, ErrUnknown) {
		err = fmt.Errorf("endpoint: %.80q %w", text, ErrUnknown)
	}
	return c, err
}

func (s *Service) put(ctx context.Context, r request) (any, error) {
	return s.o.Store.Put(ctx, r.body, r.by)
}

func (s *Service) move(ctx context.Context, r request) (any, error) {
	return s.o.Store.Move(ctx, r.body, r.by)
}

func (s *Service) get(ctx context.Context, r request) (any, error) {
	c, err := s.one(ctx, r, nil)
	if err != nil {
		return nil, err
	}
	return s.o.Store.Get(ctx, c.Key)
}

// Done is the answer of a verb that has nothing to show: what was done, and how the
// endpoint stands now.
type Done struct {
	Done     string `json:"done"`
	Endpoint string `json:"endpoint"` // its key
	Name     string `json:"name,omitempty"`
	Tenant   string `json:"tenant,omitempty"`
	URL      string `json:"url,omitempty"`
	Held     string `json:"held,omitempty"` // why its events wait, if they do
}

func (s *Service) delete(ctx context.Context, r request) (any, error) {
	c, err := s.one(ctx, r, nil)
	if err == nil {
		err = s.o.Store.Delete(ctx, c.Key, c.By)
	}
	if errors.Is(err, ErrUnknown) {
		err = fmt.Errorf("endpoint: %.80s %w: resume or enable what is held by its URL alone", legible(cmp.Or(c.Name, c.URL, c.Key)), ErrUnknown)
	}
	return Done{Done: Deleted, Endpoint: c.Key, Name: c.Name, Tenant: c.Tenant, URL: c.URL}, err
}

// state is the verb that brings an endpoint into a state.
func (s *Service) state(what string) verb {
	return func(ctx context.Context, r request) (any, error) {
		c, err := s.one(ctx, r, nil)
		if err != nil {
			return nil, err
		}
		c.What = what
		if err := s.o.Store.Set(ctx, c); err != nil {
			return nil, err
		}
		now, _ := s.o.Store.o.Registry.ByKey(c.Key)
		return Done{Done: what, Endpoint: c.Key, Name: c.Name, Tenant: c.Tenant, URL: c.URL, Held: now.Held}, nil
	}
}

func (s *Service) rotate(ctx context.Context, r request) (any, error) {
	var next secret
	overlap := duration(defaultOverlap)
	c, err := s.one(ctx, r, map[string]any{"secret": &next, "overlap": &overlap})
	if err != nil {
		return nil, err
	}
	var found []error
	if _, err := signature.NewSigner(string(next)); err != nil {
		found = append(found, fmt.Errorf("secret: %w; relay secret makes one", err))
	}
	if overlap > duration(maxOverlap) {
		found = append(found, fmt.Errorf("overlap: is more than %s", relay.FormatDuration(maxOverlap)))
	}
	if len(found) > 0 {
		return nil, errors.Join(found...)
	}
	return s.o.Store.Rotate(ctx, c.Key, relay.Secret(next), time.Duration(overlap), c.By)
}

// Tried is the answer of try: the request that a webhook would become, without what
// is secret of it.
type Tried struct {
	Method      string      `json:"method"`
	URL         string      `json:"url"` // the endpoint's without its query; the query is the template's
	ContentType string      `json:"content_type,omitempty"`
	Headers     http.Header `json:"headers,omitempty"` // the message's and the template's
	Body        string      `json:"body,omitempty"`
	BodyBase64  string      `json:"body_base64,omitempty"` // instead of body, if it is not UTF-8
	BodyBytes   int         `json:"body_bytes"`            // of the whole body
	BodyCut     bool        `json:"body_cut,omitempty"`    // only its beginning is shown
}

// shownBody is how much of a body an answer shows, in bytes. As JSON it may be six
// times as many, and must fit into one message.
const shownBody = 128 << 10

// try shapes a webhook as if it were sent. Nothing is sent, recorded or kept.
func (s *Service) try(ctx context.Context, r request) (any, error) {
	var template, payload, metadata json.RawMessage
	headers := map[string]secret{}
	w := relay.Webhook{ID: "msg_try", Method: http.MethodPost, ContentType: "application/json", Header: http.Header{}}
	c, err := s.one(ctx, r, map[string]any{
		"template": &template, "payload": &payload, "metadata": &metadata, "headers": &headers, "id": &w.ID,
		"event_type": &w.EventType, "method": &w.Method, "content_type": &w.ContentType,
	})
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		if err := relay.CheckRequestHeader(name, string(value)); err != nil {
			return nil, fmt.Errorf("headers: %w", err)
		}
		w.Header.Set(name, string(value))
	}
	w.Key, w.Tenant, w.EndpointName, w.EndpointKey = relay.NewKey(time.Now(), 1), c.Tenant, c.Name, c.Key
	w.URL, w.Body, w.Metadata = c.URL, payload, metadata
	known, _ := s.o.Store.o.Registry.ByKey(c.Key)
	shape := known.Shape
	if template != nil {
		if found := s.o.Store.checkTemplate(ctx, template); len(found) > 0 {
			return nil, errors.Join(found...)
		}
		shape = s.o.Store.shaper(template)
	}
	if t, ok := shape.(*compiled); ok && errors.Is(t.wait(ctx), relay.ErrNotReady) {
		return nil, failed("template: others are being compiled: ask again")
	}
	if shape != nil {
		if w, err = shape.Shape(w); err != nil {
			return nil, fmt.Errorf("template: %s", strings.TrimPrefix(err.Error(), "template: "))
		}
	}
	return tried(w), nil
}

func tried(w relay.Webhook) Tried {
	t := Tried{Method: w.Method, URL: w.URL, ContentType: w.ContentType, Headers: w.Header, BodyBytes: len(w.Body)}
	body := w.Body
	if t.BodyCut = len(body) > shownBody; t.BodyCut {
		body = body[:shownBody]
	}
	if utf8.Valid(w.Body) {
		t.Body = strings.ToValidUTF8(string(body), "") // a character that was cut
	} else {
		t.BodyBase64 = base64.StdEncoding.EncodeToString(body)
	}
	return t
}
