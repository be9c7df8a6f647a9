package main

import (
	"net/netip"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/admin"
	"github.com/relaywebhooks/relay/audit"
)

// Config is everything that can be set about relay. relay.example.yaml
// documents each key; a test holds the two equal. The tags min and max bound a
// value, both ends included; a secret is never printed.
type Config struct {
	NATS      NATSConfig                `koanf:"nats"`
	Postgres  PostgresConfig            `koanf:"postgres"`
	Consumer  ConsumerConfig            `koanf:"consumer"`
	Policy    PolicyConfig              `koanf:"policy"`
	Delivery  DeliveryConfig            `koanf:"delivery"`
	Signing   SigningConfig             `koanf:"signing"`
	Sealing   SealingConfig             `koanf:"sealing"`
	Tenants   TenantsConfig             `koanf:"tenants"`
	Endpoints map[string]EndpointConfig `koanf:"endpoints"`
	Replay    ReplayConfig              `koanf:"replay"`
	Lanes     LanesConfig               `koanf:"lanes"`
	Admin     AdminConfig               `koanf:"admin"`
	Log       LogConfig                 `koanf:"log"`
}

// NATSConfig says which NATS server to use, or how to run one inside relay.
type NATSConfig struct {
	URL         serverURL     `koanf:"url"`
	User        string        `koanf:"user"`
	Password    relay.Secret  `koanf:"password"`
	Credentials string        `koanf:"credentials"`
	NKey        string        `koanf:"nkey"`
	InboxPrefix string        `koanf:"inbox_prefix"`
	TLS         TLSConfig     `koanf:"tls"`
	Replicas    int           `koanf:"replicas" min:"1" max:"5"`
	DeadMaxAge  time.Duration `koanf:"dead_max_age" min:"1h"`

	DuplicateWindow time.Duration `koanf:"duplicate_window" min:"0s" max:"720h"`

	Embedded   bool         `koanf:"embedded"`
	Data       string       `koanf:"data"`
	Host       string       `koanf:"host"`
	Port       int          `koanf:"port" min:"0" max:"65535"`
	Sync       syncInterval `koanf:"sync"`
	ConfigFile string       `koanf:"config_file"`
}

// TLSConfig names PEM files.
type TLSConfig struct {
	CA   string `koanf:"ca"`
	Cert string `koanf:"cert"`
	Key  string `koanf:"key"`
}

// PostgresConfig says where the audit log is.
type PostgresConfig struct {
	URL       databaseURL   `koanf:"url"`
	MaxConns  int           `koanf:"max_conns" min:"2" max:"1000"`
	Retention time.Duration `koanf:"retention"`
	Data      string        `koanf:"data"`
	Bin       string        `koanf:"bin"`
}

// ConsumerConfig says how webhooks are taken off the streams.
type ConsumerConfig struct {
	Slots         int           `koanf:"slots" min:"1" max:"10000"`
	AckWait       time.Duration `koanf:"ack_wait" min:"1s" max:"1h"`
	MaxAckPending int           `koanf:"max_ack_pending" min:"0" max:"200000"`
	Drain         time.Duration `koanf:"drain" min:"0s" max:"1h"`
	ExpiresAfter  time.Duration `koanf:"expires_after" min:"1m"`
	MaxSleep      time.Duration `koanf:"max_sleep" min:"1s" max:"15m"`
	Sweep         time.Duration `koanf:"sweep" min:"100ms" max:"10m"`
	RequireTenant bool          `koanf:"require_tenant"`
}

// PolicyConfig says when to try, and what an answer means, for every endpoint
// that has no settings of its own.
type PolicyConfig struct {
	MaxAttempts   int             `koanf:"max_attempts" min:"1" max:"100"`
	Schedule      []time.Duration `koanf:"schedule" min:"0s"`
	Jitter        float64         `koanf:"jitter" min:"0" max:"0.9"`
	MaxBackoff    time.Duration   `koanf:"max_backoff" min:"1s" max:"720h"`
	MaxRetryAfter time.Duration   `koanf:"max_retry_after" min:"1s" max:"720h"`
	SuccessCodes  codeRanges      `koanf:"success_codes"`
	Concurrency   int             `koanf:"concurrency" min:"1" max:"10000"`
	SlowCalls     int             `koanf:"slow_calls" min:"1" max:"100000"`
	Rate          float64         `koanf:"rate" min:"0"`
	Burst         int             `koanf:"burst" min:"0"`
	Circuit       CircuitConfig   `koanf:"circuit"`
	DisableAfter  time.Duration   `koanf:"disable_after" min:"0s"`
}

// CircuitConfig says when an endpoint's circuit opens and closes.
type CircuitConfig struct {
	Failures   int           `koanf:"failures" min:"1"`
	Executions int           `koanf:"executions" min:"1" max:"10000"`
	Delay      time.Duration `koanf:"delay" min:"1ms" max:"24h"`
	MaxDelay   time.Duration `koanf:"max_delay" min:"0s" max:"24h"`
	Probes     int           `koanf:"probes" min:"1" max:"100"`
}

// DeliveryConfig says how one HTTP exchange is made, and where to.
type DeliveryConfig struct {
	Timeout        time.Duration  `koanf:"timeout" min:"1ms" max:"10m"`
	ConnectTimeout time.Duration  `koanf:"connect_timeout" min:"1ms" max:"10m"`
	Allow          []netip.Prefix `koanf:"allow"`
	Ports          []int          `koanf:"ports" min:"1" max:"65535"`
	HTTPSOnly      bool           `koanf:"https_only"`
	Proxy          proxyURL       `koanf:"proxy"`
	ProxyResolves  bool           `koanf:"proxy_resolves"`
	UserAgent      string         `koanf:"user_agent"`
}

