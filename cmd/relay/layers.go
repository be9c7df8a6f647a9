package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	koanfyaml "github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"
)

const (
	envPrefix = "RELAY_"
	envConfig = "RELAY_CONFIG"
	// delim joins paths inside koanf. It is no dot, because the names of
	// endpoints and headers may contain dots.
	delim = "/"

	originDefault = "default"
	originSet     = "--set"
)

// sources says where a configuration comes from; later ones win.
type sources struct {
	file    string   // a YAML file, or "" for the one that RELAY_CONFIG names
	environ []string // "NAME=value", as os.Environ gives it
	set     []string // "key=value"
}

// loaded is a configuration, and where each of its values comes from.
type loaded struct {
	Config
	origins map[string]string // by key; what is missing is a default
	anyPort bool              // receivers may listen anywhere: relay dev only
}

// origin returns where the value of a key comes from.
func (l loaded) origin(key string) string {
	if o, ok := l.origins[key]; ok {
		return o
	}
	return originDefault
}

// load reads all sources and returns the configuration, or [Faults] with
// everything that is wrong with it.
func load(from sources) (loaded, error) {
	l := loader{k: koanf.New(delim), loaded: loaded{Config: Default(), origins: map[string]string{}}}
	if file := from.path(); file != "" {
		l.file(file)
	}
	l.environ(from.environ)
	l.flags(from.set)
	l.decode()
	l.faults = append(l.faults, l.check(l.faults)...)
	return l.loaded, l.faults.err()
}

// path returns the configuration file's name, or "" if there is none.
func (s sources) path() string {
	if s.file != "" {
		return s.file
	}
	for _, e := range s.environ {
		if file, ok := strings.CutPrefix(e, envConfig+"="); ok {
			return file
		}
	}
	return ""
}

type loader struct {
	loaded
	k      *koanf.Koanf
	faults Faults
}

func (l *loader) fault(key, origin, problem string, a ...any) {
	l.faults = append(l.faults, Fault{Key: key, Origin: origin, Problem: fmt.Sprintf(problem, a...)})
}

// file loads the YAML file.
func (l *loader) file(name string) {
	b, err := os.ReadFile(name)
	if err != nil {
		l.fault("", "", "the configuration file cannot be read: %s", err)
		return
	}
	if i := bytes.IndexFunc(b, func(r rune) bool { return r == utf8.RuneError }); i >= 0 && !utf8.Valid(b) {
		l.fault("", fmt.Sprintf("%s:%d", name, 1+bytes.Count(b[:i], []byte("\n"))), "the text is not valid UTF-8")
		return
	}
	lines, err := keyLines(b)
	if err != nil {
		l.fault("", name, "%s", err)
		return
	}
	l.layer(rawbytes.Provider(b), koanfyaml.Parser(), func(path []string) string {
		for ; len(path) > 0; path = path[:len(path)-1] { // a key that an alias brought has its parent's line
			if line, ok := lines[strings.Join(path, delim)]; ok {
				return fmt.Sprintf("%s:%d", name, line)
			}
		}
		return name
	})
}

// keyLines finds the line of every key. It refuses a second document, which the
// decoder would not read.
func keyLines(b []byte) (map[string]int, error) {
	d := yaml.NewDecoder(bytes.NewReader(b))
	var root yaml.Node
	if err := d.Decode(&root); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the file must hold one YAML document only")
	}
	lines := map[string]int{}
	if len(root.Content) > 0 {
		noteLines(root.Content[0], nil, lines)
	}
	return lines, nil
}

func noteLines(n *yaml.Node, path []string, lines map[string]int) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		here := append(slices.Clone(path), n.Content[i].Value)
		lines[strings.Join(here, delim)] = n.Content[i].Line
		noteLines(n.Content[i+1], here, lines)
	}
}

