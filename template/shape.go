package template

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/relaywebhooks/relay"
)

// template is a relay.Shaper.
type template struct {
	*engine
	body           *expression // nil: it stays
	contentType    string
	headers, query []part

	needsPayload, needsMetadata bool
}

// part is one header or one parameter of the query.
type part struct {
	name string
	*expression
}

// Shape evaluates the template for one webhook. What takes too long is tried a
// second time: a process that was paused meanwhile must not be what an event
// dies of.
func (t *template) Shape(w relay.Webhook) (shaped relay.Webhook, err error) {
	t.turns <- struct{}{}
	defer func() {
		<-t.turns
		if p := recover(); p != nil { // its text may hold a part of the webhook
			shaped, err = w, &Fault{Problem: fmt.Sprintf("relay could not evaluate it (%T)", p)}
		}
	}()
	vars, err := t.variables(w)
	if err != nil {
		return w, &Fault{Problem: err.Error()}
	}
	for range 2 {
		shaped, err = t.shape(w, vars)
		if fault, failed := errors.AsType[*Fault](err); !failed || !fault.late {
			break
		}
	}
	if err != nil {
		return w, err
	}
	return shaped, nil
}

func (t *template) shape(w relay.Webhook, vars cel.Activation) (relay.Webhook, error) {
	ctx, cancel := context.WithTimeout(context.Background(), relay.MaxTemplateTime)
	defer cancel()
	r := run{ctx: ctx, vars: vars, left: relay.MaxTemplateCost}
	if t.body != nil {
		v, err := r.eval(t.body)
		if err != nil {
			return w, err
		}
		if w.Body, w.ContentType, err = content(v); err != nil {
			return w, t.body.fault(err, 0)
		}
	}
	if t.contentType != "" {
		w.ContentType = t.contentType
	}
	var err error
	if w.Header, err = t.header(&r, w.Header); err != nil {
		return w, err
	}
	w.URL, err = t.url(&r, w.URL)
	return w, err
}

// content is a body with its type.
func content(v ref.Val) (body []byte, mediaType string, err error) {
	switch v := v.(type) {
	case types.String:
		body, mediaType = []byte(strings.ToValidUTF8(string(v), "\uFFFD")), "text/plain; charset=utf-8"
	case types.Bytes:
		body, mediaType = []byte(v), "application/octet-stream"
	default:
		body, err = appendJSON(nil, v)
		mediaType = "application/json"
	}
	if len(body) > relay.MaxBody {
		err = errLong
	}
	return body, mediaType, err
}

// header sets the template's headers among the producer's.
func (t *template) header(r *run, have http.Header) (http.Header, error) {
	if len(t.headers) == 0 {
		return have, nil
	}
	h := have.Clone()
	if h == nil {
		h = make(http.Header, len(t.headers))
	}
	for _, p := range t.headers {
		text, set, err := r.text(p)
		if err != nil {
			return nil, err
		}
		if !set {
			continue
		}
		if relay.CheckRequestHeader(p.name, text) != nil {
			return nil, p.fault(errHeader, 0)
		}
		h[http.CanonicalHeaderKey(p.name)] = []string{text}
	}
	count, size := 0, 0
	for name, values := range h {
		for _, v := range values {
			count++
			size += len(name) + len(v)
		}
	}
	if count > relay.MaxHeaders || size > relay.MaxHeaderBytes {
		return nil, &Fault{Field: "headers", Problem: string(errHeaders)}
	}
	return h, nil
}

// url appends the template's parameters.
func (t *template) url(r *run, to string) (string, error) {
	if len(t.query) == 0 {
		return to, nil
	}
	var b strings.Builder
	b.WriteString(to)
	join := byte('?')
	if strings.Contains(to, "?") {
		join = '&'
	}
	for _, p := range t.query {
		text, set, err := r.text(p)
		if err != nil {
			return "", err
		}
		if !set {
			continue
		}
		if b.Len()+len(p.name)+len(text) > relay.MaxURL {
			return "", p.fault(errURL, 0)
		}
		if !strings.HasSuffix(b.String(), "?") {
			b.WriteByte(join)
		}
		join = '&'
		b.WriteString(url.QueryEscape(p.name) + "=" + url.QueryEscape(text))
	}
	if b.Len() > relay.MaxURL {
		return "", &Fault{Field: "query", Problem: string(errURL)}
	}
	return b.String(), nil
}

