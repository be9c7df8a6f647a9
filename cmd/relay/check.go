package main

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/admin"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/signature"
)

// ackMargin is what an attempt needs beside the request itself: to be claimed, to
// be recorded and to be acknowledged. Where requests are short, so is everything.
func ackMargin(timeout time.Duration) time.Duration {
	return min(10*time.Second, timeout/2)
}

// check returns what is wrong with values that could be read. Keys that are
// faulty already are left alone: they hold their default.
func (l loaded) check(already Faults) Faults {
	c := checker{loaded: l, skip: map[string]bool{}}
	for _, f := range already {
		c.skip[f.Key] = true
	}
	for _, s := range settings(l.Config) {
		c.bounds(s)
	}
	c.servers()
	c.times()
	c.limits()
	c.secrets("signing.secrets", c.Signing.Secrets)
	c.sealing()
	c.endpoints()
	if len(already)+len(c.faults) == 0 {
		c.packages()
	}
	return c.faults
}

type checker struct {
	loaded
	skip   map[string]bool
	faults Faults
}

// wrong notes a fault of a key that exists.
func (c *checker) wrong(key, problem string, a ...any) {
	if c.skip[key] {
		return
	}
	path, value := split(key), ""
	for _, s := range settings(c.Config) {
		if written := text(s.value); written != "" && slices.Equal(s.path, path) {
			value = show(written)
		}
	}
	c.faults = append(c.faults, Fault{Key: key, Value: value, Origin: c.origin(key), Problem: fmt.Sprintf(problem, a...)})
}

// when notes a fault if it is one.
func (c *checker) when(is bool, key, problem string, a ...any) {
	if is {
		c.wrong(key, problem, a...)
	}
}

// bounds holds a value, or each item of a list, to the tags min and max.
func (c *checker) bounds(s setting) {
	if s.value.Kind() == reflect.Slice && s.tag.Get("min") != "" {
		for i := range s.value.Len() {
			c.bounds(setting{path: s.path, tag: s.tag, value: s.value.Index(i)})
		}
		return
	}
	if text := s.tag.Get("min"); text != "" && number(s.value) < limit(s.value, text) {
		c.wrong(s.key(), "must be at least %s", text)
	}
	if text := s.tag.Get("max"); text != "" && number(s.value) > limit(s.value, text) {
		c.wrong(s.key(), "must be at most %s", text)
	}
}

func number(v reflect.Value) float64 {
	if v.Kind() == reflect.Float64 {
		return v.Float()
	}
	return float64(v.Int())
}

// limit reads a tag in the words of the value's type. A test reads them all.
func limit(v reflect.Value, tag string) float64 {
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := parseDuration(tag)
		if err != nil {
			panic(err)
		}
		return float64(d)
	}
	f, err := strconv.ParseFloat(tag, 64)
	if err != nil {
		panic(err)
	}
	return f
}

// leastWindow is the shortest window in which JetStream recognises a repeated
// Nats-Msg-Id. It cannot be turned off.
const leastWindow = 100 * time.Millisecond

func (c *checker) servers() {
	n := c.NATS
	for part := range strings.SplitSeq(string(n.URL), ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		c.when(n.URL != "" && (err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme)),
			"nats.url", "is not the URL of a NATS server, such as nats://127.0.0.1:4222")
	}
	c.when(n.URL != "" && n.Embedded, "nats.embedded", "must be false where nats.url names a server")
	c.when(n.Password != "" && n.User == "", "nats.password", "needs nats.user")
	c.when((n.TLS.Cert == "") != (n.TLS.Key == ""), "nats.tls.cert", "and nats.tls.key are needed together")
	ways := 0
	for _, set := range []bool{n.User != "", n.Credentials != "", n.NKey != ""} {
		if set {
			ways++
		}
	}
	c.when(ways > 1, "nats.credentials", "use one of nats.user, nats.credentials and nats.nkey")
	c.when(n.Data == "", "nats.data", "must be a directory")
	c.when(n.DuplicateWindow > 0 && n.DuplicateWindow < leastWindow, "nats.duplicate_window",
		"must be 0 (as the stream has it) or at least %s: JetStream knows no shorter one", formatDuration(leastWindow))

	if c.Postgres.URL != "" {
		_, err := pgxpool.ParseConfig(string(c.Postgres.URL))
		c.when(err != nil, "postgres.url", "is not a Postgres URL, such as postgres://relay@127.0.0.1:5432/relay")
	}
	least := max(audit.MinRetention, relay.MaxExpiry+c.NATS.DeadMaxAge)
	c.when(c.Postgres.Retention < least, "postgres.retention",
		"must be at least %s: an event may wait for %s and its dead letter be replayed %s later (nats.dead_max_age), and needs its row then",
		formatDuration(least), formatDuration(relay.MaxExpiry), formatDuration(c.NATS.DeadMaxAge))
	c.adminTokens()
}

