package template

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/relaywebhooks/relay"
)

const (
	errNumber  refusal = "infinity and NaN cannot be written as JSON"
	errKey     refusal = "a key of a map is no string"
	errJSON    refusal = "an optional value, a type or an error cannot be written as JSON; orValue gives an optional one a default"
	errText    refusal = "is neither a string nor a number, true, false or null"
	errHeader  refusal = "cannot be sent as a header"
	errURL     refusal = "makes a URL that is longer than 2,048 bytes"
	errHeaders refusal = "makes more than 50 headers or 8 KiB of them"
)

// appendJSON writes a value as JSON, up to relay.MaxBody bytes. A list in a list,
// again and again, ends there too: each of them writes something.
func appendJSON(b []byte, v ref.Val) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case types.Null:
		b = append(b, "null"...)
	case types.Bool:
		b = strconv.AppendBool(b, bool(v))
	case types.Int:
		b = strconv.AppendInt(b, int64(v), 10)
	case types.Uint:
		b = strconv.AppendUint(b, uint64(v), 10)
	case types.Double:
		b, err = appendDouble(b, float64(v))
	case types.String:
		b = appendString(b, string(v))
	case types.Bytes:
		b = appendString(b, base64.StdEncoding.EncodeToString(v))
	case types.Timestamp:
		b = appendString(b, v.UTC().Format(time.RFC3339Nano))
	case types.Duration:
		b = appendString(b, strconv.FormatFloat(v.Seconds(), 'f', -1, 64)+"s")
	case traits.Mapper:
		b, err = appendMap(b, v)
	case traits.Lister:
		b, err = appendList(b, v)
	default:
		return nil, errJSON
	}
	if err == nil && len(b) > relay.MaxBody {
		return nil, errLong
	}
	return b, err
}

func appendList(b []byte, list traits.Lister) (_ []byte, err error) {
	b = append(b, '[')
	for i, it := 0, list.Iterator(); it.HasNext() == types.True; i++ {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendJSON(b, it.Next()); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendMap(b []byte, m traits.Mapper) (_ []byte, err error) {
	names := []string{}
	for it := m.Iterator(); it.HasNext() == types.True; {
		name, ok := it.Next().(types.String)
		if !ok {
			return nil, errKey
		}
		names = append(names, string(name))
	}
	slices.Sort(names)
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		inner, _ := m.Find(types.String(name))
		if b, err = appendJSON(b, inner); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// appendDouble writes the shortest form that reads as the same number, as
// JavaScript does.
func appendDouble(b []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errNumber
	}
	form := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		form = 'e'
	}
	return strconv.AppendFloat(b, f, form, -1, 64), nil
}

// appendString writes a JSON string. Signs that mean something in HTML stay as they
// are; this is no HTML.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s { // what is no UTF-8 comes as U+FFFD
		switch {
		case r == '"', r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r == '\t':
			b = append(b, '\\', 't')
		case r < ' ', r == 0x7f, r == '\u2028', r == '\u2029':
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// plainText is a value for a header or a query; false for null, which sets none.
func plainText(v ref.Val) (text string, set bool, err error) {
	switch v := v.(type) {
	case types.Null:
		return "", false, nil
	case types.String:
		return strings.ToValidUTF8(string(v), "\uFFFD"), true, nil
	case types.Bool, types.Int, types.Uint, types.Double:
		b, err := appendJSON(nil, v)
		return string(b), true, err
	case types.Timestamp:
		return v.UTC().Format(time.RFC3339Nano), true, nil
	}
	return "", false, errText
}
