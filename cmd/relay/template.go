package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/template"
)

// readTemplate reads a template from a file: YAML, and so JSON too.
func readTemplate(file string) (relay.Shaper, error) {
	const most = 8 * relay.MaxTemplate // comments included
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(text) > most {
		return nil, fmt.Errorf("has %d bytes, more than %d", len(text), most)
	}
	var s template.Source
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("cannot be read: %s", strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n ", ""))
	}
	return template.Compile(s)
}

// shaper reads the endpoint's template; nil if it has none.
func (e EndpointConfig) shaper() (relay.Shaper, error) {
	if e.Template == "" {
		return nil, nil //nolint:nilnil // most endpoints have none
	}
	s, err := readTemplate(e.Template)
	var faults []error
	for _, fault := range each(err) {
		faults = append(faults, fmt.Errorf("template: %s", strings.TrimPrefix(fault.Error(), "template: ")))
	}
	return s, errors.Join(faults...)
}

// template reads the file, and says all that is wrong with it.
func (c *checker) template(key string, e EndpointConfig) {
	_, err := e.shaper()
	for _, fault := range each(err) {
		c.wrong(key+".template", "%s", strings.TrimPrefix(fault.Error(), "template: "))
	}
}