// environ loads the variables that begin with RELAY_. Which key each one sets is
// known, not guessed: keys have underscores too.
func (l *loader) environ(environ []string) {
	byName := map[string][]setting{}
	var names []string
	known := named{
		endpoints: l.k.MapKeys("endpoints"),
		tenants:   l.k.MapKeys("tenants" + delim + "named"), tokens: l.k.MapKeys("admin" + delim + "tokens"),
	}
	for _, s := range known.keys() {
		name := variable(s.key())
		byName[name] = append(byName[name], s)
		names = append(names, name)
	}
	l.layer(env.Provider(delim, env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			switch known := byName[name]; {
			case name == envConfig, strings.HasPrefix(name, "RELAY_TEST_"):
				return "", nil
			case len(known) == 0:
				l.fault(name, name, "unknown variable%s", suggest(name, names))
				return "", nil
			case len(known) > 1:
				l.fault(name, name, "could mean %s or %s; set them in the file", known[0].key(), known[1].key())
				return "", nil
			default:
				return strings.Join(known[0].path, delim), value
			}
		},
	}), nil, func(path []string) string { return variable(strings.Join(path, ".")) })
}

// flags loads what --set says.
func (l *loader) flags(set []string) {
	values := map[string]any{}
	for _, s := range set {
		key, value, ok := strings.Cut(s, "=")
		path := split(strings.TrimSpace(key))
		_, known := find(path)
		switch {
		case !ok:
			l.fault(s, originSet, "must be key=value")
		case !known:
			l.unknown(path, originSet)
		default:
			values[strings.Join(path, delim)] = value
		}
	}
	l.layer(confmap.Provider(values, delim), nil, func([]string) string { return originSet })
}

// layer lays one source over what is there. Keys that are not known become faults
// and go no further.
func (l *loader) layer(p koanf.Provider, parser koanf.Parser, origin func(path []string) string) {
	layer := koanf.New(delim)
	if err := layer.Load(p, parser); err != nil {
		l.fault("", origin(nil), "%s", err)
		return
	}
	paths := layer.KeyMap() // of sections too
	for _, joined := range layer.Keys() {
		path, value := paths[joined], layer.Get(joined)
		if l.refuses(path, value, origin(path)) {
			layer.Delete(joined)
			continue
		}
		l.origins[strings.Join(path, ".")] = origin(path)
	}
	if err := l.k.Merge(layer); err != nil {
		l.fault("", origin(nil), "%s", err)
	}
}

// refuses reports whether a value cannot stand at this path, and why as a fault.
// An empty section says nothing and is dropped.
func (l *loader) refuses(path []string, value any, origin string) bool {
	key := strings.Join(path, ".")
	m, isMap := value.(map[string]any)
	_, known := find(path)
	switch {
	case isSection(path) && (value == nil || isMap && len(m) == 0):
		switch section := namedSection(path); {
		case section == 1 && len(path) == 2:
			l.fault(key, origin, "an endpoint without settings: it needs a url at least")
		case section == 2 && path[0] == "admin" && len(path) == 3:
			l.fault(key, origin, "a token without settings: it needs hash and scopes")
		}
		return true
	case isSection(path):
		l.fault(key, origin, "is a section: write its keys below it")
		return true
	case !known:
		l.unknown(path, origin)
		return true
	case value == nil:
		l.fault(key, origin, "has no value: write one, or take the line out")
		return true
	}
	return false
}

func (l *loader) unknown(path []string, origin string) {
	var names []string
	within := namedSection(path)
	for _, s := range nameIn(path).keys() {
		switch {
		case within == 0 || len(path) <= within:
			names = append(names, s.key(), strings.Join(s.path[:len(s.path)-1], "."))
		case len(s.path) > within && slices.Equal(s.path[:within+1], path[:within+1]):
			names = append(names, s.key())
		}
	}
	key := strings.Join(path, ".")
	if isSection(path) {
		l.fault(key, origin, "is a section, not a key")
		return
	}
	l.fault(key, origin, "unknown key%s", suggest(key, names))
}
