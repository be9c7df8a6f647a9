package consumer

import (
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

// tell makes the log line, the events and the metrics of one webhook from the
// same attempts and verdict.
func (c *Consumer) tell(w relay.Webhook, attempts []relay.Attempt, v relay.Verdict) {
	about := aboutWebhook(w)
	for _, a := range attempts {
		c.log.Debug().Str("webhook_id", w.ID).Str("url", bare(w.URL)).Int("attempt", a.Number).
			Str("kind", string(a.Kind)).Int("status", a.Status).Str("class", a.Class).Str("error", a.Err).
			Dur("took_ms", a.Took).Msg("attempt")
		e := about
		e.Event, e.Attempt, e.Status, e.Class, e.Reason = "attempt", a.Number, a.Status, a.Class, a.Err
		e.TookMS = float64(a.Took) / float64(time.Millisecond)
		c.emit(e)
	}
	level := zerolog.InfoLevel
	if v.Action.Buried() {
		level = zerolog.WarnLevel
	}
	line := c.log.WithLevel(level).Str("webhook_id", w.ID).Str("key", about.Key).Str("url", about.URL).
		Str("endpoint", w.EndpointKey).Int("attempts", len(attempts)).Str("place", string(v.Place))
	if v.After > 0 {
		line = line.Dur("after_ms", v.After)
	}
	if v.Reason != "" {
		line = line.Str("reason", v.Reason)
	}
	line.Msg(v.Action.String())
	about.Event, about.Reason, about.Place, about.AfterMS = v.Action.String(), v.Reason, string(v.Place), v.After.Milliseconds()
	c.emit(about)
	c.Observe(w, attempts, v)
}

// aboutWebhook is what all events of a webhook have in common.
func aboutWebhook(w relay.Webhook) event {
	return event{
		At: time.Now().UTC(), Key: w.Key.String(), WebhookID: w.ID, Tenant: w.Tenant, EventType: w.EventType,
		Endpoint: w.EndpointKey, Name: w.EndpointName, URL: bare(w.URL), Generation: w.Generation,
	}
}

// emit publishes one event, if anybody listens, without waiting. It fails only while NATS is away
// for long, and then nobody listens.
func (c *Consumer) emit(e event) {
	subject := SubjectEvents + e.Event + "." + e.Endpoint
	if !c.Heard(subject) {
		return
	}
	text, ok := c.texts.Get().(*[]byte)
	if !ok {
		text = new([]byte)
	}
	*text = e.appendJSON((*text)[:0])
	if err := c.Conn.Publish(subject, *text); err != nil {
		c.log.Debug().Err(err).Str("event", e.Event).Msg("event not published")
	}
	c.texts.Put(text) // Publish has copied it
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
		Event: "circuit", At: time.Now().UTC(), Tenant: ep.Tenant, Endpoint: ep.Key, Name: ep.Name, URL: bare(ep.URL),
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
