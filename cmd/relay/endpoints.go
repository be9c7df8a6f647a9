package main

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/relaywebhooks/relay"
)

// registered are the endpoints of the configuration. The files that they name are
// read each time: a certificate that was exchanged holds after a reload. An error
// names the endpoint and the setting.
func (c Config) registered() ([]relay.Endpoint, error) {
	var list []relay.Endpoint
	var faults []error
	for name, e := range c.Endpoints {
		own, err1 := e.tls()
		shape, err2 := e.shaper()
		for _, err := range each(errors.Join(err1, err2)) {
			faults = append(faults, fmt.Errorf("endpoints.%s.%w", name, err))
		}
		list = append(list, relay.Endpoint{
			Name: name, Tenant: e.Tenant, URL: string(e.URL), Held: e.held(), Secrets: e.Secrets, Header: e.header(), Timeout: e.Timeout,
			Concurrency: e.Concurrency, Rate: e.Rate, Burst: e.Burst, Schedule: e.Schedule,
			MaxAttempts: e.MaxAttempts, SuccessCodes: e.SuccessCodes,
			ContentType: e.ContentType, HTTP2: e.HTTP2, TLS: own, Heed: e.Heed, Shape: shape,
		})
	}
	return list, errors.Join(faults...)
}

// held says why nothing is sent to it, as relay endpoint pause and disable do.
func (e EndpointConfig) held() string {
	switch {
	case e.Disabled != "":
		return "disabled in the configuration file: " + e.Disabled
	case e.Paused != "":
		return "paused in the configuration file: " + e.Paused
	}
	return ""
}

// header are the headers that every request carries, authentication included.
func (e EndpointConfig) header() http.Header {
	h := http.Header{}
	for name, value := range e.Headers {
		h.Set(name, string(value))
	}
	switch {
	case e.Basic != "":
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(e.Basic)))
	case e.Bearer != "":
		h.Set("Authorization", "Bearer "+string(e.Bearer))
	}
	return h
}

// tls reads the files; nil if none is named. An error begins with the name of the
// setting, as those of [relay.CheckTLS] do.
func (e EndpointConfig) tls() (*relay.TLS, error) {
	if e.CA == "" && e.Certificate == "" && e.Key == "" {
		return nil, nil //nolint:nilnil // most endpoints have none
	}
	ca, err1 := readPEM("ca", e.CA)
	certificate, err2 := readPEM("certificate", e.Certificate)
	key, err3 := readPEM("key", e.Key)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	own := &relay.TLS{Authorities: ca, Certificate: certificate, Key: relay.Secret(key)}
	return own, relay.CheckTLS(own)
}

// readPEM reads a file that is named. An empty one is not nil: it is a fault.
func readPEM(setting, file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return append([]byte{}, text...), nil
}

// endpoints looks at what is registered.
func (c *checker) endpoints() {
	for name, e := range c.Endpoints {
		key := "endpoints." + name
		c.when(len(name) == 0 || len(name) > relay.MaxName, key+".url", "the endpoint's name must have 1 to %d bytes", relay.MaxName)
		if _, err := relay.CheckURL(string(e.URL)); e.URL == "" {
			c.wrong(key+".url", "is missing")
		} else if err != nil {
			c.wrong(key+".url", "%s", strings.TrimPrefix(err.Error(), "URL: "))
		}
		for header, value := range e.Headers {
			if err := relay.CheckRequestHeader(header, string(value)); err != nil {
				c.wrong(key+".headers."+header, "%s", err)
			}
		}
		c.when(e.Secrets != nil && len(e.Secrets) == 0, key+".secrets",
			"names no secret: write one, or take the line out, and signing.secrets sign")
		c.secrets(key+".secrets", e.Secrets)
		c.standard(key, e.Schedule, cmp.Or(e.MaxAttempts, c.Policy.MaxAttempts))
		c.authentication(key, e)
		c.tls(key, e)
		c.template(key, e)
	}
}

// authentication looks at the ways in which relay can say who it is.
func (c *checker) authentication(key string, e EndpointConfig) {
	written := false
	for name := range e.Headers {
		written = written || strings.EqualFold(name, "Authorization")
	}
	const one = "use one of basic, bearer and headers.Authorization"
	c.when(e.Bearer != "" && (written || e.Basic != ""), key+".bearer", one)
	c.when(e.Basic != "" && written, key+".basic", one)
	user, _, two := strings.Cut(string(e.Basic), ":")
	c.when(e.Basic != "" && (!two || user == ""), key+".basic", "must be user:password")
	c.when(strings.ContainsFunc(string(e.Basic), func(r rune) bool { return r < ' ' || r == 0x7f }), key+".basic", "holds a control character")
	c.when(strings.ContainsFunc(string(e.Bearer), func(r rune) bool { return r <= ' ' || r >= 0x7f }), key+".bearer",
		"must be one word in ASCII, without Bearer before it")
}

// tls reads the files, and says of each what is wrong with it.
func (c *checker) tls(key string, e EndpointConfig) {
	_, err := e.tls()
	for _, fault := range each(err) {
		setting, problem, _ := strings.Cut(fault.Error(), ": ")
		c.wrong(key+"."+setting, "%s", problem)
	}
}
