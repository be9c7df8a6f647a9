package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/endpoint"
)

const (
	// registeredPath begins the paths of the endpoints that are registered.
	registeredPath = "/registered/"
	// headerVersion is a setting that the receiver can see: every request carries
	// the number of the settings that it was made by.
	headerVersion = "X-Campaign-Version"
	// overlap is how long a secret that was replaced signs yet.
	overlap = 4 * time.Second
	// effectWithin is in what time every process goes by what was changed.
	effectWithin = time.Second
)

// registered is an endpoint that an operator has registered by the service, as
// users do.
type registered struct {
	name, tenant, path string
	shaped             bool // by a template

	version int // of its settings
	secrets int // that it was given
}

// newRegistered are the registered endpoints of a campaign: with and without a
// tenant and a template, and two of one name, of which each tenant has its own.
func newRegistered() []*registered {
	return []*registered{
		{name: "shop", path: registeredPath + "shop"},
		{name: "orders", tenant: "acme", path: registeredPath + "orders"},
		{name: "chat", path: registeredPath + "chat", shaped: true},
		{name: "chat", tenant: "globex", path: registeredPath + "globex", shaped: true},
	}
}

// isRegistered reports whether a path is that of a registered endpoint.
func isRegistered(path string) bool { return strings.HasPrefix(path, registeredPath) }

// secret is the nth secret of an endpoint.
func (r *registered) secret(seed uint64, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %d", seed, r.path, n))
	return "whsec_" + base64.StdEncoding.EncodeToString(sum[:])
}

// fingerprint names a secret in the history.
func fingerprint(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:4])
}

// template puts the body between brackets.
const template = `'<' + body + '>'`

// body is the HTTP body that a payload becomes.
func (r *registered) body(payload string) string {
	if r.shaped {
		return "<" + payload + ">"
	}
	return payload
}

// settings are those that change with the version: the header shows it, and the
// others have relay build anew what it keeps of an endpoint.
func (r *registered) settings() map[string]any {
	return map[string]any{
		"headers":     map[string]string{headerVersion: fmt.Sprint(r.version)},
		"concurrency": 4 + r.version%5, "rate": 100 * (r.version % 2),
	}
}

// subject is where events of its tenant are published.
func (r *registered) subject() string {
	if r.tenant != "" {
		return consumer.SubjectTenant + r.tenant
	}
	return consumer.SubjectOutbound
}

// register has relay register the endpoints, and waits until every process must
// know of them. From then on Postgres itself notes each of their states.
func (w *world) register(ctx context.Context) error {
	if w.operator == nil {
		return nil
	}
	if _, err := w.pool.Exec(ctx, noteStates); err != nil {
		return fmt.Errorf("campaign: note the states of endpoints: %w", err)
	}
	for _, r := range w.operator.endpoints {
		r.version = 1
		in := r.settings()
		in["name"], in["tenant"], in["url"] = r.name, r.tenant, "http://"+w.endpoints.address()+r.path
		in["secrets"] = []string{w.operator.newSecret(r)}
		if r.shaped {
			in["template"] = map[string]string{"body": template}
		}
		err := w.eventually(ctx, startPatience, "register "+r.path, func(ctx context.Context) error {
			_, err := w.operator.request(ctx, "put", in)
			return err
		})
		if err != nil {
			return err
		}
	}
	wait(ctx, effectWithin)
	return nil
}

// noteStates has Postgres note each state of each endpoint when it is written.
// What came of an operator's request is not always known, and when: this is.
const noteStates = `
CREATE TABLE public.campaign_states (
	revision bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
	endpoint_key text NOT NULL, url text NOT NULL, held boolean NOT NULL, settings jsonb
);
CREATE FUNCTION public.campaign_note_state() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO public.campaign_states (revision, endpoint_key, url, held, settings)
	VALUES (NEW.revision, NEW.endpoint_key, NEW.url, coalesce(NEW.paused_at, NEW.disabled_at) IS NOT NULL, NEW.settings);
	RETURN NULL;
END $$;
CREATE TRIGGER campaign_note_state AFTER INSERT OR UPDATE ON relay.endpoint_settings
	FOR EACH ROW EXECUTE FUNCTION public.campaign_note_state()`

// state is a state of a registered endpoint, from a moment until the next one.
type state struct {
	at      time.Time
	held    bool
	version string
	secrets []signing // the newest first
}

// signing is a secret that signs, until it was replaced.
type signing struct {
	print string // its fingerprint
	until time.Time
}

// readStates reads what Postgres noted, by endpoint key and in order.
func (e *evidence) readStates(ctx context.Context, w *world) error {
	if w.operator == nil {
		return nil
	}
	sealer, err := endpoint.NewSealer(relay.Secret(w.sealing))
	if err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	found, err := w.pool.Query(ctx, `SELECT at, endpoint_key, url, held, settings FROM public.campaign_states ORDER BY revision`)
	if err != nil {
		return fmt.Errorf("campaign: read the states of endpoints: %w", err)
	}
	var at time.Time
	var key, address string
	var held bool
	var settings []byte
	_, err = pgx.ForEachRow(found, []any{&at, &key, &address, &held, &settings}, func() error {
		s, err := readState(sealer, key, address, settings)
		if err != nil {
			return fmt.Errorf("campaign: state of endpoint %s: %w", key, err)
		}
		s.at, s.held = at, held
		e.states[key] = append(e.states[key], s)
		return nil
	})
	return err
}

// readState opens what relay has sealed: the secrets, and the header with the version.
// They are bound to the endpoint and to the origin of its URL.
func readState(sealer *endpoint.Sealer, key, at string, settings []byte) (s state, err error) {
	u, err := url.Parse(at)
	if err != nil {
		return s, err
	}
	about := key + " " + u.Scheme + "://" + u.Host + " "
	var in struct {
		Secrets []json.RawMessage `json:"secrets"`
		Headers map[string]string `json:"headers"`
	}
	if err := json.Unmarshal(settings, &in); err != nil {
		return s, err
	}
	if s.version, err = sealer.Open(in.Headers[headerVersion], about+"headers."+headerVersion); err != nil {
		return s, err
	}
	for _, raw := range in.Secrets {
		var one struct {
			Secret string    `json:"secret"`
			Until  time.Time `json:"until"`
		}
		if json.Unmarshal(raw, &one.Secret) != nil {
			if err := json.Unmarshal(raw, &one); err != nil {
				return s, err
			}
		}
		plain, err := sealer.Open(one.Secret, about+"secrets")
		if err != nil {
			return s, err
		}
		s.secrets = append(s.secrets, signing{print: fingerprint(plain), until: one.Until})
	}
	return s, nil
}

// refusedError is the answer of a relay that will not do what it was asked.
type refusedError struct{ code, text string }

func (e *refusedError) Error() string { return e.code + ": " + e.text }

// request asks whichever relay answers.
func (o *operator) request(ctx context.Context, verb string, in map[string]any) ([]byte, error) {
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	m := &nats.Msg{Subject: endpoint.SubjectEndpoints + verb, Data: data, Header: nats.Header{endpoint.HeaderBy: {"campaign"}}}
	answer, err := o.w.conn.RequestMsgWithContext(ctx, m)
	if err != nil {
		return nil, err
	}
	if code := answer.Header.Get("Nats-Service-Error-Code"); code != "" {
		return nil, &refusedError{code, answer.Header.Get("Nats-Service-Error")}
	}
	return answer.Data, nil
}

// final reports whether asking again would be of no use.
func final(err error) bool {
	refused, ok := errors.AsType[*refusedError](err)
	return ok && refused.code == "400"
}
