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
	MaxSecrets        = 32        // that sign the requests to one endpoint at a time
	MaxPEM            = 256 << 10 // bytes of an endpoint's authorities, certificate or key
	MaxUnrecorded     = 5         // attempts in a row that ended with a dead process: then the event is poison
	MaxSleep          = 15 * time.Minute

	MaxTemplate       = 16 << 10        // bytes of a template's expressions together
	MaxTemplateCost   = 500_000         // units of work to shape one webhook, in CEL's measure
	MaxTemplateTime   = 5 * time.Second // that the shaping of one webhook may take; its cost ends it long before
	MaxTemplateValues = 100_000         // values in a payload that a template looks at
	MaxTemplateDepth  = 64              // lists and objects within each other in such a payload
)