// run is one evaluation of all the expressions of a template.
type run struct {
	ctx  context.Context //nolint:containedctx // it lives no longer than the call of shape
	vars cel.Activation
	left uint64 // of relay.MaxTemplateCost
}

// text evaluates what becomes a header or a parameter.
func (r *run) text(p part) (text string, set bool, err error) {
	v, err := r.eval(p.expression)
	if err != nil {
		return "", false, err
	}
	if text, set, err = plainText(v); err != nil {
		return "", false, p.fault(err, 0)
	}
	return text, set, nil
}

func (r *run) eval(x *expression) (ref.Val, error) {
	v, details, err := x.program.ContextEval(r.ctx, r.vars)
	if errors.Is(err, interpreter.InterruptError{}) {
		err = context.DeadlineExceeded
	}
	if err != nil {
		return nil, x.fault(err, nodeOf(err))
	}
	if c := details.ActualCost(); c != nil {
		if *c > r.left {
			return nil, x.fault(errCost, 0)
		}
		r.left -= *c
	}
	return v, nil
}

func nodeOf(err error) int64 {
	if e, ok := errors.AsType[*types.Err](err); ok {
		return e.NodeID()
	}
	return 0
}

var errCost = interpreter.EvalCancelledError{Cause: interpreter.CostLimitExceeded}

// fault says what went wrong where, in words that hold nothing of the webhook:
// CEL's own like to quote what they could not use.
func (x *expression) fault(err error, node int64) error {
	where := ""
	if at := x.ast.SourceInfo().GetStartLocation(node); node != 0 && at.Line() > 0 {
		where = fmt.Sprintf("line %d, column %d: ", at.Line(), at.Column()+1)
	}
	return &Fault{Field: clip(x.field), Problem: where + x.reason(err), late: errors.Is(err, context.DeadlineExceeded)}
}

func (x *expression) reason(err error) string {
	if r, ok := errors.AsType[refusal](err); ok {
		return string(r)
	}
	if e, ok := errors.AsType[interpreter.EvalCancelledError](err); ok && e.Cause == interpreter.CostLimitExceeded {
		return fmt.Sprintf("takes more work than a template may (%d units)", relay.MaxTemplateCost)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("takes longer than %s", relay.MaxTemplateTime)
	}
	text := err.Error()
	if key, ok := strings.CutPrefix(text, "no such key: "); ok {
		return "there is no such key" + x.known(key) + "; has() asks whether there is one, and .? goes on without"
	}
	for _, known := range knownReasons {
		if strings.HasPrefix(text, known.begins) {
			return known.says
		}
	}
	return "cannot be evaluated: it gets a value that it cannot use"
}

// knownReasons are CEL's errors by how they begin.
var knownReasons = []struct{ begins, says string }{
	{"no such overload", "an operator or a function gets a type that it does not know"},
	{"no such attribute", "there is no such variable"},
	{"index", "there is no such index in the list"},
	{"invalid_argument", "there is no such index in the list"},
	{"division by zero", "divides by zero"},
	{"modulus by zero", "divides by zero"},
	{"integer overflow", "a number is too large"},
	{"unsigned integer overflow", "a number is too large"},
	{"duration overflow", "a duration is too long"},
	{"timestamp overflow", "a moment is too far away"},
	{"optional.none()", "an optional value is not there; orValue gives it a default"},
}

// known returns a key if it stands in the template as .key: then it is none of the
// webhook's secrets.
func (x *expression) known(key string) (shown string) {
	ast.PostOrderVisit(x.ast.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.SelectKind && e.AsSelect().FieldName() == key {
			shown = " as " + clip(key)
		}
	}))
	return shown
}
