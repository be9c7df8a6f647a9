package consumer

import (
	"cmp"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
)

// The streams, their durable consumers and their subjects. They are part of
// relay's public contract: operators see them in the nats CLI.
const (
	StreamQueue  = "WEBHOOKS"       // what producers publish
	StreamLater  = "WEBHOOKS_LATER" // what waits: schedules, lanes, and what has come due
	StreamDead   = "WEBHOOKS_DEAD"  // what will not be delivered, with a reason
	StreamPauses = "KV_" + BucketPauses
	DurableQueue = "relay"
	DurableDue   = "due"
	BucketPauses = "relay_pauses" // a key-value bucket: endpoints that no process is to call

	SubjectOutbound = "webhooks.outbound"
	subjectLater    = "webhooks.later."           // <endpoint key>.<event key>: one schedule; of a replay, .<generation> follows
	subjectDue      = "webhooks.due."             // <endpoint key>: schedules that fired, lanes that drain, replays
	subjectParked   = "webhooks.parked."          // <endpoint key>: the endpoint's lane
	subjectDead     = "webhooks.dead."            // <endpoint key>.<event key>: one dead letter
	subjectPauses   = "$KV." + BucketPauses + "." // <endpoint key>: until when, and why
)

// maxMessage bounds what a producer may store: 64 KiB below the payload that
// relay's servers allow, so that a copy with relay's headers always fits.
const maxMessage = relay.MaxBody

// maxPause bounds one value of the bucket of pauses; they are far smaller.
const maxPause = 4 << 10

// duplicateWindow is JetStream's own default.
const duplicateWindow = 2 * time.Minute

// DefaultMaxAckPending is how many messages of each durable consumer may be in
// hand, asleep or being set aside at once, over all processes. A hundred thousand
// events of a sick endpoint fit, with those that are behind them: none has to be
// moved before a healthy one is seen.
const DefaultMaxAckPending = 150_000

// StreamOptions are what an operator may choose about the streams.
type StreamOptions struct {
	// Replicas of every stream, in a cluster. Defaults to 1.
	Replicas int
	// DeadMaxAge is how long dead letters are kept. Defaults to 30 days.
	DeadMaxAge time.Duration
	// DuplicateWindow is for how long JetStream drops a message whose Nats-Msg-Id it
	// has stored before, whoever published that. At least 100 ms; it cannot be turned
	// off. Defaults to what the stream has, and to 2 minutes if it is new.
	DuplicateWindow time.Duration
	// AckWait of the durable consumers. Defaults to 45 s.
	AckWait time.Duration
	// MaxAckPending of the durable consumers. Defaults to
	// [DefaultMaxAckPending].
	MaxAckPending int
	// MemoryConsumers has the server keep in memory, and not in a file, what the
	// durable consumers have in hand. It is for a server that is never started without
	// [Setup], which makes them anew: they deliver again what was not acknowledged,
	// and the claims make that harmless. In a file the server writes
	// down all that is in hand up to ten times a second, under the lock of each
	// delivery: with a hundred thousand events put off, that is what healthy ones
	// wait for (see BENCHMARKS.md). Where it is not set, what is there is left.
	MemoryConsumers bool
}

func (o StreamOptions) withDefaults() StreamOptions {
	setDefault(&o.Replicas, 1)
	setDefault(&o.DeadMaxAge, 30*24*time.Hour)
	setDefault(&o.AckWait, 45*time.Second)
	setDefault(&o.MaxAckPending, DefaultMaxAckPending)
	return o
}

// StreamConfigs returns the configuration of the three streams, and of the one in
// which NATS keeps the bucket of pauses.
func StreamConfigs(o StreamOptions) []jetstream.StreamConfig {
	o = o.withDefaults()
	return []jetstream.StreamConfig{
		{
			Name:        StreamQueue,
			Description: "relay: webhooks to deliver; a message is removed when it has been delivered, moved or buried",
			Subjects:    []string{SubjectOutbound, SubjectOutbound + ".>"},
			Retention:   jetstream.WorkQueuePolicy,
			Storage:     jetstream.FileStorage,
			Discard:     jetstream.DiscardNew,
			MaxMsgSize:  maxMessage,
			Duplicates:  cmp.Or(o.DuplicateWindow, duplicateWindow),
			Replicas:    o.Replicas,
			AllowDirect: true,
			// With sync_interval always, a batch is how a bulk publish is fast.
			AllowAtomicPublish: true,
		},
		{
			Name:        StreamLater,
			Description: "relay: events that wait for their time or for their endpoint, and those that have come due",
			Subjects:    []string{subjectLater + ">", subjectDue + ">", subjectParked + ">"},
			Retention:   jetstream.WorkQueuePolicy,
			Storage:     jetstream.FileStorage,
			Discard:     jetstream.DiscardOld, // schedules refuse DiscardNew; there is no limit that could discard
			Duplicates:  2 * time.Minute,
			Replicas:    o.Replicas,
			AllowDirect: true,
			// Scheduling turns rollups on by itself: a newer schedule replaces the older one.
			AllowMsgSchedules:  true,
			AllowRollup:        true,
			AllowAtomicPublish: true,
		},
		{
			Name:              StreamDead,
			Description:       "relay: dead letters, each with its reason in Relay-Meta-Reason",
			Subjects:          []string{subjectDead + ">"},
			Retention:         jetstream.LimitsPolicy,
			Storage:           jetstream.FileStorage,
			Discard:           jetstream.DiscardNew,
			MaxMsgsPerSubject: 1, // one letter an event
			// A second one is refused. If it replaced the first, that one would come
			// back after a crash of the server, once the second was replayed.
			DiscardNewPerSubject: true,
			MaxAge:               o.DeadMaxAge,
			Duplicates:           2 * time.Minute,
			Replicas:             o.Replicas,
			AllowDirect:          true,
		},
		pausesConfig(o),
	}
}

// pausesConfig is a bucket as every NATS client makes one.
func pausesConfig(o StreamOptions) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              StreamPauses,
		Description:       "relay: endpoints that no process is to call, one key each; they run out by themselves",
		Subjects:          []string{subjectPauses + ">"},
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardNew,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgSize:        maxPause,
		MaxMsgsPerSubject: 1,
		Duplicates:        2 * time.Minute,
		Replicas:          o.Replicas,
		AllowDirect:       true,
		AllowRollup:       true,
		DenyDelete:        true,
		AllowMsgTTL:       true,
	}
}

// ConsumerConfigs returns the durable consumers by stream.
func ConsumerConfigs(o StreamOptions) map[string]jetstream.ConsumerConfig {
	o = o.withDefaults()
	durable := func(name, filter string) jetstream.ConsumerConfig {
		return jetstream.ConsumerConfig{
			Durable:       name,
			Description:   "relay's workers; all processes share it",
			FilterSubject: filter,
			AckPolicy:     jetstream.AckExplicitPolicy,
			DeliverPolicy: jetstream.DeliverAllPolicy,
			AckWait:       o.AckWait,
			MaxDeliver:    -1, // relay counts attempts in Postgres; a message that JetStream gave up would be stranded
			MaxAckPending: o.MaxAckPending,
			MaxWaiting:    2048,
			MemoryStorage: o.MemoryConsumers,
			// No BackOff: it would bend the delays of NakWithDelay.
		}
	}
	return map[string]jetstream.ConsumerConfig{
		StreamQueue: durable(DurableQueue, ""),
		StreamLater: durable(DurableDue, subjectDue+">"),
	}
}
