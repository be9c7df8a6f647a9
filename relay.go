// Package relay holds the words that every part of relay speaks: [Webhook],
// [Endpoint], [Attempt], [Verdict] and [Claim]. It imports the standard
// library only; everyone imports it, and it imports no one.
//
// # The life of a webhook
//
// A producer publishes an event to the JetStream subject webhooks.outbound.
// Package consumer takes it off the stream and reads it into a [Webhook]. The
// audit log hands out a [Claim]: permission to make one attempt, written down
// before the attempt is made. Package policy asks whether the endpoint may be
// called now, package delivery makes one HTTP exchange and returns an
// [Attempt], and policy judges it: a [Verdict]. The audit log records both,
// and only then is the message settled: acknowledged, put to sleep, moved to
// another shelf, or laid among the dead letters with a reason.
//
// A failed attempt is a value, not an error. An error means that relay itself
// could not do its work.
package relay

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Key names one event for ever: the moment and the sequence at which JetStream
// first stored it. It travels with every copy of the event and is the primary
// key of its row. The webhook id belongs to the producer and is not unique, so
// it is never used as a key.
type Key struct {
	Time time.Time // UTC, whole microseconds: Postgres keeps no more
	Seq  uint64
}

// NewKey makes a key from JetStream's metadata, cutting the time to whole
// microseconds.
func NewKey(stored time.Time, seq uint64) Key {
	return Key{Time: stored.UTC().Truncate(time.Microsecond), Seq: seq}
}

// String returns "<Unix microseconds>-<sequence>": one subject token.
func (k Key) String() string {
	return strconv.FormatInt(k.Time.UnixMicro(), 10) + "-" + strconv.FormatUint(k.Seq, 10)
}

// ParseKey reads what [Key.String] wrote.
func ParseKey(s string) (Key, error) {
	micros, seq, ok := strings.Cut(s, "-")
	if !ok {
		return Key{}, fmt.Errorf("event key %q: want <microseconds>-<sequence>", s)
	}
	us, err := strconv.ParseInt(micros, 10, 64)
	if err != nil {
		return Key{}, fmt.Errorf("event key %q: %w", s, err)
	}
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return Key{}, fmt.Errorf("event key %q: %w", s, err)
	}
	return Key{Time: time.UnixMicro(us).UTC(), Seq: n}, nil
}

// Webhook is one event on its way to one endpoint. It is never changed after
// it has been decoded, so it is safe to share.
type Webhook struct {
	Key        Key
	Generation int // 0 as published; each replay adds 1
	// Again is set if relay had the event in hand before, so that it is likely
	// to be in the audit log. It is a hint: nothing but speed depends on it.
	Again bool

	ID             string // the webhook-id header; the same over all attempts and replays
	Tenant         string
	EventType      string
	EndpointName   string // the registered endpoint that the producer named, or ""
	EndpointKey    string // which circuit, lane and limits it belongs to
	URL            string // as sent, query included
	Method         string
	ContentType    string
	Header         http.Header // extra request headers the producer asked for
	Trace          http.Header // traceparent, tracestate, baggage
	Body           []byte      // the HTTP body, byte for byte as published
	MaxAttempts    int         // 0: the endpoint's or the policy's default
	ScheduledAt    time.Time   // zero: at once
	ExpiresAt      time.Time   // zero: not while its endpoint is held
	IdempotencyKey string
	Metadata       []byte // a JSON object, or nil
}

// InvalidEndpoint is the EndpointKey of an event whose endpoint could not be
// made out. It is no possible hash, so it never meets a real one.
const InvalidEndpoint = "_invalid"

// Endpoint is where webhooks go and how they are to be sent there. A zero
// field means the default of the package that reads it.
type Endpoint struct {
	Key    string // fixed length, one subject token; see endpoint.Key
	Name   string // "" if not registered
	Tenant string // whose it is; "" of who runs relay alone
	URL    string

	// Held says why nothing is sent to it now: somebody paused or disabled it. ""
	// if it may be called. Its events are kept until it is released.
	Held string
	// Released is when it was last held no longer; zero if it never was held. What
	// names no expires_at gets its whole time from then on.
	Released time.Time

	Secrets      []Secret // whsec_… or whsk_…; each signs every request
	Header       http.Header
	Timeout      time.Duration // of one whole exchange
	Concurrency  int           // exchanges at a time, in one process
	Rate         float64       // requests per second; 0 means unlimited
	Burst        int
	Schedule     []time.Duration // waits before the 2nd, 3rd, … attempt
	MaxAttempts  int
	SuccessCodes []CodeRange
	ContentType  string // of webhooks that name none; "" means application/json
	HTTP2        bool
	TLS          *TLS   // nil: the system's authorities and no certificate of its own
	Shape        Shaper // nil: webhooks are sent as they were published
	Heed         bool   // heed the response header webhook-delivery
}

// TLS is what relay needs to know of an endpoint that the system's authorities do
// not vouch for, or that wants to see a certificate. It is never changed, so
// that connections can be told apart by the pointer.
type TLS struct {
	Authorities []byte // PEM; trusted for this endpoint instead of the system's. Nil: the system's.
	Certificate []byte // PEM; relay's own, with the chain. Nil: none.
	Key         Secret // PEM; of Certificate
}

