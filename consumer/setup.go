package consumer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Change is what [Setup] did, or what [Compare] found, about one stream or
// consumer.
type Change struct {
	Name string // WEBHOOKS, or WEBHOOKS/relay
	Done string // created, updated, made anew, unchanged, missing, different

	// Differs says what was not as relay needs it, one setting each.
	Differs []string
}

// Setup creates the streams and durable consumers that are missing and updates
// those that differ from what relay needs; settings that relay does not care
// for (limits, placement, replicas of an existing stream) are left as they
// are. A stream that is already right is not touched: an update with an equal
// configuration can lose delayed messages (nats-server #5526). A durable consumer
// that is to move from a file into memory is deleted and made anew.
func Setup(ctx context.Context, js jetstream.JetStream, o StreamOptions) ([]Change, error) {
	return eachAsset(ctx, js, o, true)
}

// Compare reports what [Setup] would do, and changes nothing.
func Compare(ctx context.Context, js jetstream.JetStream, o StreamOptions) ([]Change, error) {
	return eachAsset(ctx, js, o, false)
}

func eachAsset(ctx context.Context, js jetstream.JetStream, o StreamOptions, change bool) ([]Change, error) {
	var changes []Change
	durables := ConsumerConfigs(o)
	for _, want := range StreamConfigs(o) {
		done, differs, err := ensureStream(ctx, js, want, o, change)
		if err != nil {
			return changes, fmt.Errorf("consumer: stream %s: %w", want.Name, err)
		}
		changes = append(changes, Change{Name: want.Name, Done: done, Differs: differs})
		durable, ok := durables[want.Name]
		if !ok {
			continue
		}
		done, differs, err = ensureConsumer(ctx, js, want.Name, durable, change)
		if err != nil {
			return changes, fmt.Errorf("consumer: durable consumer %s/%s: %w", want.Name, durable.Durable, err)
		}
		changes = append(changes, Change{Name: want.Name + "/" + durable.Durable, Done: done, Differs: differs})
	}
	return changes, nil
}

// comparison collects what is not as relay needs it.
type comparison []string

// set makes one setting what relay wants, and notes it if it was not.
func set[T any](c *comparison, name string, have *T, want T) {
	if !reflect.DeepEqual(*have, want) {
		*c = append(*c, fmt.Sprintf("%s is %v, want %v", name, *have, want))
		*have = want
	}
}

func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, o StreamOptions, change bool) (string, []string, error) {
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if !change {
			return "missing", nil, nil
		}
		_, err = js.CreateStream(ctx, want)
		return "created", nil, err
	}
	if err != nil {
		return "", nil, err
	}
	next := stream.CachedInfo().Config
	var c comparison
	slices.Sort(next.Subjects)
	set(&c, "subjects", &next.Subjects, slices.Sorted(slices.Values(want.Subjects)))
	set(&c, "retention", &next.Retention, want.Retention)
	set(&c, "discard", &next.Discard, want.Discard)
	if want.MaxMsgSize != 0 {
		set(&c, "max_msg_size", &next.MaxMsgSize, want.MaxMsgSize)
	}
	if want.Discard == jetstream.DiscardOld { // a limit would remove events that wait
		set(&c, "max_msgs", &next.MaxMsgs, -1)
		set(&c, "max_bytes", &next.MaxBytes, -1)
		set(&c, "max_msgs_per_subject", &next.MaxMsgsPerSubject, -1)
	}
	if want.MaxMsgsPerSubject != 0 {
		set(&c, "max_msgs_per_subject", &next.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	}
	if want.Name == StreamQueue && o.DuplicateWindow != 0 { // else nobody has said
		set(&c, "duplicate_window", &next.Duplicates, want.Duplicates)
	}
	set(&c, "max_age", &next.MaxAge, want.MaxAge)
	set(&c, "allow_direct", &next.AllowDirect, true)
	set(&c, "discard_new_per_subject", &next.DiscardNewPerSubject, want.DiscardNewPerSubject)
	set(&c, "allow_msg_schedules", &next.AllowMsgSchedules, want.AllowMsgSchedules)
	if want.AllowMsgTTL { // once it is on it stays on
		set(&c, "allow_msg_ttl", &next.AllowMsgTTL, true)
	}
	set(&c, "allow_atomic", &next.AllowAtomicPublish, want.AllowAtomicPublish)
	if len(c) == 0 {
		return "unchanged", nil, nil
	}
	if !change {
		return "different", c, nil
	}
	_, err = js.UpdateStream(ctx, next)
	return "updated", c, err
}

func ensureConsumer(ctx context.Context, js jetstream.JetStream, stream string, want jetstream.ConsumerConfig, change bool) (string, []string, error) {
	consumer, err := js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		if !change {
			return "missing", nil, nil
		}
		_, err = js.CreateConsumer(ctx, stream, want)
		return "created", nil, err
	}
	if err != nil {
		return "", nil, err
	}
	next := consumer.CachedInfo().Config
	var c comparison
	set(&c, "filter_subject", &next.FilterSubject, want.FilterSubject)
	set(&c, "ack_policy", &next.AckPolicy, want.AckPolicy)
	set(&c, "ack_wait", &next.AckWait, want.AckWait)
	set(&c, "max_deliver", &next.MaxDeliver, want.MaxDeliver)
	set(&c, "max_ack_pending", &next.MaxAckPending, want.MaxAckPending)
	set(&c, "backoff", &next.BackOff, nil)
	onFile := change && want.MemoryStorage && !next.MemoryStorage // nobody else need mend it
	if onFile {
		set(&c, "mem_storage", &next.MemoryStorage, true)
	}
	if len(c) == 0 {
		return "unchanged", nil, nil
	}
	if !change {
		return "different", c, nil
	}
	if !onFile {
		_, err = js.UpdateConsumer(ctx, stream, next)
		return "updated", c, err
	}
	// A server does not move a consumer from a file into memory. What it had in
	// hand is delivered again by the new one.
	if err := js.DeleteConsumer(ctx, stream, want.Durable); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return "", c, err
	}
	_, err = js.CreateConsumer(ctx, stream, next)
	return "made anew", c, err
}
