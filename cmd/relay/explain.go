package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/policy"
)

// explainCommand is relay explain.
type explainCommand struct {
	ID   string `arg:"" name:"webhook-id" help:"The webhook-id header that the receiver sees."`
	JSON bool   `name:"json" help:"Show it as JSON."`
}

// Run tells the story of every event with the webhook id, the oldest first: the
// id is the producer's, and may have been used twice.
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
	stories, err := audit.New(pool, audit.Options{}).Explain(ctx, c.ID)
	if err != nil {
		return err
	}
	if len(stories) == 0 {
		return fmt.Errorf("the audit log knows no webhook %q: not published under this id, not yet taken off the queue (nats stream view WEBHOOKS), or older than postgres.retention", c.ID)
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
		WebhookID: s.ID, EventKey: s.Key.String(), Status: s.Status, Place: string(s.Place), Reason: s.Reason,
		Method: s.Method, URL: url, Endpoint: s.EndpointName, EndpointKey: s.EndpointKey, Generation: s.Generation,
		MaxAttempts: cmp.Or(s.MaxAttempts, l.maxAttempts(s.EndpointName)),
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
func (l loaded) maxAttempts(endpoint string) int {
	e := l.Endpoints[endpoint]
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
