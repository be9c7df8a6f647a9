// Package bench measures a relay from outside: it publishes webhooks at a rate
// or in a burst, is the endpoints that receive them, healthy and sick, and says
// how fast they came, at what cost, and whether all of them did.
//
//	bench.go     the run: this file
//	kinds.go     how endpoints behave, and which event goes to which
//	publish.go   the load
//	receiver.go  the endpoints; conn.go is their HTTP
//	usage.go     the CPU time and memory of what is measured
//	report.go    the figures; text.go and plot.go show them
//
// The command relay bench is its front. Folder floor has the bare loop that
// relay is compared with, folder suite the scenarios of BENCHMARKS.md.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Options say what to measure. Conn is required; every other field has a
// default. A run is one measurement: [Run] does not keep anything.
type Options struct {
	// Conn is a producer's connection to relay's NATS.
	Conn *nats.Conn `json:"-"`
	// Subject to publish to. Defaults to webhooks.outbound.
	Subject string `json:"subject"`

	// Events to publish. Defaults to 20,000.
	Events int `json:"events"`
	// Rate of publishing, per second. 0, the default, is as fast as possible.
	Rate float64 `json:"rate"`
	// Payload is the size of a body in bytes. Defaults to 1024.
	Payload int `json:"payload"`
	// Async has a burst published one event at a time, without waiting for
	// each answer. Defaults to atomic batches, where the server takes them.
	Async bool `json:"async"`
	// WarmUp events go to a healthy endpoint before anything is measured.
	// Defaults to 1,000; there is always one.
	WarmUp int `json:"warm_up"`

	// Endpoints that take the events in turn. Defaults to 1.
	Endpoints int `json:"endpoints"`
	// Shares of the endpoints that are sick. Defaults to none.
	Shares Shares `json:"shares,omitempty"`
	// Slow is how long slow endpoints take to answer. Defaults to 10 s.
	Slow time.Duration `json:"slow"`
	// FlapEvery is how long a flapping endpoint stays as it is. Defaults to 5 s.
	FlapEvery time.Duration `json:"flap_every"`

	// Queued events are published first, in one go, for one endpoint of the
	// kind QueuedAs. Defaults to none; the kind to Hang.
	Queued   int  `json:"queued"`
	QueuedAs Kind `json:"queued_as"`
	// Settle has the load wait until relay has taken all queued events off its
	// queue: delivered them, or set them aside. It needs the right to ask for
	// the state of the stream Stream.
	Settle bool `json:"settle"`
	// HealAfter makes the endpoint of the queued events well so long after
	// the load began, and has the run wait for them too. 0 is never.
	HealAfter time.Duration `json:"heal_after"`
	// HealedAs is how it behaves from then on: Healthy, or Slow for an endpoint
	// that has a speed of its own. Defaults to Healthy.
	HealedAs Kind `json:"healed_as,omitempty"`

	// Listen is where the receiver listens. Defaults to 127.0.0.1:8424.
	Listen string `json:"listen"`
	// Refusing is an address of this machine where nothing listens. Defaults to
	// the receiver's port on 127.0.0.2.
	Refusing string `json:"refusing"`

	// Metrics are URLs of /metrics pages of what is measured, for CPU time and
	// memory. Defaults to none.
	Metrics []string `json:"metrics,omitempty"`
	// PIDs are processes that count with all their children, such as Postgres.
	// They are read from /proc. Defaults to none.
	PIDs []int `json:"pids,omitempty"`
	// Patience is how long nothing may happen before the rest is given up for
	// lost. Defaults to 30 s.
	Patience time.Duration `json:"patience"`
	// Stream is relay's queue. Defaults to WEBHOOKS.
	Stream string `json:"stream"`
	// Told is told how far the run is. Defaults to nobody.
	Told func(line string) `json:"-"`

	run string // ends every endpoint's path, so that runs do not share endpoints
}

