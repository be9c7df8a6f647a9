package main

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/relaywebhooks/relay"
)

// setting is one key of the configuration and its value. The whole shape of the
// configuration is read off the type Config: there is no second list of keys.
type setting struct {
	path  []string // {"delivery", "timeout"}
	tag   reflect.StructTag
	value reflect.Value
}

// key returns the dotted name that people write.
func (s setting) key() string { return strings.Join(s.path, ".") }

// secret reports whether the value must not be shown.
func (s setting) secret() bool {
	t := s.value.Type()
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t == reflect.TypeFor[relay.Secret]()
}

// settings returns every setting of a configuration, in the order of Config's
// fields and of the names of endpoints and headers.
func settings(c Config) []setting {
	var all []setting
	walk(reflect.ValueOf(c), nil, func(s setting) { all = append(all, s) })
	return all
}

// keys returns the settings that exist, with those of each of the named endpoints.
func keys(endpoints ...string) []setting {
	c := Config{Endpoints: map[string]EndpointConfig{}}
	for _, name := range endpoints {
		c.Endpoints[name] = EndpointConfig{}
	}
	return settings(c)
}

func walk(v reflect.Value, path []string, visit func(setting)) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		here := append(slices.Clone(path), field.Tag.Get("koanf"))
		switch {
		case value.Kind() == reflect.Struct:
			walk(value, here, visit)
		case value.Kind() == reflect.Map && value.Type().Elem().Kind() == reflect.Struct:
			entries := value.Interface().(map[string]EndpointConfig) //nolint:forcetypeassert // the only such map
			for _, name := range slices.Sorted(maps.Keys(entries)) {
				walk(reflect.ValueOf(entries[name]), append(slices.Clone(here), name), visit)
			}
		case value.Kind() == reflect.Map && value.Len() > 0:
			headers := value.Interface().(map[string]relay.Secret) //nolint:forcetypeassert // the only other map
			for _, name := range slices.Sorted(maps.Keys(headers)) {
				visit(setting{path: append(slices.Clone(here), name), value: reflect.ValueOf(headers[name])})
			}
		default:
			visit(setting{path: here, tag: field.Tag, value: value})
		}
	}
}

// find returns the setting that a path names. A header of an endpoint belongs to
// the setting headers.
func find(path []string) (setting, bool) {
	var known []setting
	if len(path) > 2 && path[0] == "endpoints" {
		known = keys(path[1])
		if path[2] == "headers" && len(path) == 4 {
			path = path[:3]
		}
	} else {
		known = keys()
	}
	i := slices.IndexFunc(known, func(s setting) bool { return slices.Equal(s.path, path) })
	if i < 0 {
		return setting{}, false
	}
	return known[i], true
}

// isSection reports whether the path is above settings, and no setting itself.
func isSection(path []string) bool {
	if path[0] == "endpoints" {
		return len(path) < 3
	}
	return slices.ContainsFunc(keys(), func(s setting) bool {
		return len(s.path) > len(path) && slices.Equal(s.path[:len(path)], path)
	})
}

// split turns a dotted key into a path. The name of an endpoint may contain dots.
func split(key string) []string {
	rest, isEndpoint := strings.CutPrefix(key, "endpoints.")
	if !isEndpoint {
		return strings.Split(key, ".")
	}
	if name, header, ok := strings.Cut(rest, ".headers."); ok {
		return []string{"endpoints", name, "headers", header}
	}
	if i := strings.LastIndex(rest, "."); i > 0 {
		return []string{"endpoints", rest[:i], rest[i+1:]}
	}
	return []string{"endpoints", rest}
}

// variable returns the environment variable that sets a key.
func variable(key string) string {
	return envPrefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// text writes a value as it would be written to set it, secrets hidden.
func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case relay.Secret:
		if x == "" {
			return ""
		}
		return x.String()
	case time.Duration:
		return formatDuration(x)
	case netip.Prefix:
		return x.String()
	case fmt.Stringer:
		return x.String()
	}
	if v.Kind() == reflect.Slice {
		items := make([]string, v.Len())
		for i := range items {
			items[i] = text(v.Index(i))
		}
		return strings.Join(items, ",")
	}
	return fmt.Sprint(v.Interface())
}
