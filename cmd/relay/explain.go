package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/policy"
)

// explainCommand is relay explain.
type explainCommand struct {
	ID     string  `arg:"" name:"webhook-id" help:"The webhook-id header that the receiver sees."`
	Tenant *string `help:"Whose event it is; an empty text means no tenant's."`
	JSON   bool    `name:"json" help:"Show it as JSON."`
}

// Run tells the story of every event of a tenant with the webhook id, the oldest
// first: the id is the producer's, and may have been used twice. Whose is asked for
// where several tenants have one: what is shown of one is not another's to see.
func (c *explainCommand) Run(ctx context.Context, p *program) error {
	l, err := p.load()
	if err != nil {
		return err
	}
	l = l.withDevDatabase()
	if err := l.needs("postgres.url"); err != nil {
		return err
	}
	pool, err := l.openPool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	record := audit.New(pool, audit.Options{})
	if c.Tenant == nil {
		if err := c.ambiguous(ctx, record); err != nil {
			return err
		}
	}
	stories, err := record.Explain(ctx, c.ID, c.Tenant)
	if err != nil {
		return err
	}
	if len(stories) == 0 {
		return fmt.Errorf("the audit log knows no webhook %q%s: not published under this id, not yet taken off the queue (nats stream view WEBHOOKS), or older than postgres.retention", c.ID, c.ofTenant())
	}
	slices.Reverse(stories) // the newest where the eye ends
	events := make([]explained, len(stories))
	for i, s := range stories {
		events[i] = l.explain(s)
	}
	if c.JSON {
		e := json.NewEncoder(p.stdout)
		e.SetIndent("", "  ")
		return e.Encode(events)
	}
	for i, e := range events {
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		e.tell(p.stdout, time.Now())
	}
	return nil
}

// ambiguous is an error that lists the tenants which have events of the webhook id,
// if there are several.
func (c *explainCommand) ambiguous(ctx context.Context, record *audit.Log) error {
	owners, err := record.Owners(ctx, c.ID)
	if err != nil || len(owners) < 2 {
		return err
	}
	var list strings.Builder
	fmt.Fprintf(&list, "%q is a webhook id of several tenants; say whose:", c.ID)
	for _, o := range owners {
		fmt.Fprintf(&list, "\n  --tenant=%-20s  %s, the newest of %s", shellWord(o.Tenant), plural(o.Events, "event"), o.Newest.UTC().Format(stamp))
	}
	return usageError{errors.New(list.String())}
}

// ofTenant says whose, in an error.
func (c *explainCommand) ofTenant() string {
	switch {
	case c.Tenant == nil:
		return ""
	case *c.Tenant == "":
		return " that belongs to no tenant"
	}
	return fmt.Sprintf(" of tenant %q", *c.Tenant)
}

// shellWord is a text as the shell takes it, in quotes if it needs them.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_.:@/", r))
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// withDevDatabase names the Postgres of a relay dev that runs here, if the
// configuration names none.
func (l loaded) withDevDatabase() loaded {
	dir, err := filepath.Abs(l.Postgres.Data)
	if l.Postgres.URL != "" || l.Postgres.Data == "" || err != nil {
		return l
	}
	if _, err := os.Stat(filepath.Join(dir, ".s.PGSQL.5432")); err == nil {
		l.Postgres.URL = databaseURL("host='" + dir + "' user=relay dbname=relay")
		if key, err := readDevKey(dir); err == nil && len(l.Sealing.Keys) == 0 {
			l.Sealing.Keys = []relay.Secret{key}
		}
	}
	return l
}

