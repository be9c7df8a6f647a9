package template

import (
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/relaywebhooks/relay"
)

// variables is what the expressions know of a webhook.
type variables struct {
	w                 *relay.Webhook
	payload, metadata ref.Val
}

// variables reads of a webhook what the template needs.
func (t *template) variables(w relay.Webhook) (cel.Activation, error) {
	v := &variables{w: &w, payload: types.NullValue}
	var err error
	if t.needsPayload {
		if v.payload, err = parse(w.Body); err != nil {
			return nil, err
		}
	}
	if t.needsMetadata {
		if v.metadata, err = parse(w.Metadata); err != nil {
			return nil, err
		}
		if v.metadata == types.NullValue {
			v.metadata = types.NewMap(types.DefaultTypeAdapter, map[string]ref.Val{})
		}
	}
	return v, nil
}

// ResolveName is how CEL asks for a variable.
func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case "payload":
		return v.payload, true
	case "body":
		return types.String(strings.ToValidUTF8(string(v.w.Body), "\uFFFD")), true
	case "id":
		return types.String(v.w.ID), true
	case "event_type":
		return types.String(v.w.EventType), true
	case "tenant":
		return types.String(v.w.Tenant), true
	case "endpoint":
		return types.String(v.w.EndpointName), true
	case "metadata":
		return v.metadata, true
	case "accepted":
		return types.Timestamp{Time: v.w.Key.Time.UTC()}, true
	}
	return nil, false
}

// Parent says that there are no more.
func (*variables) Parent() cel.Activation { return nil }
