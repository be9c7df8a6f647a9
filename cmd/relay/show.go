package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"text/tabwriter"
	"time"
)

// configCommand is relay config.
type configCommand struct {
	JSON bool `name:"json" help:"Show it as JSON."`
}

// shownSetting is one line of relay config.
type shownSetting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// Run shows every setting. Of a registered endpoint it shows those that are set:
// the others are taken from policy, delivery and signing.
func (c *configCommand) Run(p *program) error {
	l, err := p.load()
	if err != nil {
		return err
	}
	if c.JSON {
		return l.showJSON(p)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, s := range l.shown() {
		value := text(s.value)
		if value == "" {
			value = `""`
		}
		fmt.Fprintf(w, "%s\t%s\t# %s\n", s.key(), value, l.origin(s.key()))
	}
	return w.Flush()
}

func (l loaded) showJSON(p *program) error {
	list := []shownSetting{}
	for _, s := range l.shown() {
		list = append(list, shownSetting{Key: s.key(), Value: jsonValue(s.value), Origin: l.origin(s.key())})
	}
	e := json.NewEncoder(p.stdout)
	e.SetIndent("", "  ")
	return e.Encode(list)
}

func (l loaded) shown() []setting {
	var list []setting
	for _, s := range settings(l.Config) {
		if namedSection(s.path) == 0 || l.origin(s.key()) != originDefault {
			list = append(list, s)
		}
	}
	return list
}

// jsonValue keeps numbers, truths and lists as they are; the rest is text.
func jsonValue(v reflect.Value) any {
	switch {
	case v.Type() == reflect.TypeFor[time.Duration](), v.Type() == reflect.TypeFor[codeRanges]():
		return text(v)
	case v.Kind() == reflect.Slice:
		list := []any{}
		for i := range v.Len() {
			list = append(list, jsonValue(v.Index(i)))
		}
		return list
	case v.Kind() == reflect.Int, v.Kind() == reflect.Float64, v.Kind() == reflect.Bool:
		return v.Interface()
	default:
		return text(v)
	}
}