// explained is one event and all that is known about it, in the words of the
// JSON that relay explain --json shows.
type explained struct {
	WebhookID    string      `json:"webhook_id"`
	Tenant       string      `json:"tenant,omitempty"`
	EventKey     string      `json:"event_key"`
	Status       string      `json:"status"`
	Place        string      `json:"place"`
	Reason       string      `json:"reason,omitempty"`
	Method       string      `json:"method"`
	URL          string      `json:"url"` // without its query
	Endpoint     string      `json:"endpoint,omitempty"`
	EndpointKey  string      `json:"endpoint_key"`
	Generation   int         `json:"generation"`
	Attempts     int         `json:"attempts"` // of this generation
	MaxAttempts  int         `json:"max_attempts"`
	AcceptedAt   time.Time   `json:"accepted_at"`
	Seq          uint64      `json:"seq"`
	ScheduledAt  time.Time   `json:"scheduled_at,omitzero"`
	ExpiresAt    time.Time   `json:"expires_at,omitzero"`
	NextDue      time.Time   `json:"next_due,omitzero"`
	EndedAt      time.Time   `json:"ended_at,omitzero"`
	ClaimedBy    string      `json:"claimed_by,omitempty"`
	ClaimedUntil time.Time   `json:"claimed_until,omitzero"`
	Circuit      string      `json:"circuit"`
	CircuitUntil time.Time   `json:"circuit_until,omitzero"`
	History      []attempted `json:"history"`
}

// attempted is one attempt.
type attempted struct {
	Generation int       `json:"generation"`
	Number     int       `json:"number"`
	Kind       string    `json:"kind"`
	Success    bool      `json:"success"`
	Status     int       `json:"status,omitempty"`
	StartedAt  time.Time `json:"started_at"`
	TookMS     float64   `json:"took_ms,omitempty"`
	Class      string    `json:"error_class,omitempty"`
	Error      string    `json:"error,omitempty"`
	Answer     string    `json:"answer,omitempty"` // the beginning of the body, if it is text
	Worker     string    `json:"worker,omitempty"`
}

// explain picks what people ask for from the audit log's story.
func (l loaded) explain(s audit.Story) explained {
	url, _, _ := strings.Cut(s.URL, "?") // where tokens hide
	e := explained{
		WebhookID: s.ID, Tenant: s.Tenant, EventKey: s.Key.String(), Status: s.Status, Place: string(s.Place), Reason: s.Reason,
		Method: s.Method, URL: url, Endpoint: s.EndpointName, EndpointKey: s.EndpointKey, Generation: s.Generation,
		MaxAttempts: cmp.Or(s.MaxAttempts, l.maxAttempts(s.Tenant, s.EndpointName)),
		AcceptedAt:  s.Key.Time, Seq: s.Key.Seq, ScheduledAt: s.ScheduledAt, ExpiresAt: s.ExpiresAt, NextDue: s.NextDue,
		EndedAt: s.DeliveredAt, ClaimedBy: s.ClaimedBy, ClaimedUntil: s.ClaimedUntil,
		Circuit: cmp.Or(s.Circuit, string(policy.Closed)), CircuitUntil: s.CircuitUntil, History: []attempted{},
	}
	if e.EndedAt.IsZero() {
		e.EndedAt = s.FailedAt
	}
	for _, a := range s.History {
		if a.Generation == s.Generation && a.Kind != relay.Unrecorded {
			e.Attempts++
		}
		e.History = append(e.History, attempted{
			Generation: a.Generation, Number: a.Number, Kind: string(a.Kind), Success: a.Success, Status: a.Status,
			StartedAt: a.Started, TookMS: float64(a.Took) / float64(time.Millisecond), Class: a.Class, Error: a.Err,
			Answer: beginning(a.Body), Worker: a.Worker,
		})
	}
	return e
}

// maxAttempts is how many attempts an event has whose message does not say.
func (l loaded) maxAttempts(tenant, endpoint string) int {
	e := l.Endpoints[endpoint]
	if e.Tenant != tenant {
		e = EndpointConfig{} // another tenant's, of the same name
	}
	if n := len(e.Schedule); n > 0 && e.MaxAttempts == 0 {
		return n + 1
	}
	return cmp.Or(e.MaxAttempts, l.Policy.MaxAttempts)
}

// beginning returns the first words of an answer; nothing if it is no text.
func beginning(body []byte) string {
	const most = 200
	if !utf8.Valid(body) {
		return ""
	}
	if runes := []rune(string(body)); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return string(body)
}