func (c *checker) adminTokens() {
	faulty := len(c.faults)
	for name, t := range c.Admin.Tokens {
		key := "admin.tokens." + name
		c.when(t.Hash == "", key+".hash", "is needed: relay token makes a token and its hash")
		c.when(len(t.Scopes) == 0, key+".scopes", "must name at least one of %s", joinWords(admin.Scopes()))
	}
	for key := range c.skip {
		if strings.HasPrefix(key, "admin.tokens.") {
			faulty--
		}
	}
	if len(c.faults) > faulty {
		return // that was said, and what was read is not all
	}
	for _, err := range each(c.adminOptions().Validate()) {
		c.wrong("admin.address", "%s", strings.TrimPrefix(err.Error(), "admin: "))
	}
}

func (c *checker) times() {
	d, longest, whose := c.Delivery, c.Delivery.Timeout, "delivery.timeout"
	for name, e := range c.Endpoints {
		if e.Timeout > longest {
			longest, whose = e.Timeout, "endpoints."+name+".timeout"
		}
	}
	margin := ackMargin(longest)
	c.when(c.Consumer.AckWait < longest+margin, "consumer.ack_wait",
		"must be at least %s (%s + %s), so that no message comes back while its request is under way",
		formatDuration(longest+margin), whose, formatDuration(margin))
	c.when(c.Consumer.Drain < longest, "consumer.drain",
		"must be at least %s (%s), so that what was sent can be finished", formatDuration(longest), whose)
	c.when(d.ConnectTimeout > d.Timeout, "delivery.connect_timeout",
		"must be at most delivery.timeout (%s)", formatDuration(d.Timeout))
}

func (c *checker) limits() {
	p := c.Policy
	c.when(p.Circuit.Failures > p.Circuit.Executions, "policy.circuit.failures",
		"must be at most policy.circuit.executions (%d): the circuit would never open", p.Circuit.Executions)
	c.when(len(p.Schedule) == 0 && p.MaxAttempts > 1, "policy.schedule", "must name at least one wait")
	c.standard("policy", p.Schedule, p.MaxAttempts)
	c.when(len(p.SuccessCodes) == 0, "policy.success_codes", "must name at least one code")
	c.when(len(c.Delivery.Ports) == 0, "delivery.ports", "must name at least one port")
	c.when(p.Circuit.MaxDelay != 0 && p.Circuit.MaxDelay < p.Circuit.Delay, "policy.circuit.max_delay",
		"must be 0 (constant) or at least policy.circuit.delay (%s)", formatDuration(p.Circuit.Delay))
	most := c.Consumer.MaxAckPending
	c.when(most != 0 && most < c.Consumer.Slots, "consumer.max_ack_pending",
		"must be 0 (automatic) or at least consumer.slots (%d)", c.Consumer.Slots)
	c.when(strings.ContainsAny(c.Delivery.UserAgent, "\r\n"), "delivery.user_agent", "must be one line")
	c.when(c.Delivery.Proxy == "" && c.Delivery.ProxyResolves, "delivery.proxy_resolves", "needs delivery.proxy")
	if err := (delivery.Options{Proxy: relay.Secret(c.Delivery.Proxy)}).CheckProxy(); err != nil {
		c.wrong("delivery.proxy", "%s", strings.TrimPrefix(err.Error(), "delivery: proxy: "))
	}
}

// standard sees to it that who asks for three days gets them: the waits alone are
// not enough.
func (c *checker) standard(section string, schedule []time.Duration, attempts int) {
	if !slices.Equal(schedule, policy.StandardSchedule()) {
		return
	}
	var longest time.Duration
	for _, wait := range schedule {
		longest += wait + time.Duration(float64(wait)*c.Policy.Jitter)
	}
	c.when(attempts <= len(schedule), section+".max_attempts", "must be at least %d for all waits of %s.schedule: standard", len(schedule)+1, section)
	c.when(c.Consumer.ExpiresAfter < longest, "consumer.expires_after",
		"must be at least %s for all waits of %s.schedule: standard", formatDuration(longest.Round(time.Hour)+time.Hour), section)
}

// packages has relay's packages look at what they will be given: they know their
// own bounds, and which endpoints are in each other's way.
func (c *checker) packages() {
	_, endpoints := newEndpoints(c.Config)
	sending := new(sender).replace(c.deliveryOptions(nil))
	for _, err := range each(errors.Join(endpoints, c.policyOptions().Validate(), sending)) {
		c.faults = append(c.faults, Fault{Problem: err.Error()})
	}
}

// secrets has the signer read the secrets; its errors do not repeat them.
func (c *checker) secrets(key string, secrets []relay.Secret) {
	all := make([]string, len(secrets))
	good := len(secrets) > 0
	for i, secret := range secrets {
		all[i] = string(secret)
		if _, err := signature.NewSigner(all[i]); err != nil {
			c.wrong(key, "item %d is %s", i+1, strings.TrimPrefix(err.Error(), "signature: secret 1 of 1: "))
			good = false
		}
	}
	if _, err := signature.NewSigner(all...); good && err != nil { // too many
		c.wrong(key, "holds %s", strings.TrimPrefix(err.Error(), "signature: "))
	}
}

// sealing has the sealer read its keys; its errors do not repeat them.
func (c *checker) sealing() {
	_, err := endpoint.NewSealer(c.Sealing.Keys...)
	for _, e := range each(err) {
		c.wrong("sealing.keys", "%s", strings.TrimPrefix(e.Error(), "endpoint: sealing "))
	}
}
