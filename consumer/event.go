package consumer

import (
	"encoding/json"
	"strconv"
	"time"
)

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

// appendJSON appends what [json.Marshal] makes of the event. Each webhook has two
// events at least, and reflection took as long as the whole rest of telling them.
func (e *event) appendJSON(to []byte) []byte {
	o := object(append(to, '{'))
	o.text("event", e.Event)
	o.name("at")
	o = append(e.At.AppendFormat(append(o, '"'), time.RFC3339Nano), '"')
	o.textIfAny("key", e.Key)
	o.textIfAny("webhook_id", e.WebhookID)
	o.textIfAny("tenant", e.Tenant)
	o.textIfAny("event_type", e.EventType)
	o.text("endpoint", e.Endpoint)
	o.textIfAny("endpoint_name", e.Name)
	o.textIfAny("url", e.URL)
	o.numberIfAny("generation", float64(e.Generation))
	o.numberIfAny("attempt", float64(e.Attempt))
	o.numberIfAny("status", float64(e.Status))
	o.textIfAny("error_class", e.Class)
	o.numberIfAny("took_ms", e.TookMS)
	o.textIfAny("reason", e.Reason)
	o.textIfAny("place", e.Place)
	o.numberIfAny("after_ms", float64(e.AfterMS))
	return append(o, '}')
}

// object is a JSON object being written.
type object []byte

func (o *object) name(name string) {
	if (*o)[len(*o)-1] != '{' {
		*o = append(*o, ',')
	}
	*o = append(append(append(*o, '"'), name...), '"', ':')
}

func (o *object) text(name, value string) {
	o.name(name)
	if plain(value) {
		*o = append(append(append(*o, '"'), value...), '"')
		return
	}
	quoted, _ := json.Marshal(value) // a string always has a JSON
	*o = append(*o, quoted...)
}

func (o *object) textIfAny(name, value string) {
	if value != "" {
		o.text(name, value)
	}
}

func (o *object) numberIfAny(name string, value float64) {
	if value != 0 {
		o.name(name)
		*o = strconv.AppendFloat(*o, value, 'f', -1, 64)
	}
}

// plain reports whether a text stands in JSON as it is.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}
