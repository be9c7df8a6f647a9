package endpoint

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/relaywebhooks/relay"
)

// settings are those of one endpoint, as they stand in JSON: in a request, in an
// answer and in the table. A secret is written out in a request, hidden in an
// answer and sealed in the table; [settings.secrets] finds all of them.
type settings struct {
	Tenant   string `json:"tenant,omitempty"`
	Name     string `json:"name,omitempty"`
	URL      string `json:"url,omitempty"`   // in the table a column, without its query
	Query    secret `json:"query,omitempty"` // in the table only: what follows the ? of the URL
	Revision int64  `json:"revision,omitempty"`

	Secrets     []signing         `json:"secrets,omitempty"`
	Headers     map[string]secret `json:"headers,omitempty"`
	Basic       *basic            `json:"basic,omitempty"`
	Bearer      secret            `json:"bearer,omitempty"`
	ContentType string            `json:"content_type,omitempty"`
	HTTP2       bool              `json:"http2,omitempty"`
	CA          string            `json:"ca,omitempty"`
	Certificate string            `json:"certificate,omitempty"`
	Key         secret            `json:"key,omitempty"`

	Timeout      duration        `json:"timeout,omitempty"`
	Rate         float64         `json:"rate,omitempty"`
	Burst        int             `json:"burst,omitempty"`
	Concurrency  int             `json:"concurrency,omitempty"`
	Schedule     []duration      `json:"schedule,omitempty"`
	MaxAttempts  int             `json:"max_attempts,omitempty"`
	SuccessCodes codes           `json:"success_codes,omitempty"`
	Template     json.RawMessage `json:"template,omitempty"`
	Heed         bool            `json:"heed,omitempty"`
}

// signing is a secret that signs, always or until it has been replaced.
type signing struct {
	Secret secret    `json:"secret"`
	Until  time.Time `json:"until,omitzero"`
}

// basic is what HTTP basic authentication needs.
type basic struct {
	User     string `json:"user"`
	Password secret `json:"password"`
}

// Format hides all of it, for the reason that [relay.TLS] has to.
func (basic) Format(to fmt.State, _ rune) { _, _ = to.Write([]byte(hidden)) }

// secrets calls do for every secret, with the field that it stands in. do may
// change it.
func (s *settings) secrets(do func(field string, value *secret) error) error {
	var faults []error
	visit := func(field string, value *secret) {
		if *value == "" {
			return
		}
		if err := do(field, value); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", field, err))
		}
	}
	visit("query", &s.Query)
	for i := range s.Secrets {
		visit("secrets", &s.Secrets[i].Secret)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		value := s.Headers[name]
		visit("headers."+name, &value)
		s.Headers[name] = value
	}
	if s.Basic != nil {
		visit("basic.password", &s.Basic.Password)
	}
	visit("bearer", &s.Bearer)
	visit("key", &s.Key)
	return errors.Join(faults...)
}

// clone is a copy whose secrets can be changed.
func (s *settings) clone() settings {
	c := *s
	c.Secrets, c.Headers = slices.Clone(s.Secrets), maps.Clone(s.Headers)
	if s.Basic != nil {
		c.Basic = new(*s.Basic)
	}
	return c
}

// shown is a copy without any secret, for people.
func (s *settings) shown() settings {
	c := s.clone()
	_ = c.secrets(func(_ string, value *secret) error {
		*value = hidden
		return nil
	})
	if c.Query != "" {
		c.URL, c.Query = c.URL+"?"+hidden, ""
	}
	return c
}

// keep puts the old secrets in the place of those that were shown as hidden: of the
// secrets that sign the first such one means the first of the old, and so on. may
// says whether they may be kept; its error is a fault of each that would be.
func (s *settings) keep(old settings, may error) (kept int, err error) {
	known := map[string][]secret{}
	_ = old.secrets(func(field string, value *secret) error {
		known[field] = append(known[field], *value)
		return nil
	})
	err = s.secrets(func(field string, value *secret) error {
		switch {
		case *value != hidden:
			return nil
		case len(known[field]) == 0:
			return fmt.Errorf("%s stands for a secret that is not there: write it out", hidden)
		case may != nil:
			return may
		}
		*value, known[field] = known[field][0], known[field][1:]
		kept++
		return nil
	})
	return kept, err
}

