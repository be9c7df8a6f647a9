package main

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/admin"
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
	return t == reflect.TypeFor[relay.Secret]() || t == reflect.TypeFor[admin.Hash]() // where somebody may write the token itself
}

// settings returns every setting of a configuration, in the order of Config's
// fields and of the names of endpoints, headers and tokens.
func settings(c Config) []setting {
	var all []setting
	walk(reflect.ValueOf(c), nil, func(s setting) { all = append(all, s) })
	return all
}

// named is what people call their endpoints, tenants and tokens.
type named struct{ endpoints, tenants, tokens []string }

// keys returns the settings that exist, with those of all that is named.
func (n named) keys() []setting {
	c := Config{
		Endpoints: map[string]EndpointConfig{},
		Tenants:   TenantsConfig{Named: map[string]TenantConfig{}},
		Admin:     AdminConfig{Tokens: map[string]TokenConfig{}},
	}
	for _, name := range n.endpoints {
		c.Endpoints[name] = EndpointConfig{}
	}
	for _, name := range n.tenants {
		c.Tenants.Named[name] = TenantConfig{}
	}
	for _, name := range n.tokens {
		c.Admin.Tokens[name] = TokenConfig{}
	}
	return settings(c)
}

// nameIn returns the name that a path holds, if it is long enough to hold one.
func nameIn(path []string) (n named) {
	switch section := namedSection(path); {
	case section == 0 || len(path) <= section:
	case section == 1:
		n.endpoints = path[1:2]
	case path[0] == "tenants":
		n.tenants = path[2:3]
	default:
		n.tokens = path[2:3]
	}
	return n
}

// namedSection returns how long the path of the section is in which path lies and
// whose keys are names: endpoints, tenants.named and admin.tokens. 0 if it lies in
// none.
func namedSection(path []string) int {
	switch {
	case len(path) > 0 && path[0] == "endpoints":
		return 1
	case len(path) > 1 && (path[0] == "admin" && path[1] == "tokens" || path[0] == "tenants" && path[1] == "named"):
		return 2
	}
	return 0
}

func walk(v reflect.Value, path []string, visit func(setting)) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		here := append(slices.Clone(path), field.Tag.Get("koanf"))
		switch {
		case value.Kind() == reflect.Struct:
			walk(value, here, visit)
		case value.Kind() == reflect.Map && value.Type().Elem().Kind() == reflect.Struct:
			for _, name := range sortedNames(value) {
				walk(value.MapIndex(name), append(slices.Clone(here), name.String()), visit)
			}
		case value.Kind() == reflect.Map && value.Len() > 0: // headers
			for _, name := range sortedNames(value) {
				visit(setting{path: append(slices.Clone(here), name.String()), value: value.MapIndex(name)})
			}
		default:
			visit(setting{path: here, tag: field.Tag, value: value})
		}
	}
}

func sortedNames(m reflect.Value) []reflect.Value {
	return slices.SortedFunc(slices.Values(m.MapKeys()), func(a, b reflect.Value) int {
		return strings.Compare(a.String(), b.String())
	})
}

// find returns the setting that a path names. A header of an endpoint belongs to
// the setting headers.
func find(path []string) (setting, bool) {
	known := nameIn(path).keys()
	if len(path) == 4 && path[0] == "endpoints" && path[2] == "headers" {
		path = path[:3]
	}
	i := slices.IndexFunc(known, func(s setting) bool { return slices.Equal(s.path, path) })
	if i < 0 {
		return setting{}, false
	}
	return known[i], true
}

// isSection reports whether the path is above settings, and no setting itself.
func isSection(path []string) bool {
	if section := namedSection(path); section > 0 {
		return len(path) < section+2
	}
	return slices.ContainsFunc(named{}.keys(), func(s setting) bool {
		return len(s.path) > len(path) && slices.Equal(s.path[:len(path)], path)
	})
}

// split turns a dotted key into a path. The names of endpoints, tenants and tokens
// may contain dots.
func split(key string) []string {
	for _, section := range []string{"endpoints", "tenants.named", "admin.tokens"} {
		rest, inside := strings.CutPrefix(key, section+".")
		if !inside {
			continue
		}
		path := strings.Split(section, ".")
		if name, header, ok := strings.Cut(rest, ".headers."); ok && section == "endpoints" {
			return append(path, name, "headers", header)
		}
		if i := strings.LastIndex(rest, "."); i > 0 {
			return append(path, rest[:i], rest[i+1:])
		}
		return append(path, rest)
	}
	return strings.Split(key, ".")
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