// Format hides all of it. Where fmt meets a pointer under a verb that is not for
// pointers, it prints what is behind it, and asks no method there: not even that of
// Key.
func (TLS) Format(to fmt.State, _ rune) { _, _ = to.Write([]byte(hidden)) }

// Shaper gives a webhook the form that its endpoint understands: another body,
// other headers, another URL query. It changes nothing in w itself, and is safe
// for concurrent use. An error means that it never will: the webhook is dead. But
// [ErrNotReady] means that it will soon.
type Shaper interface {
	Shape(w Webhook) (Webhook, error)
}

// ErrNotReady is what a [Shaper] says that is still being made.
var ErrNotReady = errors.New("the endpoint's template is being compiled")

// CodeRange is a range of HTTP status codes, both ends included.
type CodeRange struct{ From, To int }

// Secret is a signing secret. It prints as [hidden], whatever prints it; only
// an explicit string conversion shows it.
type Secret string

const hidden = "[hidden]"

// String hides the secret.
func (Secret) String() string { return hidden }

// Format hides the secret from every verb of fmt: %d would show a mere Stringer.
func (Secret) Format(to fmt.State, _ rune) { _, _ = to.Write([]byte(hidden)) }

// MarshalText hides the secret from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// AttemptID names one attempt: a UUIDv7 made by relay before the request.
type AttemptID [16]byte

// String returns the usual form with hyphens.
func (id AttemptID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// Kind says what an attempt came to.
type Kind string

// The kinds of attempt, as they stand in relay.attempts.kind.
const (
	Response   Kind = "response"   // the endpoint answered with a status
	Error      Kind = "error"      // no answer: network, TLS, timeout
	Blocked    Kind = "blocked"    // relay refused to call this address
	Unrecorded Kind = "unrecorded" // claimed, then the process died; it may or may not have been sent
)

// Attempt is one HTTP exchange and what came of it.
type Attempt struct {
	ID         AttemptID
	Number     int // 1 for the first of this generation; unrecorded ones are not counted
	Generation int
	Started    time.Time
	Took       time.Duration
	Kind       Kind
	Success    bool // judged by policy
	Failing    bool // it counts against the endpoint; judged by policy
	Status     int  // 0 if there was no response
	Header     http.Header
	Body       []byte // the first part of the response, untouched
	Truncated  bool   // the response was longer than Body
	Class      string // error class: dns, connect, timeout, tls, reset, protocol, blocked, request, canceled, panic; "" for a response
	Err        string // for people; never contains the URL's query
	Unanswered bool   // a reused connection broke before a byte of the answer: trying once more at once is safe
}

// Failing is an endpoint that has not answered a webhook with a success for a
// while.
type Failing struct {
	EndpointKey string
	Since       time.Time // its first failure after its last success
	Last        time.Time // its last failure
}

// Action is what is to happen to a webhook.
type Action int

// The actions. Each names the webhook's state or its next step.
const (
	Send       Action = iota // a claim was granted: make the attempt
	Delivered                // answered with a success code
	Retry                    // failed; attempt again after Verdict.After
	Defer                    // not attempted: the endpoint may not be called now; uses up no attempt
	Failed                   // all attempts are used up: dead letter
	Dead                     // will never succeed: dead letter
	Duplicate                // repeats an event with the same idempotency key
	Wait                     // nothing to do before Verdict.After; nothing to record
	Superseded               // another process has it now, or a newer generation exists
)

var actions = [...]string{
	"send", "delivered", "retry", "defer", "failed", "dead", "duplicate", "wait", "superseded",
}

// String returns the action in lower case.
func (a Action) String() string { return actions[a] }

// Terminal reports whether nothing more will happen to the webhook in this
// generation.
func (a Action) Terminal() bool {
	return a == Delivered || a == Failed || a == Dead || a == Duplicate
}

// Buried reports whether the webhook belongs among the dead letters.
func (a Action) Buried() bool { return a == Failed || a == Dead }

// Place is where an event waits or came to rest, as it stands in
// relay.webhooks.place.
type Place string

// The places. See DESIGN: three shelves beside the queue.
const (
	InQueue     Place = "queue"        // on its stream, or in a worker's hands
	Asleep      Place = "asleep"       // NakWithDelay
	Scheduled   Place = "schedule"     // a JetStream message schedule
	Parked      Place = "lane"         // behind an open circuit
	DeadLetters Place = "dead letters" // in the dead-letter stream
	Gone        Place = "gone"         // acknowledged; only the record is left
)

// Verdict is what was decided about a webhook.
type Verdict struct {
	Action Action
	After  time.Duration // for Retry, Defer and Wait; never negative
	Reason string        // for people and for the dead letter
	Place  Place         // set by consumer before it is recorded
	// Disable says why the endpoint is to be called no more; "" if it may be. A
	// Retry with it is one that waits until somebody enables the endpoint again.
	Disable string
}

// Claim is the audit log's answer to "may I make an attempt at this webhook
// now?". Only if Verdict.Action is [Send] may it be made, under this ID.
type Claim struct {
	ID      AttemptID
	Until   time.Time     // by this process's clock; the request must be over by then
	Lease   time.Duration // how long it was granted for
	Made    int           // attempts already made in this generation, unrecorded ones not counted
	Last    int           // status of the latest attempt; 0 if there was none, or no answer
	Verdict Verdict
}
