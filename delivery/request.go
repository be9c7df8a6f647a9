package delivery

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/signature"
)

// request makes the request. Everything in it was checked when the webhook was
// decoded, and is checked again here: this is the last door.
func (s *Sender) request(ctx context.Context, ep *relay.Endpoint, w *relay.Webhook, at time.Time) (*http.Request, error) {
	target, err := s.target(cmp.Or(w.URL, ep.URL))
	if err != nil {
		return nil, err
	}
	method := cmp.Or(w.Method, http.MethodPost)
	if err := checkMethod(method); err != nil {
		return nil, err
	}
	h, err := s.header(ep, w)
	if err != nil {
		return nil, err
	}
	if err := s.sign(h, ep, w, at); err != nil {
		return nil, err
	}
	if ep.TLS != nil && target.Scheme != "https" {
		return nil, &failure{class: classRequest, text: "the endpoint is registered with TLS settings, and its URL does not begin with https://"}
	}
	req := &http.Request{
		Method:        method,
		URL:           target,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        h.Header,
		Host:          target.Host,
		ContentLength: int64(len(w.Body)),
	}
	setBody(req, w.Body, ep.HTTP2)
	return req.WithContext(ctx), nil
}

func (s *Sender) target(raw string) (*url.URL, error) {
	u, err := relay.ParseURL(raw)
	if err != nil {
		return nil, refuse(err)
	}
	if s.options.HTTPSOnly && u.Scheme != "https" {
		return nil, &failure{class: classBlocked, text: u.Host + ": only https is called"}
	}
	return u, nil
}

func checkMethod(method string) error {
	if method == http.MethodPost {
		return nil
	}
	if method == http.MethodConnect || method == http.MethodTrace || relay.CheckRequestHeader(method, "") != nil {
		return &failure{class: classRequest, text: "a method that cannot be sent"}
	}
	return nil
}

// header is that of a request. The values that relay sets share one array; none
// of them is ever appended to.
type header struct {
	http.Header
	values []string
}

// ownHeaders is how many relay sets itself, but for a long trace.
const ownHeaders = 8

// set gives a header, in its canonical form or as it is to be written, its only
// value.
func (h *header) set(name, value string) {
	h.values = append(h.values, value)
	h.Header[name] = slices.Clip(h.values[len(h.values)-1:])
}

// header collects the headers. The endpoint's come after the webhook's, so
// that no producer can change what an operator has set, and relay's own last.
func (s *Sender) header(ep *relay.Endpoint, w *relay.Webhook) (*header, error) {
	h := &header{
		Header: make(http.Header, len(w.Header)+len(ep.Header)+ownHeaders),
		values: make([]string, 0, ownHeaders),
	}
	for _, extra := range []http.Header{w.Header, ep.Header} {
		if err := add(h.Header, extra); err != nil {
			return nil, err
		}
	}
	contentType := cmp.Or(w.ContentType, ep.ContentType)
	if contentType == "" && len(w.Body) > 0 {
		contentType = "application/json"
	}
	if contentType != "" {
		if err := checkValue("content type", contentType); err != nil {
			return nil, refuse(err)
		}
		h.set("Content-Type", contentType)
	}
	for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
		if v := w.Trace.Get(name); v != "" && checkValue("trace", v) == nil {
			h.set(name, v)
		}
	}
	h.set("User-Agent", s.options.UserAgent)
	h.set("Accept-Encoding", "identity")
	return h, nil
}

// add puts extra headers in place of those of the same name.
func add(h, extra http.Header) error {
	for name, values := range extra {
		for _, value := range values {
			if err := relay.CheckRequestHeader(name, value); err != nil {
				return refuse(err)
			}
		}
		h[http.CanonicalHeaderKey(name)] = values
	}
	return nil
}

// sign adds the three headers of Standard Webhooks, in lower case, as the
// specification writes them.
func (s *Sender) sign(h *header, ep *relay.Endpoint, w *relay.Webhook, at time.Time) error {
	if w.ID == "" || checkValue("webhook id", w.ID) != nil {
		return &failure{class: classRequest, text: "the webhook id is empty or cannot be sent"}
	}
	h.set(signature.HeaderID, w.ID)
	h.set(signature.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	signer := s.signer
	if len(ep.Secrets) > 0 {
		var err error
		if signer, err = newSigner(ep.Secrets); err != nil {
			return refuse(err)
		}
	}
	if signer == nil {
		return nil
	}
	list, err := signer.Sign(w.ID, at, w.Body)
	if err != nil {
		return refuse(err)
	}
	h.set(signature.HeaderSignature, list)
	return nil
}

// setBody gives the request its body in such a way that net/http never sends
// it twice. It repeats by itself, on another connection,
//
//   - what it knows that not a byte of was written: harmless, and worth having,
//     because a connection that went stale costs no attempt. It needs GetBody.
//   - a GET, HEAD or OPTIONS, and whatever carries an Idempotency-Key, if the
//     connection broke before an answer: never wanted. It needs GetBody or no
//     body at all. The header is refused; the methods get a body that cannot
//     be had again, even if it is empty.
//   - over HTTP/2, what the other end says that it did not process. It needs
//     the same, and is not wanted either: only the other end knows.
func setBody(req *http.Request, body []byte, mayBeHTTP2 bool) {
	once := mayBeHTTP2
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		once = true
	}
	if len(body) == 0 && !once {
		req.Body = http.NoBody
		return
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	if !once {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
}

// checkValue says whether a text may be the value of a header.
func checkValue(what, value string) error {
	if relay.CheckRequestHeader("X", value) != nil {
		return &failure{class: classRequest, text: "the " + what + " holds a line break or another control character"}
	}
	return nil
}

// refuse makes an error of another package, whose text holds no secret, the
// reason why a request cannot be made.
func refuse(err error) *failure { return &failure{class: classRequest, text: clean(err.Error())} }
