package relay

import "time"

// What relay accepts. A message beyond any of these is dead-lettered with the
// limit named. All limits stand here and in the README, and nowhere else.
const (
	MaxBody           = 1 << 20  // bytes of a message, envelope included
	MaxURL            = 2048     // bytes
	MaxID             = 256      // bytes of a webhook id
	MaxName           = 256      // bytes of an endpoint name, tenant, event type or idempotency key
	MaxHeaders        = 50       // extra request headers
	MaxHeaderBytes    = 8 << 10  // names and values of the extra request headers together
	MaxMessageHeader  = 24 << 10 // bytes of the producer's own NATS headers of one message
	MaxMetadata       = 8 << 10  // bytes of JSON
	MaxMaxAttempts    = 100
	MaxScheduleAhead  = 30 * 24 * time.Hour
	MaxExpiry         = 90 * 24 * time.Hour // expires_at, from the moment of acceptance
	MaxResponseHeader = 32 << 10
	MaxResponseBody   = 16 << 10  // bytes of a response that are kept
	MaxPEM            = 256 << 10 // bytes of an endpoint's authorities, certificate or key
	MaxUnrecorded     = 5         // attempts in a row that ended with a dead process: then the event is poison
	MaxSleep          = 15 * time.Minute
)
