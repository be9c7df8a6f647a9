package relay

import "time"

// PauseKind says why an endpoint is paused.
type PauseKind string

// The kinds of a pause.
const (
	PauseCircuit  PauseKind = "circuit_open" // it keeps failing; who calls it next needs a lease
	PauseThrottle PauseKind = "throttled"    // it asked for rest, and may be called by anyone afterwards
	PauseProbe    PauseKind = "probing"      // the process that holds the lease sees whether it works again
	PauseOver     PauseKind = "over"         // an operator ended it; who calls the endpoint next needs a lease
	PauseDrain    PauseKind = "draining"     // no pause: under lane.<endpoint key>, who brings parked events back
)

// Pause is what relay's processes tell each other about an endpoint that is not
// to be called. Its JSON is part of relay's public contract: operators read it in
// the key-value bucket relay_pauses.
type Pause struct {
	Key      string    `json:"-"`                  // the endpoint's
	Kind     PauseKind `json:"kind"`               // why
	Until    time.Time `json:"until"`              // when it ends; of a probe, when its lease runs out
	Openings int       `json:"openings,omitempty"` // of a circuit: times in a row that it opened
	Worker   string    `json:"worker"`             // the process that says so
}
