package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// text makes a string fit for a text column, which takes neither bytes that
// are no UTF-8 nor NUL, and cuts it to limit bytes.
func text(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	return s
}

// plain keeps the printable ASCII of a string, for rows that were refused.
func plain(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), limit)]
}

// secretHeaders are parts of the names of headers that are stored without their
// values: whoever reads the log need not be able to act for the producer or the
// receiver.
var secretHeaders = []string{"authorization", "cookie", "token", "secret", "password", "api-key", "apikey", "credential"}

func isSecret(header string) bool {
	name := strings.ToLower(header)
	return slices.ContainsFunc(secretHeaders, func(part string) bool { return strings.Contains(name, part) })
}

// headerJSON returns headers as a JSON object of lists that jsonb takes.
func headerJSON(h http.Header) string {
	if len(h) == 0 {
		return "{}"
	}
	clean := make(map[string][]string, len(h))
	for name, values := range h {
		if isSecret(name) {
			clean[text(name, maxText)] = []string{"[hidden]"}
			continue
		}
		vs := make([]string, len(values))
		for i, v := range values {
			vs[i] = text(v, maxText)
		}
		clean[text(name, maxText)] = vs
	}
	out, err := json.Marshal(clean)
	if err != nil {
		return "{}" // cannot be: strings only
	}
	return string(out)
}

// jsonText returns JSON that jsonb takes, or "" if raw is none. jsonb knows no
// NUL and no half of a surrogate pair, which JSON can write as escapes.
func jsonText(raw []byte) string {
	if len(raw) == 0 || !json.Valid(raw) {
		return ""
	}
	if !bytes.Contains(raw, []byte(`\u`)) {
		return text(string(raw), math.MaxInt)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return ""
	}
	out, err := json.Marshal(cleanJSON(v))
	if err != nil {
		return ""
	}
	return string(out)
}

func cleanJSON(v any) any {
	switch v := v.(type) {
	case string:
		return text(v, math.MaxInt)
	case []any:
		for i := range v {
			v[i] = cleanJSON(v[i])
		}
	case map[string]any:
		clean := make(map[string]any, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) { // of names that become one, always the same counts
			clean[text(k, math.MaxInt)] = cleanJSON(v[k])
		}
		return clean
	}
	return v
}

// clamp makes a number fit for an integer column.
func clamp(n int) int32 { return int32(min(max(n, math.MinInt32), math.MaxInt32)) }

func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return "Postgres refused the row (SQLSTATE " + e.Code + ")"
	}
	return "Postgres refused the row"
}