func (o Options) withDefaults() Options {
	o.Subject = cmp.Or(o.Subject, "webhooks.outbound")
	o.Events = cmp.Or(o.Events, 20_000)
	o.Payload = cmp.Or(o.Payload, 1024)
	o.WarmUp = max(1, cmp.Or(o.WarmUp, 1000))
	o.Endpoints = cmp.Or(o.Endpoints, 1)
	o.Slow = cmp.Or(o.Slow, 10*time.Second)
	o.FlapEvery = cmp.Or(o.FlapEvery, 5*time.Second)
	o.QueuedAs = cmp.Or(o.QueuedAs, Hang)
	o.HealedAs = cmp.Or(o.HealedAs, Healthy)
	o.Listen = cmp.Or(o.Listen, "127.0.0.1:8424")
	o.Patience = cmp.Or(o.Patience, 30*time.Second)
	o.Stream = cmp.Or(o.Stream, "WEBHOOKS")
	if o.Told == nil {
		o.Told = func(string) {}
	}
	o.run = strconv.FormatInt(time.Now().UnixNano(), 36)
	return o
}

func (o Options) validate() error {
	var faults []error
	for name, n := range map[string]int{"events": o.Events, "payload": o.Payload, "endpoints": o.Endpoints} {
		if n < 1 {
			faults = append(faults, fmt.Errorf("bench: %s is %d: want at least 1", name, n))
		}
	}
	if o.Conn == nil {
		faults = append(faults, errors.New("bench: a connection to NATS is required"))
	}
	if o.Rate < 0 || o.Queued < 0 {
		faults = append(faults, errors.New("bench: neither the rate nor the number of queued events can be negative"))
	}
	if !o.HealedAs.awaited() {
		faults = append(faults, fmt.Errorf("bench: an endpoint that is healed as %q is not: want %s or %s", o.HealedAs, Healthy, Slow))
	}
	return errors.Join(append(faults, o.Shares.validate(max(1, o.Endpoints)))...)
}

// refusing is the URL of an address where nothing listens.
func (o Options) refusing(receiver string) string {
	if o.Refusing != "" {
		return "http://" + o.Refusing
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(receiver, "http://")) // our own listener has one
	return "http://" + net.JoinHostPort("127.0.0.2", port)
}

// ErrBlocked says that not one webhook has reached the receiver.
var ErrBlocked = errors.New("no webhook has reached the receiver")

// run is one measurement under way.
type run struct {
	Options
	*receiver
	*publisher

	report Report
	begin  int64 // of the load
}

// Run makes one measurement. It returns when all events for healthy and slow
// endpoints have been delivered, or nothing has happened for Options.Patience:
// what is missing then is in the report as lost. An error means that nothing
// could be measured; it wraps ErrBlocked if not even the warm-up came through.
func Run(ctx context.Context, o Options) (Report, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Report{}, err
	}
	receiver, err := startReceiver(ctx, o, o.plan())
	if err != nil {
		return Report{}, err
	}
	defer receiver.stop()
	publisher, err := newPublisher(o, receiver)
	if err != nil {
		return Report{}, err
	}
	host, _ := os.Hostname()
	r := &run{Options: o, receiver: receiver, publisher: publisher, report: Report{
		Began: time.Now().UTC(), Host: host, CPUs: runtime.NumCPU(), Go: runtime.Version(), Options: o,
	}}
	if err := r.warmUp(ctx); err != nil {
		return Report{}, err
	}
	m := newMeter(o)
	if err := m.start(ctx); err != nil {
		return Report{}, err
	}
	own := ownCPU()
	if err := r.measure(ctx, m); err != nil {
		return Report{}, err
	}
	r.figures()
	r.report.BenchCPU = ownCPU() - own
	answered := r.answered()
	if answered > 0 {
		r.report.BenchCPUPer1000 = r.report.BenchCPU / float64(answered) * 1000
	}
	r.report.Usage, err = m.stop(ctx, answered)
	return r.report, err
}

// warmUp sends one event, and if it arrives the others.
func (r *run) warmUp(ctx context.Context) error {
	r.Told("warming up")
	if err := r.burst(ctx, 0, 1); err != nil {
		return err
	}
	if !r.await(ctx, r.Patience, func() bool { return r.seen[0].answered.Load() != 0 }) {
		return r.blocked(ctx)
	}
	if err := r.burst(ctx, 1, r.WarmUp); err != nil {
		return err
	}
	done := func() bool {
		for i := range r.WarmUp {
			if r.seen[i].answered.Load() == 0 {
				return false
			}
		}
		return true
	}
	if !r.await(ctx, r.Patience, done) {
		return errors.New("bench: of the warm-up not every event came through")
	}
	r.drained(ctx, 5*time.Second, 0)
	return nil
}