// expired returns the settings without the secrets that have been replaced, and
// when the next one will be; zero if none will.
func (s *settings) expired(now time.Time) (left settings, next time.Time) {
	left = *s
	left.Secrets = nil
	for _, one := range s.Secrets {
		if !one.Until.IsZero() && !now.Before(one.Until) {
			continue
		}
		if next.IsZero() || !one.Until.IsZero() && one.Until.Before(next) {
			next = one.Until
		}
		left.Secrets = append(left.Secrets, one)
	}
	return left, next
}

// endpoint is what relay's other packages see of the settings.
func (s *settings) endpoint() relay.Endpoint {
	ep := relay.Endpoint{
		Key: nameKey(s.Tenant, s.Name), Tenant: s.Tenant, Name: s.Name, URL: s.URL,
		Timeout: time.Duration(s.Timeout), Concurrency: s.Concurrency, Rate: s.Rate, Burst: s.Burst,
		MaxAttempts: s.MaxAttempts, SuccessCodes: s.SuccessCodes, ContentType: s.ContentType, HTTP2: s.HTTP2, Heed: s.Heed,
	}
	if s.Query != "" {
		ep.URL += "?" + string(s.Query)
	}
	for _, one := range s.Secrets {
		ep.Secrets = append(ep.Secrets, relay.Secret(one.Secret))
	}
	for _, d := range s.Schedule {
		ep.Schedule = append(ep.Schedule, time.Duration(d))
	}
	if s.CA != "" || s.Certificate != "" || s.Key != "" {
		ep.TLS = &relay.TLS{Authorities: pemOf(s.CA), Certificate: pemOf(s.Certificate), Key: relay.Secret(s.Key)}
	}
	ep.Header = s.header()
	return ep
}

func (s *settings) header() http.Header {
	if len(s.Headers) == 0 && s.Basic == nil && s.Bearer == "" {
		return nil
	}
	h := http.Header{}
	for name, value := range s.Headers {
		h.Set(name, string(value))
	}
	switch {
	case s.Basic != nil:
		pair := s.Basic.User + ":" + string(s.Basic.Password)
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	case s.Bearer != "":
		h.Set("Authorization", "Bearer "+string(s.Bearer))
	}
	return h
}

func pemOf(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

// hidden stands for a secret wherever settings are shown.
const hidden = "[hidden]"

// secret is part of an endpoint's settings. It prints as [hidden]; only JSON has
// it as it is.
type secret string

// String hides the secret.
func (secret) String() string { return hidden }

// Format hides the secret from every verb of fmt: %d would show a mere Stringer.
func (secret) Format(to fmt.State, _ rune) { _, _ = to.Write([]byte(hidden)) }

// duration is a time.Duration, written with a unit.
type duration time.Duration

// UnmarshalJSON reads a text such as "30s" or "2d".
func (d *duration) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return errors.New(`is not a duration; write it with a unit, such as "30s", "5m" or "2d"`)
	}
	parsed, err := relay.ParseDuration(text)
	*d = duration(parsed)
	return err
}

// MarshalJSON writes what UnmarshalJSON reads.
func (d duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(relay.FormatDuration(time.Duration(d)))
}

// codes are the status codes that mean delivered.
type codes []relay.CodeRange

// UnmarshalJSON reads a text such as "200-299,304", one code, or a list of either.
func (c *codes) UnmarshalJSON(raw []byte) error {
	var one any
	_ = json.Unmarshal(raw, &one) // the decoder has seen that it is JSON
	list, isList := one.([]any)
	if !isList {
		list = []any{one}
	}
	parts := make([]string, len(list))
	for i, part := range list {
		parts[i] = fmt.Sprint(part)
	}
	parsed, err := relay.ParseCodes(strings.Join(parts, ","))
	*c = parsed
	return err
}

// MarshalJSON writes what UnmarshalJSON reads.
func (c codes) MarshalJSON() ([]byte, error) { return json.Marshal(relay.FormatCodes(c)) }

// UnmarshalJSON reads a secret alone, or an object with its end.
func (s *signing) UnmarshalJSON(raw []byte) error {
	*s = signing{}
	if json.Unmarshal(raw, &s.Secret) == nil {
		return nil
	}
	type object signing
	if strictly(raw, (*object)(s)) != nil || s.Secret == "" {
		return errors.New(`each must be a text, or {"secret": …, "until": …} with a time in RFC 3339`)
	}
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (s signing) MarshalJSON() ([]byte, error) {
	if s.Until.IsZero() {
		return json.Marshal(string(s.Secret))
	}
	type object signing
	return json.Marshal(object(s))
}
