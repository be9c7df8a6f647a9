package consumer

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
)

// The headers on relay's own copies of an event. They are believed only on
// subjects to which producers may not publish, and ignored everywhere else.
const (
	metaPrefix     = "Relay-Meta-"
	metaKey        = metaPrefix + "Key"        // the event key
	metaGeneration = metaPrefix + "Generation" // how often it was replayed
	metaID         = metaPrefix + "Id"         // the webhook id, whatever it was made from
	metaSubject    = metaPrefix + "Subject"    // where the producer published it
	metaReplayed   = metaPrefix + "Replayed"   // when, RFC 3339; starts a new expiry
	metaLane       = metaPrefix + "Lane"       // the copy was taken from its lane
	metaBury       = metaPrefix + "Bury"       // why the copy is to be buried instead of tried
	metaLetter     = metaPrefix + "Letter"     // the endpoint key in the subject of the letter that was replayed
	metaEndpoint   = metaPrefix + "Endpoint-Key"
	metaReason     = metaPrefix + "Reason" // why it is dead
	metaStatus     = metaPrefix + "Status" // failed or dead
	metaAttempts   = metaPrefix + "Attempts"
	metaLastStatus = metaPrefix + "Last-Status"
	metaBuried     = metaPrefix + "Buried" // when, RFC 3339
)

// meta is what relay knows about a message beyond what its producer wrote.
type meta struct {
	key        relay.Key
	generation int
	id         string
	subject    string
	replayed   time.Time
	fromLane   bool
	bury       string // why an operator gave it up; empty if nobody did
	letter     string // the endpoint key of the dead letter that was replayed; empty if none was
	copied     bool   // one of relay's own copies, not what the producer published
	again      bool   // a copy, or delivered before
}

// message is one delivery of one stored message.
type message struct {
	jetstream.Msg
	meta
	*hand
	delivered uint64 // for people only: it restarts on every copy and can go backwards
	stream    string // where it is stored
	seq       uint64 // as what
}

// newMessage reads relay's own headers from a delivery, if the message is on
// one of relay's own subjects.
func newMessage(m jetstream.Msg, h *hand) (message, error) {
	stored, err := m.Metadata()
	if err != nil {
		return message{}, err
	}
	msg := message{Msg: m, hand: h, delivered: stored.NumDelivered, stream: stored.Stream, seq: stored.Sequence.Stream}
	msg.meta = readMeta(m.Subject(), m.Headers())
	msg.again = msg.copied || stored.NumDelivered > 1
	if msg.key.Seq == 0 {
		msg.key = relay.NewKey(stored.Timestamp, stored.Sequence.Stream)
	}
	return msg, nil
}

// readMeta believes Relay-Meta headers on relay's own subjects only. A key
// that cannot be read is left zero: the message is then an event of its own.
func readMeta(subject string, h nats.Header) meta {
	m := meta{subject: subject}
	if strings.HasPrefix(subject, SubjectOutbound) {
		return m
	}
	m.copied = true
	key, err := relay.ParseKey(h.Get(metaKey))
	if err != nil || key.Seq > math.MaxInt64 || key.Time.Before(time.Unix(0, 0)) || key.Time.Year() > 9999 {
		return m // nor could Postgres hold such a key
	}
	m.key = key
	if n, err := strconv.ParseUint(h.Get(metaGeneration), 10, 31); err == nil {
		m.generation = int(n)
	}
	m.id = h.Get(metaID)
	if from := h.Get(metaSubject); from != "" {
		m.subject = from
	}
	m.replayed, _ = time.Parse(time.RFC3339, h.Get(metaReplayed))
	m.fromLane = h.Get(metaLane) != ""
	m.bury = h.Get(metaBury)
	m.letter = h.Get(metaLetter)
	return m
}

// copyOf returns a new message for subject with the body and the producer's
// own headers as they were, and relay's knowledge in Relay-Meta headers. What
// JetStream wrote or would act on (Nats-*) is left behind, and so is a header
// with a name that other clients may write and nats.go does not: it would
// refuse the whole copy.
func copyOf(subject string, h nats.Header, body []byte, m meta) *nats.Msg {
	out := nats.NewMsg(subject)
	out.Data = body
	for name, values := range h {
		if len(body) == 0 && name == "Status" {
			continue // nats.go would read the copy as an answer of the server
		}
		if writable(name) && !ofServers(http.CanonicalHeaderKey(name)) {
			out.Header[name] = values
		}
	}
	out.Header.Set(metaKey, m.key.String())
	out.Header.Set(metaGeneration, strconv.Itoa(m.generation))
	out.Header.Set(metaSubject, m.subject)
	if m.id != "" {
		out.Header.Set(metaID, m.id)
	}
	if !m.replayed.IsZero() {
		out.Header.Set(metaReplayed, m.replayed.UTC().Format(time.RFC3339))
	}
	if m.fromLane {
		out.Header.Set(metaLane, "1")
	}
	if m.bury != "" {
		out.Header.Set(metaBury, m.bury)
	}
	if m.letter != "" {
		out.Header.Set(metaLetter, m.letter)
	}
	return out
}

// ofServers reports whether a header, in canonical form, is JetStream's or
// relay's own and not the producer's.
func ofServers(name string) bool {
	return strings.HasPrefix(name, "Nats-") || strings.HasPrefix(name, metaPrefix)
}

// writable reports whether nats.go writes a header of this name: a token of
// RFC 9110. It reads any.
func writable(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}
