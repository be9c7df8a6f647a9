package main

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/v2"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/policy"
)

// decode turns the merged layers into the configuration. koanf's own decoder
// would read "timeout: 30" as 30 nanoseconds and cut a number that is too large;
// strict takes nothing that is not plainly meant.
//
// A key that is faulty is put back to its default, so that the rest can be read
// and checked: mapstructure leaves out a whole endpoint for one bad field.
func (l *loader) decode() {
	for range 2 {
		l.Config = Default()
		errs := each(l.unmarshal())
		for _, e := range errs {
			f := l.decodeFault(e)
			l.faults = append(l.faults, f)
			l.k.Delete(strings.Join(split(f.Key), delim))
		}
		if len(errs) == 0 {
			return
		}
	}
}

func (l *loader) unmarshal() error {
	return l.k.UnmarshalWithConf("", &l.Config, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		Result:      &l.Config,
		TagName:     "koanf",
		MatchName:   func(key, field string) bool { return key == field },
		ErrorUnused: true,
		DecodeHook:  mapstructure.DecodeHookFuncType(strict),
	}})
}

// each returns the errors that an error joins.
func each(err error) []error {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		if err == nil {
			return nil
		}
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, each(e)...)
	}
	return all
}

var (
	item  = regexp.MustCompile(`\[([0-9]+)\]$`)
	index = regexp.MustCompile(`\[([^\]]*)\]`)
)

// decodeFault finds the key that an error of mapstructure is about. The name
// endpoints[acme].schedule[1] is item 2 of endpoints.acme.schedule.
func (l *loader) decodeFault(err error) Fault {
	de, ok := errors.AsType[*mapstructure.DecodeError](err)
	if !ok {
		return Fault{Problem: err.Error()}
	}
	name, problem := de.Name(), plain(de.Unwrap())
	if m := item.FindStringSubmatch(name); m != nil {
		n, _ := strconv.Atoi(m[1])
		name, problem = strings.TrimSuffix(name, m[0]), fmt.Sprintf("item %d %s", n+1, problem)
	}
	key := index.ReplaceAllString(name, ".$1")
	path := split(key)
	return Fault{
		Key: key, Origin: l.origin(key), Problem: problem,
		Value: shown(path, l.k.Get(strings.Join(path, delim))),
	}
}

// plain says in relay's words what strict left to mapstructure.
func plain(err error) string {
	if e, ok := errors.AsType[*mapstructure.UnconvertibleTypeError](err); ok {
		return fmt.Sprintf("cannot be made of %T", e.Value)
	}
	return err.Error()
}

// shown is a value as it was written, for a fault; never a secret.
func shown(path []string, raw any) string {
	s, known := find(path)
	switch {
	case !known, raw == nil:
		return ""
	case s.secret():
		return "[hidden]"
	}
	if str, ok := raw.(string); ok && s.value.Kind() == reflect.String {
		return show(text(reflect.ValueOf(str).Convert(s.value.Type())))
	}
	return show(fmt.Sprint(raw))
}

// standard names policy.StandardSchedule, where a list of waits is wanted.
const standard = "standard"

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// strict prepares a value for its field, or says what is wrong with it.
// Variables and flags bring strings for every type; a file brings typed values.
func strict(from, to reflect.Type, value any) (any, error) {
	if s, ok := value.(string); ok && (!utf8.ValidString(s) || strings.ContainsRune(s, 0)) {
		return nil, errors.New("is not valid UTF-8 text")
	}
	if s, ok := value.(string); ok && to == reflect.TypeFor[[]time.Duration]() && strings.TrimSpace(s) == standard {
		return policy.StandardSchedule(), nil
	}
	switch {
	case from == to && to.Kind() == reflect.Struct: // part of what strictText has made
		return value, nil
	case to == reflect.TypeFor[time.Duration]():
		return strictDuration(value)
	case reflect.PointerTo(to).Implements(textType):
		return strictText(to, value)
	case to == reflect.TypeFor[[]relay.Secret]():
		return strictSecrets(value)
	}
	switch to.Kind() {
	case reflect.Int:
		return strictInt(value)
	case reflect.Float64:
		return strictFloat(value)
	case reflect.Bool:
		return strictBool(value)
	case reflect.String:
		if _, ok := value.(string); !ok {
			return nil, errors.New("must be text: write it in quotes")
		}
	case reflect.Slice:
		return strictList(value)
	case reflect.Map, reflect.Struct:
		if _, ok := value.(map[string]any); !ok {
			return nil, errors.New("must be a section with keys below it")
		}
	default:
	}
	return value, nil
}

func strictDuration(value any) (any, error) {
	switch x := value.(type) {
	case time.Duration:
		return x, nil
	case string:
		return parseDuration(x)
	default:
		return nil, errors.New("is not a duration; write it with a unit, such as 30s, 5m or 2d")
	}
}

// strictText hands values to types that read themselves. A list is allowed where
// the type is one, and a bare number, as in success_codes: 204.
func strictText(to reflect.Type, value any) (any, error) {
	var s string
	switch x := value.(type) {
	case string:
		s = strings.TrimSpace(x)
	case int:
		s = strconv.Itoa(x)
	case []any:
		if to.Kind() != reflect.Slice {
			return nil, errors.New("must be one value, not a list")
		}
		parts := make([]string, len(x))
		for i, part := range x {
			parts[i] = fmt.Sprint(part)
		}
		s = strings.Join(parts, ",")
	default:
		if reflect.TypeOf(value) == to {
			return value, nil
		}
		return nil, errors.New("must be text: write it in quotes")
	}
	p := reflect.New(to)
	err := p.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)) //nolint:forcetypeassert // strict has looked
	if err != nil && to == reflect.TypeFor[netip.Prefix]() {
		return nil, fmt.Errorf("%q is not a network; write it as 10.1.0.0/16", s)
	}
	if err != nil {
		return nil, err
	}
	return p.Elem().Interface(), nil
}

func strictInt(value any) (any, error) {
	switch x := value.(type) {
	case int:
		return x, nil
	case string:
		if n, err := strconv.Atoi(strings.TrimSpace(x)); err == nil {
			return n, nil
		}
	}
	return nil, errors.New("must be a whole number")
}

func strictFloat(value any) (any, error) {
	f := math.NaN()
	switch x := value.(type) {
	case int:
		f = float64(x)
	case float64:
		f = x
	case string:
		if n, err := strconv.ParseFloat(strings.TrimSpace(x), 64); err == nil {
			f = n
		}
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errors.New("must be a number")
	}
	return f, nil
}

func strictBool(value any) (any, error) {
	switch x := value.(type) {
	case bool:
		return x, nil
	case string:
		if b, err := strconv.ParseBool(strings.TrimSpace(x)); err == nil {
			return b, nil
		}
	}
	return nil, errors.New("must be true or false")
}

// strictList splits the text that variables and flags bring.
func strictList(value any) (any, error) {
	switch x := value.(type) {
	case []any:
		return x, nil
	case string:
		list := []any{}
		for part := range strings.SplitSeq(x, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		return list, nil
	default:
		return nil, errors.New("must be a list")
	}
}

// strictSecrets keeps the gaps that strictList leaves out, so that each is a
// fault: a variable that nobody set must not make relay sign with fewer secrets,
// or not at all.
func strictSecrets(value any) (any, error) {
	text, ok := value.(string)
	if !ok {
		return strictList(value)
	}
	list := []any{}
	for part := range strings.SplitSeq(text, ",") {
		list = append(list, strings.TrimSpace(part))
	}
	return list, nil
}
