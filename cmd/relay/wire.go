package main

import (
	"context"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/admin"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/template"
)

// Here the configuration becomes the options of relay's packages. Zero and empty
// often mean a default to them, and to people that there is none.

func (c Config) auditOptions(log zerolog.Logger, observe func(string, int, time.Duration)) audit.Options {
	return audit.Options{
		Worker: worker(), Lease: c.Consumer.AckWait, Retention: c.Postgres.Retention, Logger: log, Observe: observe,
	}
}

// worker names this process among all that share the work.
func worker() string {
	host, err := os.Hostname()
	if err != nil {
		host = "relay"
	}
	return host + "/" + strconv.Itoa(os.Getpid())
}

func (c Config) policyOptions() policy.Options {
	p := c.Policy
	jitter := p.Jitter
	if jitter == 0 {
		jitter = -1
	}
	return policy.Options{
		MaxAttempts: p.MaxAttempts, Schedule: p.Schedule, Jitter: jitter,
		MaxBackoff: p.MaxBackoff, MaxRetryAfter: p.MaxRetryAfter,
		Timeout: c.Delivery.Timeout, Concurrency: p.Concurrency, SlowCalls: p.SlowCalls,
		Circuit: policy.CircuitOptions{
			Failures: p.Circuit.Failures, Executions: p.Circuit.Executions,
			Delay: p.Circuit.Delay, MaxDelay: p.Circuit.MaxDelay, Probes: p.Circuit.Probes,
		},
		Tenant:  policy.TenantOptions{Rate: c.Tenants.Rate, Burst: c.Tenants.Burst, Share: c.Tenants.Share},
		Tenants: c.tenants(),
	}
}

func (c Config) tenants() map[string]policy.TenantOptions {
	named := make(map[string]policy.TenantOptions, len(c.Tenants.Named))
	for name, t := range c.Tenants.Named {
		named[name] = policy.TenantOptions{Rate: t.Rate, Burst: t.Burst, Share: t.Share}
	}
	return named
}

func (c Config) deliveryOptions(deny func() []netip.AddrPort) delivery.Options {
	d := c.Delivery
	agent := d.UserAgent
	if agent == "" {
		agent = "relay/" + version()
	}
	return delivery.Options{
		Timeout: d.Timeout, ConnectTimeout: d.ConnectTimeout,
		Allow: d.Allow, Deny: deny, Ports: d.Ports, HTTPSOnly: d.HTTPSOnly,
		Proxy: relay.Secret(d.Proxy), ProxyResolves: d.ProxyResolves,
		UserAgent: agent, Secrets: c.Signing.Secrets,
	}
}

// sending is deliveryOptions for the relay that runs.
func (l loaded) sending(own func() []netip.AddrPort) delivery.Options {
	o := l.deliveryOptions(own)
	o.AnyPort = l.anyPort
	return o
}

// maxAckPending is consumer.max_ack_pending, or what 0 stands for.
func (c Config) maxAckPending() int {
	if c.Consumer.MaxAckPending != 0 {
		return c.Consumer.MaxAckPending
	}
	return consumer.DefaultMaxAckPending
}

func (c Config) consumerOptions(log zerolog.Logger) consumer.Options {
	o := c.Consumer
	return consumer.Options{
		Slots: o.Slots, SlowCalls: c.Policy.SlowCalls, AckWait: o.AckWait, Timeout: c.Delivery.Timeout,
		MaxAckPending: c.maxAckPending(), MaxSleep: o.MaxSleep, TenantRequired: o.RequireTenant,
		ExpiresAfter: o.ExpiresAfter, Sweep: o.Sweep, Drain: o.Drain, ReplayRate: c.Replay.Rate, Logger: log,
		Lanes: consumer.LaneOptions{First: c.Lanes.First, Growth: c.Lanes.Growth, Most: c.Lanes.Most, Rate: c.Lanes.Rate},
	}
}