func (r *run) blocked(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(r.url, "http://")) // our own listener has both
	return fmt.Errorf("bench: %w at %s:%s. Is a relay running on this NATS server? And may it call there? "+
		"relay dev may call this machine; relay run must be told: --set delivery.allow=%s/32 --set delivery.ports=%s",
		ErrBlocked, host, port, host, port)
}

// measure publishes what is queued, and the load, and waits for its end.
func (r *run) measure(ctx context.Context, m *meter) error {
	sampling, stop := context.WithCancel(ctx)
	var aside sync.WaitGroup
	aside.Go(func() { m.sample(sampling) })
	defer aside.Wait()
	defer stop()
	if err := r.queue(ctx); err != nil {
		return err
	}
	from := r.WarmUp + r.Queued
	r.Told(fmt.Sprintf("publishing %d events", r.Events))
	if r.HealAfter > 0 {
		heal := time.AfterFunc(r.HealAfter, func() { r.healed.Store(true) })
		defer heal.Stop()
	}
	r.begin = r.since()
	var err error
	if r.Rate > 0 {
		err = r.async(ctx, from, len(r.events), r.Rate)
	} else {
		err = r.burst(ctx, from, len(r.events))
	}
	if err != nil {
		return err
	}
	r.report.PublishSeconds = seconds(r.since() - r.begin)
	r.Told("published; waiting until all have arrived")
	waited := int64(r.waitedFor())
	r.await(ctx, r.Patience, func() bool {
		return r.arrived.Load() >= waited && (r.HealAfter == 0 || r.recovered.Load() == int64(r.Queued))
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.drained(ctx, 5*time.Second, 0)
	return nil
}

// queue publishes the events of one sick endpoint before all others.
func (r *run) queue(ctx context.Context) error {
	if r.Queued == 0 {
		return nil
	}
	r.Told(fmt.Sprintf("queueing %d events for an endpoint of kind %s", r.Queued, r.QueuedAs))
	from := r.WarmUp
	began := r.since()
	if err := r.burst(ctx, from, from+r.Queued); err != nil {
		return err
	}
	r.report.QueuedSeconds = seconds(r.since() - began)
	if !r.Settle {
		return nil
	}
	r.Told("waiting until they are set aside")
	if !r.drained(ctx, 30*time.Minute, 1000) { // a few may be asleep there
		return errors.New("bench: the queued events were not set aside within half an hour")
	}
	r.report.SettledSeconds = seconds(r.since() - began)
	return nil
}

// waitedFor counts the events that must arrive before the run is over.
func (r *run) waitedFor() (n int) {
	for i, e := range r.events {
		if e.part == load && e.kind.awaited() && r.confirmed[i] {
			n++
		}
	}
	return n
}

// await looks until done is true. It reports false when ctx has ended, or
// nothing has been delivered for so long.
func (r *run) await(ctx context.Context, patience time.Duration, done func() bool) bool {
	delivered, changed := r.delivered.Load(), time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if now := r.delivered.Load(); now != delivered {
			delivered, changed = now, time.Now()
		}
		if time.Since(changed) > patience {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// drained waits until no more than so much is left on relay's queue: what has
// been answered has been recorded and acknowledged too. It reports whether that came to be;
// if the stream's state cannot be asked for, it waits for a second instead.
func (r *run) drained(ctx context.Context, patience time.Duration, left uint64) bool {
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; wait(ctx, 20*time.Millisecond) {
		stream, err := r.js.Stream(ctx, r.Stream)
		if err != nil {
			wait(ctx, time.Second)
			return false
		}
		if stream.CachedInfo().State.Msgs <= left {
			return true
		}
	}
	return false
}

func seconds(nanoseconds int64) float64 { return time.Duration(nanoseconds).Seconds() }
