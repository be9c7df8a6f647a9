package consumer

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
)

// SubjectEvents is where relay tells what happened, for whoever listens:
// relay.events.<what>.<endpoint key>. Nobody has to; the record is the audit
// log, and an event that nobody heard is gone.
const SubjectEvents = "relay.events."

// event is the JSON of one message on [SubjectEvents].
type event struct {
	Event      string    `json:"event"`
	At         time.Time `json:"at"`
	Key        string    `json:"key,omitempty"`
	WebhookID  string    `json:"webhook_id,omitempty"`
	Tenant     string    `json:"tenant,omitempty"`
	EventType  string    `json:"event_type,omitempty"`
	Endpoint   string    `json:"endpoint"` // its key
	Name       string    `json:"endpoint_name,omitempty"`
	URL        string    `json:"url,omitempty"` // without its query
	Generation int       `json:"generation,omitempty"`
	Attempt    int       `json:"attempt,omitempty"`
	Status     int       `json:"status,omitempty"`
	Class      string    `json:"error_class,omitempty"`
	TookMS     float64   `json:"took_ms,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Place      string    `json:"place,omitempty"`
	AfterMS    int64     `json:"after_ms,omitempty"`
}

// tell makes the log line, the events and the metrics of one webhook from the
// same attempts and verdict.
func (c *Consumer) tell(w relay.Webhook, attempts []relay.Attempt, v relay.Verdict) {
	for _, a := range attempts {
		c.log.Debug().Str("webhook_id", w.ID).Str("url", bare(w.URL)).Int("attempt", a.Number).
			Str("kind", string(a.Kind)).Int("status", a.Status).Str("class", a.Class).Str("error", a.Err).
			Dur("took_ms", a.Took).Msg("attempt")
		c.publish(w, event{
			Event: "attempt", Attempt: a.Number, Status: a.Status, Class: a.Class,
			TookMS: float64(a.Took) / float64(time.Millisecond), Reason: a.Err,
		})
	}
	level := zerolog.InfoLevel
	if v.Action.Buried() {
		level = zerolog.WarnLevel
	}
	line := c.log.WithLevel(level).Str("webhook_id", w.ID).Str("key", w.Key.String()).Str("url", bare(w.URL)).
		Str("endpoint", w.EndpointKey).Int("attempts", len(attempts)).Str("place", string(v.Place))
	if v.After > 0 {
		line = line.Dur("after_ms", v.After)
	}
	if v.Reason != "" {
		line = line.Str("reason", v.Reason)
	}
	line.Msg(v.Action.String())
	c.publish(w, event{Event: v.Action.String(), Reason: v.Reason, Place: string(v.Place), AfterMS: v.After.Milliseconds()})
	c.Observe(w, attempts, v)
}

// publish tells one event, without waiting. It fails only while NATS is away
// for long, and then nobody listens.
func (c *Consumer) publish(w relay.Webhook, e event) {
	e.At = time.Now().UTC()
	e.Key, e.WebhookID, e.Tenant, e.EventType = w.Key.String(), w.ID, w.Tenant, w.EventType
	e.Endpoint, e.Name, e.URL, e.Generation = w.EndpointKey, w.EndpointName, bare(w.URL), w.Generation
	c.emit(e)
}

func (c *Consumer) emit(e event) {
	data, err := json.Marshal(e)
	if err == nil {
		err = c.Conn.Publish(SubjectEvents+e.Event+"."+e.Endpoint, data)
	}
	if err != nil {
		c.log.Debug().Err(err).Str("event", e.Event).Msg("event not published")
	}
}

// CircuitChanged publishes the change of an endpoint's circuit. It does not
// block and is safe for concurrent use.
func (c *Consumer) CircuitChanged(ep relay.Endpoint, state string, until time.Time) {
	level := zerolog.InfoLevel
	if state == "open" {
		level = zerolog.WarnLevel
	}
	line := c.log.WithLevel(level).Str("url", bare(ep.URL)).Str("endpoint", ep.Key)
	if ep.Name != "" {
		line = line.Str("endpoint_name", ep.Name)
	}
	if !until.IsZero() {
		line = line.Time("until", until)
	}
	line.Msg("circuit " + state)
	c.emit(event{
		Event: "circuit", At: time.Now().UTC(), Endpoint: ep.Key, Name: ep.Name, URL: bare(ep.URL),
		Reason: state, AfterMS: max(0, time.Until(until).Milliseconds()),
	})
}

// bare is a URL without its query, which may hold a secret.
func bare(url string) string {
	before, _, _ := strings.Cut(url, "?")
	return before
}

// left notes that a message was left unacknowledged: it will come again. That a
// stream refuses everything was said when it began.
func (c *Consumer) left(w relay.Webhook, step string, err error) {
	level := zerolog.WarnLevel
	if _, known := errors.AsType[Refusal](err); known {
		level = zerolog.DebugLevel
	}
	c.log.WithLevel(level).Err(err).Str("webhook_id", w.ID).Str("key", w.Key.String()).Str("step", step).
		Msg("left unsettled; it will be delivered again")
}