func (c Config) adminOptions() admin.Options {
	o := admin.Options{Address: c.Admin.Address, Token: c.Admin.Token}
	for _, name := range slices.Sorted(maps.Keys(c.Admin.Tokens)) {
		t := c.Admin.Tokens[name]
		o.Tokens = append(o.Tokens, admin.Token{Name: name, Hash: t.Hash, Scopes: t.Scopes})
	}
	return o
}

func (c Config) streamOptions() consumer.StreamOptions {
	return consumer.StreamOptions{
		Replicas: c.NATS.Replicas, DeadMaxAge: c.NATS.DeadMaxAge, DuplicateWindow: c.NATS.DuplicateWindow,
		AckWait: c.Consumer.AckWait, MaxAckPending: c.maxAckPending(),
		// That server is only started by relay run, whose user may do everything there.
		MemoryConsumers: c.NATS.Embedded && c.NATS.ConfigFile == "",
	}
}

func (c Config) natsOptions(log zerolog.Logger) embedded.NATSOptions {
	n := c.NATS
	o := embedded.NATSOptions{
		Dir: n.Data, Host: n.Host, Port: n.Port, Sync: string(n.Sync), ConfigFile: n.ConfigFile, Log: log,
	}
	if o.Port == 0 {
		o.Port = -1
	}
	if n.Sync != syncAlways {
		o.Sync = n.Sync.every().String() // which knows no days
	}
	return o
}

// endpoints is the registry, with the settings of policy that hold for every
// endpoint but are no options of package policy. Both can be replaced.
type endpoints struct {
	*endpoint.Registry
	store  *endpoint.Store
	policy atomic.Pointer[PolicyConfig]
}

func newEndpoints(c Config) (*endpoints, error) {
	list, err := c.registered()
	if err != nil {
		return nil, err
	}
	registry, err := endpoint.New(list)
	if err != nil {
		return nil, err
	}
	e := &endpoints{Registry: registry}
	e.policy.Store(&c.Policy)
	return e, nil
}

// Find finds an endpoint as the registry does.
func (e *endpoints) Find(tenant, name, url string) (relay.Endpoint, error) {
	ep, err := e.Registry.Find(tenant, name, url)
	p := e.policy.Load()
	if ep.Rate == 0 {
		ep.Rate = p.Rate
		if ep.Burst == 0 {
			ep.Burst = p.Burst
		}
	}
	if len(ep.SuccessCodes) == 0 {
		ep.SuccessCodes = p.SuccessCodes
	}
	return ep, err
}

// Disable holds what is meant for an endpoint until somebody enables it.
func (e *endpoints) Disable(ctx context.Context, endpointKey, reason string) error {
	return e.store.Disable(ctx, endpointKey, reason)
}

// Meant finds the endpoint that a person means.
func (e *endpoints) Meant(ctx context.Context, tenant *string, text string) (relay.Endpoint, error) {
	return e.store.Meant(ctx, tenant, text)
}

// disableAfter is policy.disable_after.
func (e *endpoints) disableAfter() time.Duration { return e.policy.Load().DisableAfter }

// storeOptions say where endpoints are registered while relay runs.
func (c Config) storeOptions(registry *endpoint.Registry, log zerolog.Logger) endpoint.StoreOptions {
	longest := max(c.Consumer.AckWait-ackMargin(time.Hour), c.Consumer.AckWait*2/3) // see check.times
	return endpoint.StoreOptions{
		Registry: registry, Compile: template.CompileJSON, Longest: min(longest, c.Consumer.Drain, 10*time.Minute), Logger: log,
	}
}

// sender is a delivery.Sender that can be replaced while it works.
type sender struct {
	current atomic.Pointer[delivery.Sender]
}

// Send makes one exchange.
func (s *sender) Send(ctx context.Context, ep relay.Endpoint, w relay.Webhook) relay.Attempt {
	return s.current.Load().Send(ctx, ep, w)
}

// replace lets exchanges under way finish on the connections that they have.
func (s *sender) replace(o delivery.Options) error {
	next, err := delivery.New(o)
	if err != nil {
		return err
	}
	s.current.Store(next) // what is under way goes on; idle connections time out
	return nil
}