// SigningConfig holds the secrets for endpoints that have none of their own.
type SigningConfig struct {
	Secrets []relay.Secret `koanf:"secrets"`
}

// SealingConfig holds the keys that keep the secrets of endpoints in the database
// unreadable: the first one seals, all of them open.
type SealingConfig struct {
	Keys []relay.Secret `koanf:"keys"`
}

// TenantsConfig says what the endpoints of one tenant get together.
type TenantsConfig struct {
	Rate  float64                 `koanf:"rate" min:"0"`
	Burst int                     `koanf:"burst" min:"0"`
	Share float64                 `koanf:"share" min:"0" max:"1"`
	Named map[string]TenantConfig `koanf:"named"`
}

// TenantConfig are the settings of one tenant. What is left out is taken from
// TenantsConfig.
type TenantConfig struct {
	Rate  float64 `koanf:"rate" min:"0"`
	Burst int     `koanf:"burst" min:"0"`
	Share float64 `koanf:"share" min:"0" max:"1"`
}

// EndpointConfig are the settings of one registered endpoint. What is left out
// is taken from policy, delivery and signing.
type EndpointConfig struct {
	URL          endpointURL             `koanf:"url"`
	Tenant       string                  `koanf:"tenant"`
	Secrets      []relay.Secret          `koanf:"secrets"`
	Headers      map[string]relay.Secret `koanf:"headers"`
	Timeout      time.Duration           `koanf:"timeout" min:"0s" max:"10m"`
	Concurrency  int                     `koanf:"concurrency" min:"0" max:"10000"`
	Rate         float64                 `koanf:"rate" min:"0"`
	Burst        int                     `koanf:"burst" min:"0"`
	Schedule     []time.Duration         `koanf:"schedule" min:"0s"`
	MaxAttempts  int                     `koanf:"max_attempts" min:"0" max:"100"`
	SuccessCodes codeRanges              `koanf:"success_codes"`
	ContentType  string                  `koanf:"content_type"`
	Basic        relay.Secret            `koanf:"basic"`
	Bearer       relay.Secret            `koanf:"bearer"`
	HTTP2        bool                    `koanf:"http2"`
	CA           string                  `koanf:"ca"`
	Certificate  string                  `koanf:"certificate"`
	Key          string                  `koanf:"key"`
	Heed         bool                    `koanf:"heed"`
	Template     string                  `koanf:"template"`
	Paused       string                  `koanf:"paused"`
	Disabled     string                  `koanf:"disabled"`
}

// LanesConfig says how fast parked events are brought back when their endpoint
// is well again.
type LanesConfig struct {
	First  int     `koanf:"first" min:"1" max:"500"`
	Growth float64 `koanf:"growth" min:"1" max:"100"`
	Most   int     `koanf:"most" min:"1" max:"10000"`
	Rate   float64 `koanf:"rate" min:"0"`
}

// ReplayConfig paces the replay of dead letters, and the burying of what is
// parked.
type ReplayConfig struct {
	Rate int `koanf:"rate" min:"1" max:"100000"`
}

// AdminConfig says where health, readiness and metrics are served, and to whom.
type AdminConfig struct {
	Address string                 `koanf:"address"`
	Token   relay.Secret           `koanf:"token"`
	Tokens  map[string]TokenConfig `koanf:"tokens"`
}

// TokenConfig is a token by its hash, and what it may read.
type TokenConfig struct {
	Hash   admin.Hash    `koanf:"hash"`
	Scopes []admin.Scope `koanf:"scopes"`
}

// LogConfig says what is logged, and how.
type LogConfig struct {
	Level  logLevel  `koanf:"level"`
	Format logFormat `koanf:"format"`
}

// Default returns the configuration that needs no file. Every call returns a
// new one.
func Default() Config {
	const day = 24 * time.Hour
	return Config{
		NATS: NATSConfig{
			Replicas: 1, DeadMaxAge: 30 * day,
			Data: "data/nats", Host: "127.0.0.1", Port: 4222, Sync: syncAlways,
		},
		Postgres: PostgresConfig{MaxConns: 8, Retention: audit.MinRetention, Data: "data/postgres"},
		Consumer: ConsumerConfig{
			Slots: 256, AckWait: 45 * time.Second, Drain: 40 * time.Second,
			ExpiresAfter: 72 * time.Hour, MaxSleep: relay.MaxSleep, Sweep: 10 * time.Second,
		},
		Policy: PolicyConfig{
			MaxAttempts:   5,
			Schedule:      []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute},
			Jitter:        0.1,
			MaxBackoff:    day,
			MaxRetryAfter: day,
			SuccessCodes:  codeRanges{{From: 200, To: 299}},
			Concurrency:   64,
			SlowCalls:     1024,
			Circuit:       CircuitConfig{Failures: 5, Executions: 10, Delay: 30 * time.Second, Probes: 1},
			DisableAfter:  5 * day,
		},
		Delivery: DeliveryConfig{
			Timeout: 30 * time.Second, ConnectTimeout: 5 * time.Second, Ports: []int{80, 443, 8443},
		},
		Replay: ReplayConfig{Rate: 500},
		Lanes:  LanesConfig{First: 1, Growth: 2, Most: 128},
		Admin:  AdminConfig{Address: admin.DefaultAddress},
		Log:    LogConfig{Level: levelInfo, Format: formatAuto},
	}
}
