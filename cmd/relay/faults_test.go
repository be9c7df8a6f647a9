package main

import (
	"errors"
	"strings"
	"testing"
)

// faultsOf loads and returns one line per fault, with the file's name cut.
func faultsOf(t *testing.T, text string, from sources) []string {
	t.Helper()
	if text != "" {
		from.file = file(t, text)
	}
	_, err := load(from)
	if err == nil {
		return nil
	}
	fs, ok := errors.AsType[Faults](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	lines := make([]string, len(fs))
	for i, f := range fs {
		if lines[i] = f.String(); from.file != "" {
			lines[i] = strings.ReplaceAll(lines[i], from.file, "relay.yaml")
		}
	}
	return lines
}

const (
	hash       = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"
	sealingKey = "rsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

func TestOneFault(t *testing.T) {
	for _, tc := range []struct{ text, set, want string }{
		{text: "delivery: {timeout: 30}", want: "relay.yaml:1: delivery.timeout = 30: is not a duration; write it with a unit, such as 30s"},
		{text: "delivery: {timeout: '30'}", want: "is not a duration"},
		{text: "delivery: {timeout: 1.5}", want: "is not a duration"},
		{set: "delivery.timeout=0", want: "is not a duration"},
		{set: "delivery.timeout=-5s", want: "must not be negative"},
		{set: "consumer.sweep=0s", want: "must be at least 100ms"},
		{set: "postgres.retention=999999d", want: "longer than relay can count"},
		{set: "postgres.retention=100000d2562047h", want: "longer than relay can count"},
		{set: "nats.port=70000", want: "--set: nats.port = 70000: must be at most 65535"},
		{text: "nats: {port: 80.7}", want: "must be a whole number"},
		{text: "nats: {port: 18446744073709551615}", want: "must be a whole number"},
		{text: "nats: {port: true}", want: "must be a whole number"},
		{text: "nats: {port: [1]}", want: "must be a whole number"},
		{set: "nats.port=", want: `nats.port = "": must be a whole number`},
		{text: "nats:\n  port:", want: "relay.yaml:2: nats.port: has no value"},
		{text: "nats:\n  prot: 1", want: "relay.yaml:2: nats.prot: unknown key; did you mean nats.port?"},
		{text: "nast: {port: 1}", want: "nast.port: unknown key; did you mean nats.port?"},
		{text: "nats: 5", want: "nats: is a section: write its keys below it"},
		{text: "nats.port: 5", want: "nats.port: unknown key; did you mean nats.port?"},
		{text: "nats: {tls: {ca: {b: 1}}}", want: "nats.tls.ca.b: unknown key"},
		{text: "nats: {url: {}}", want: "nats.url = map[]: must be text"},
		{set: "nats=5", want: "nats: is a section, not a key"},
		{set: "delivery.timout=5s", want: "did you mean delivery.timeout?"},
		{set: "delivery.timeout", want: "must be key=value"},
		{set: "=", want: "unknown key"},
		{text: "nats: {user: 5}", want: "must be text: write it in quotes"},
		{text: "nats: {embedded: 1}", want: "must be true or false"},
		{set: "nats.embedded=yes", want: "must be true or false"},
		{set: "nats.sync=never", want: "must be always, or a duration"},
		{set: "nats.sync=0s", want: "must be always, or a duration"},
		{set: "nats.url=127.0.0.1:4222", want: "is not the URL of a NATS server"},
		{set: "nats.url=http://127.0.0.1", want: "is not the URL of a NATS server"},
		{set: "signing.secrets=" + strings.Repeat(oldSecret+",", 32) + oldSecret, want: "holds 33 secrets, want at most 32"},
		{set: "policy.jitter=1", want: "must be at most 0.9"},
		{set: "policy.jitter=NaN", want: "must be a number"},
		{text: "policy: {rate: .inf}", want: "must be a number"},
		{text: "policy: {schedule: [10s, 5]}", want: "policy.schedule = [10s 5]: item 2 is not a duration"},
		{text: "policy: {schedule: {a: 1}}", want: "policy.schedule.a: unknown key"},
		{text: "policy: {schedule: []}", want: "must name at least one wait"},
		{set: "policy.success_codes=200-299,abc", want: "must be status codes from 200 to 599"},
		{set: "policy.success_codes=99", want: "must be status codes"},
		{set: "policy.circuit.failures=11", want: "the circuit would never open"},
		{set: "delivery.allow=10.0.0.0/8,10.1.2.3", want: `item 2 "10.1.2.3" is not a network`},
		{text: "delivery: {ports: [80, 99999]}", want: "must be at most 65535"},
		{text: "delivery: {ports: 80}", want: "must be a list"},
		{set: "log.level=verbose", want: "log.level = verbose: must be one of debug, info, warn or error"},
		{set: "log.format=xml", want: "must be one of auto, json or console"},
		{set: "admin.address=0.0.0.0:8422", want: "not a loopback address, so a token is required"},
		{text: "admin: {tokens: {a: }}", want: "admin.tokens.a: a token without settings: it needs hash and scopes"},
		{text: "admin: {tokens: {a: {scopes: [metrics]}}}", want: "admin.tokens.a.hash: is needed: relay token makes a token and its hash"},
		{text: "admin: {tokens: {a: {hash: 'sha256:" + hash + "'}}}", want: "admin.tokens.a.scopes: must name at least one of metrics, ready or profiles"},
		{text: "admin: {tokens: {a.b: {hash: 'sha256:" + hash + "', scopes: [ready, metric]}}}", want: "admin.tokens.a.b.scopes = [ready metric]: item 2 must be one of metrics, ready or profiles"},
		{text: "admin: {tokens: {a: {hash: rat_0123456789, scopes: ready}}}", want: "relay.yaml:1: admin.tokens.a.hash = [hidden]: must be sha256: and 64 hexadecimal digits"},
		{text: "admin: {tokens: {a: {hsah: x, hash: 'sha256:" + hash + "', scopes: ready}}}", want: "admin.tokens.a.hsah: unknown key; did you mean admin.tokens.a.hash?"},
		{text: "admin: {tokens: 5}", want: "admin.tokens: is a section: write its keys below it"},
		{text: "admin: {tokens: {a: {b: {c: 5}}}}", want: "admin.tokens.a.b.c: unknown key"},
		{
			text: "admin: {tokens: {a: {hash: 'sha256:" + hash + "', scopes: ready}, b: {hash: 'sha256:" + hash + "', scopes: ready}}}",
			want: `token "b": it is the same as "a"`,
		},
		{set: "sealing.keys=", want: "--set: sealing.keys: key 1 of 1: does not begin with rsk_"},
		{set: "sealing.keys=rsk_c2hvcnQ=", want: "--set: sealing.keys = [hidden]: key 1 of 1: is not rsk_ and 32 bytes in base64: make one with relay secret --sealing"},
		{set: "sealing.keys=" + sealingKey + "," + sealingKey, want: "key 2 of 2: stands there twice"},
		{set: "consumer.max_ack_pending=5", want: "at least consumer.slots (256)"},
		{set: "delivery.connect_timeout=40s", want: "must be at most delivery.timeout (30s)"},
		{set: "postgres.retention=10d", want: "must be at least 120d"},
		{set: "postgres.url=nonsense", want: "is not a Postgres URL"},
		{text: "endpoints: {a: }", want: "endpoints.a: an endpoint without settings"},
		{text: "endpoints: {a: {timeout: 1s}}", want: "endpoints.a.url: is missing"},
		{text: "endpoints: {a: {url: 'ftp://x'}}", want: "endpoints.a.url = ftp://x: scheme"},
		{text: "endpoints: {a: {url: 'http://x', headers: {Host: y}}}", want: "relay.yaml:1: endpoints.a.headers.Host = [hidden]: header Host may not be set"},
		{text: "endpoints: {a: {url: 'http://x', timeuot: 1s}}", want: "did you mean endpoints.a.timeout?"},
		{text: "endpoints: 5", want: "endpoints: is a section"},
		{text: "signing: {secrets: [whsec_foo]}", want: "signing.secrets = [hidden]: item 1 is not a usable secret"},
		{text: "a: b: c", want: "mapping values are not allowed"},
		{text: "log: {level: info}\nlog: {level: warn}", want: "already defined"},
		{text: "log: {level: info}\n---\nlog: {level: warn}", want: "one YAML document only"},
		{text: "- log", want: "cannot unmarshal"},
		{text: "# \n# caf\xe9", want: "relay.yaml:2: the text is not valid UTF-8"},
		{set: "nats.user=\xff", want: "not valid UTF-8"},
		{set: "nats.user=a\x00b", want: "not valid UTF-8"},
	} {
		var from sources
		if tc.set != "" {
			from.set = []string{tc.set}
		}
		got := faultsOf(t, tc.text, from)
		if len(got) != 1 || !strings.Contains(got[0], tc.want) {
			t.Errorf("%q%q: %q, want one fault with %q", tc.text, tc.set, got, tc.want)
		}
	}
}

// A longer request needs more patience everywhere.
func TestTimesBelongTogether(t *testing.T) {
	got := strings.Join(faultsOf(t, "", sources{set: []string{"delivery.timeout=2m"}}), "\n")
	for _, want := range []string{
		"consumer.ack_wait = 45s: must be at least 2m10s (delivery.timeout + 10s)",
		"consumer.drain = 40s: must be at least 2m (delivery.timeout)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	got = strings.Join(faultsOf(t, "endpoints: {slow: {url: 'http://x', timeout: 50s}}", sources{}), "\n")
	if !strings.Contains(got, "must be at least 1m (endpoints.slow.timeout + 10s)") {
		t.Error(got)
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	got := faultsOf(t, `
nats: {port: 70000, prot: 1}
delivery:
  timeout: 30
endpoints:
  acme:
    url: https://acme.example/#frag
    secrets: 5
`, sources{
		environ: []string{"RELAY_NTAS_URL=x", "RELAY_LOG_LEVEL=loud", "RELAY_ENDPOINTS_ACME_TIMEOUT=1"},
		set:     []string{"consumer.slots=0", "what"},
	})
	want := []string{
		"RELAY_NTAS_URL: unknown variable; did you mean RELAY_NATS_URL?",
		"--set: consumer.slots = 0: must be at least 1",
		"relay.yaml:4: delivery.timeout = 30: is not a duration",
		"relay.yaml:8: endpoints.acme.secrets = [hidden]: must be a list",
		"RELAY_ENDPOINTS_ACME_TIMEOUT: endpoints.acme.timeout = 1: is not a duration",
		"relay.yaml:7: endpoints.acme.url = https://acme.example/#frag: has a fragment",
		"RELAY_LOG_LEVEL: log.level = loud: must be one of",
		"relay.yaml:2: nats.port = 70000: must be at most 65535",
		"relay.yaml:2: nats.prot: unknown key",
		"--set: what: must be key=value",
	}
	if len(got) != len(want) {
		t.Fatalf("%d faults, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("fault %d: %s\nwant: %s", i, got[i], want[i])
		}
	}
}

// relay does not start rather than sign with nothing, and says of every secret
// what is wrong with it.
func TestNoSecretIsLeftOutSilently(t *testing.T) {
	const none = "0 bytes, want 24 to 64"
	for _, tc := range []struct {
		name, text, set, env string
		want                 []string
	}{
		{name: "an empty variable", env: "RELAY_SIGNING_SECRETS=", want: []string{"signing.secrets: item 1 is not a usable secret: " + none}},
		{name: "a blank variable", env: "RELAY_SIGNING_SECRETS= ", want: []string{none}},
		{name: "an empty flag", set: "signing.secrets=", want: []string{none}},
		{name: "a comma alone", set: "signing.secrets=,", want: []string{"item 1 ", "item 2 "}},
		{name: "a gap while one is replaced", set: "signing.secrets=," + oldSecret, want: []string{"item 1 is not a usable secret: " + none}},
		{name: "an empty text", text: "signing: {secrets: ''}", want: []string{none}},
		{name: "an empty item", text: "signing: {secrets: ['']}", want: []string{none}},
		{name: "no value", text: "signing: {secrets: }", want: []string{"has no value"}},
		{name: "an endpoint's empty variable", text: "endpoints: {a: {url: 'http://a'}}", env: "RELAY_ENDPOINTS_A_SECRETS=", want: []string{
			"endpoints.a.secrets: item 1 is not a usable secret: " + none,
		}},
		{name: "an endpoint's empty list", text: "endpoints: {a: {url: 'http://a', secrets: []}}", want: []string{
			"endpoints.a.secrets: names no secret: write one, or take the line out",
		}},
		{name: "everything at once", set: "signing.secrets=" + oldSecret + ",", text: `
endpoints:
  a: {url: 'http://a', secrets: [whsec_, ` + oldSecret + `, ` + publicKey + `]}
  b: {url: 'http://b', secrets: ` + privateKey[:40] + `}
`, want: []string{
			"signing.secrets = [hidden],: item 2 ", "endpoints.a.secrets = [hidden],[hidden],[hidden]: item 1 is not a usable secret: " + none,
			"endpoints.a.secrets = [hidden],[hidden],[hidden]: item 3 is not a usable secret: whpk_ is the public half",
			"endpoints.b.secrets = [hidden]: item 1 is not a usable secret: not in base64",
		}},
	} {
		var from sources
		if tc.set != "" {
			from.set = []string{tc.set}
		}
		if tc.env != "" {
			from.environ = []string{tc.env}
		}
		got := faultsOf(t, tc.text, from)
		all := strings.Join(got, "\n")
		if len(got) != len(tc.want) || strings.Contains(all, "whsec") {
			t.Errorf("%s: %d faults, want %d:\n%s", tc.name, len(got), len(tc.want), all)
		}
		for _, want := range tc.want {
			if !strings.Contains(all, want) {
				t.Errorf("%s: no %q in\n%s", tc.name, want, all)
			}
		}
	}
	if got := faultsOf(t, "signing: {secrets: []}", sources{}); len(got) != 0 {
		t.Errorf("to sign nothing, in so many words: %v", got)
	}
}

// canary stands wherever a secret can; no fault and no listing may repeat it.
const canary = "c4n4ry"

func TestFaultsShowNoSecrets(t *testing.T) {
	for _, tc := range []struct{ text, set string }{
		{set: "nats.url=nats://user:" + canary + "@:x"},
		{set: "nats.url=http://user:" + canary + "@host:4222"},
		{set: "nats.url=http://" + canary + "@host:4222"},
		{set: "nats.url=user:" + canary + "@host:4222"},
		{set: "nats.password=" + canary + "\xff"},
		{text: "nats: {password: [" + canary + "]}"},
		{set: "postgres.url=postgres://user:" + canary + "@host:port/db"},
		{set: "postgres.url=user:" + canary + "@host"},
		{set: "postgres.url=host=h port=x password=" + canary},
		{set: "postgres.url=host=h port=x password = '" + canary + " " + canary + "'"},
		{set: "postgres.url=postgres://host:port/db?user=u&password=" + canary},
		{set: "signing.secrets=whsec_" + canary},
		{set: "admin.token=" + canary},
		{text: "admin: {tokens: {a: {hash: " + canary + ", scopes: [metrics]}}}"},
		{text: "admin: {tokens: {a: {hash: ['sha256:" + canary + "'], scopes: [metrics]}}}"},
		{set: "sealing.keys=rsk_" + canary},
		{text: "sealing: {keys: [" + canary + ", rsk_" + canary + "]}"},
		{text: "admin: {token: {" + canary + ": 1}}"},
		{text: "endpoints: {a: {url: 'http://u:" + canary + "@x'}}"},
		{text: "endpoints: {a: {url: 'http://x?token=" + canary + "#frag'}}"},
		{text: "endpoints: {a: {url: 'http://x', headers: {Host: " + canary + "}}}"},
		{text: "endpoints: {a: {url: 'http://x', headers: {A: \"" + canary + "\\n\"}}}"},
	} {
		var from sources
		if tc.set != "" {
			from.set = []string{tc.set, "admin.address=0.0.0.0:0"}
		}
		got := faultsOf(t, tc.text, from)
		if len(got) == 0 {
			t.Errorf("%q%q: no fault", tc.text, tc.set)
		}
		if all := strings.Join(got, "\n"); strings.Contains(all, canary) && !strings.Contains(tc.text, canary+": 1") {
			t.Errorf("%q%q: shown in\n%s", tc.text, tc.set, all)
		}
	}
}

func TestSuggest(t *testing.T) {
	for word, want := range map[string]string{
		"timeuot": "; did you mean timeout?", "TIMEOUT": "; did you mean timeout?", "zebra": "", "": "",
	} {
		if got := suggest(word, []string{"timeout", "connect_timeout", "ports"}); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
