package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/relaywebhooks/relay"
)

// parse reads JSON. What is none is null; what is more than a template may look
// at is an error. It is measured before any memory is taken for it.
func parse(text []byte) (ref.Val, error) {
	if err := measure(text); err != nil {
		return nil, err
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if json.Valid(text) && d.Decode(&v) == nil {
		return value(v), nil
	}
	return types.NullValue, nil
}

// measure counts what JSON would hold. For what is no JSON it may say anything.
func measure(text []byte) error {
	values, depth, deepest, inString := 1, 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[', c == '{':
			depth++
			deepest = max(deepest, depth)
			values++
		case c == ']', c == '}':
			depth--
		case c == ',':
			values++
		}
	}
	switch {
	case values <= relay.MaxTemplateValues && deepest <= relay.MaxTemplateDepth, !json.Valid(text):
		return nil
	case values > relay.MaxTemplateValues:
		return refusal(fmt.Sprintf("the payload has more than %d values", relay.MaxTemplateValues))
	default:
		return refusal(fmt.Sprintf("the payload has more than %d lists and objects within each other", relay.MaxTemplateDepth))
	}
}

// value makes what CEL knows of what encoding/json has read.
func value(v any) ref.Val {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]ref.Val, len(v))
		for key, inner := range v {
			m[key] = value(inner)
		}
		return types.NewMap(types.DefaultTypeAdapter, m)
	case []any:
		list := make([]ref.Val, len(v))
		for i, inner := range v {
			list[i] = value(inner)
		}
		return types.NewRefValList(types.DefaultTypeAdapter, list)
	case json.Number:
		return number(v.String())
	case string:
		return types.String(v)
	case bool:
		return types.Bool(v)
	default:
		return types.NullValue
	}
}

// number keeps every digit of a whole number of 64 bits.
func number(text string) ref.Val {
	if !strings.ContainsAny(text, ".eE") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return types.Int(n)
		}
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return types.Uint(n)
		}
	}
	f, _ := strconv.ParseFloat(text, 64) // infinite where it is beyond what a double holds
	return types.Double(f)
}
