// Package consumer takes webhooks off JetStream and sees each one through: it
// is the way that a webhook takes, from the queue to its acknowledgement.
//
//	handle.go   the way of one webhook, on one screen: start here
//	streams.go  the three streams and two durable consumers, and what is in them
//	setup.go    creating and comparing them
//	open.go     finding them when relay starts
//	fetch.go    pulling messages, no more than there is room for
//	crew.go     the goroutines that see messages through
//	held.go     what is in hand: keeping it alive, and slow requests from filling the slots
//	aside.go    setting the events of a sick endpoint aside, before they are claimed
//	step.go     what goes to sleep, or is acknowledged, in step
//	pull.go     one pull, and what tells a message from an answer of the server
//	park.go     storing many events in their lanes at once; together.go knows how
//	decode.go   what a producer may write: the envelope and the raw form
//	fields.go   each field of a message, and what is wrong with it
//	tenant.go   whose a message is: its subject decides
//	meta.go     the headers on relay's own copies of an event
//	shelve.go   which shelf an event waits on: asleep, scheduled or parked
//	settle.go   acknowledging, sleeping, moving and burying, after the record
//	bury.go     laying an event among the dead letters, once; unbury.go takes it from there
//	tail.go     why the newest message of a queue is acknowledged late
//	moves.go    what happens while a stream takes nothing
//	lanes.go    bringing parked events back when their endpoint is well
//	ramp.go     how many at a time; release.go takes them from their lane
//	sweep.go    finding schedules that did not fire
//	disable.go  disabling endpoints that want no more, or have failed for long
//	service.go  what operators may ask of relay; jobs.go knows what takes longer
//	replay.go   asking for dead letters back; replay_job.go brings them
//	lane_list.go    asking for the lanes, and draining one at once
//	lane_bury.go    giving up what is parked
//	pauses.go   agreeing with other processes on who is not called; pauses_sync.go carries it
//	stats.go    how things stand, looked at every second; stall.go and missing.go help
//	events.go   telling the world, over NATS and in the log; event.go is the JSON of it
//
// It meets the audit log, the policies, the sender and the registry of
// endpoints through the small interfaces below.
package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
)

// Log is the audit log: it grants claims and keeps the record. The first three
// calls return only when what they did is durable. An error means that nothing is
// known to be written, and that the context ended.
type Log interface {
	Claim(ctx context.Context, w relay.Webhook) (relay.Claim, error)
	SetAside(ctx context.Context, w relay.Webhook, v relay.Verdict) (relay.Claim, error)
	Record(ctx context.Context, w relay.Webhook, c relay.Claim, as []relay.Attempt, v relay.Verdict) (relay.Verdict, error)
	Ready(ctx context.Context) error
}

// Calendar knows which schedules should have fired long ago, and which endpoints
// have failed for long.
type Calendar interface {
	Overdue(ctx context.Context, since time.Duration, after relay.Webhook, limit int) ([]relay.Webhook, error)
	Failing(ctx context.Context, atLeast time.Duration) ([]relay.Failing, error)
}

// Policy decides whether an attempt may be made and what came of it. No
// attempts in the answer means that it was refused; two mean a quick retry.
// Refuses says beforehand whether Do would refuse, and costs next to nothing.
// Rest is how long an endpoint is not to be called, and Wake ends that.
type Policy interface {
	Do(ctx context.Context, ep relay.Endpoint, w relay.Webhook, c relay.Claim,
		send func(context.Context) relay.Attempt) ([]relay.Attempt, relay.Verdict)
	Refuses(ep relay.Endpoint) (relay.Verdict, bool)
	Rest(endpointKey string) time.Duration
	Wake(endpointKey string)
}

// Sender makes one HTTP exchange. It never fails: a failure is in the attempt.
type Sender interface {
	Send(ctx context.Context, ep relay.Endpoint, w relay.Webhook) relay.Attempt
}

// Endpoints finds the endpoint that a producer named or wrote out as a URL, or
// that a key belongs to, if there is anything to know about it. Disable holds what
// is meant for an endpoint until somebody enables it again; when it returns, Find
// and ByKey of this process know. That it is disabled already is no error.
//
// Meant finds the endpoint that a person names by its name, its URL or its key.
// Without a tenant it is an error if several have one of that name; what it does
// not know is taken for a key, and has nothing else.
type Endpoints interface {
	Find(tenant, name, url string) (relay.Endpoint, error)
	ByKey(endpointKey string) (relay.Endpoint, bool)
	Disable(ctx context.Context, endpointKey, reason string) error
	Meant(ctx context.Context, tenant *string, text string) (relay.Endpoint, error)
}

// Options are the settings of a [Consumer]. The connection and the five
// collaborators are required; every other field has a default.
type Options struct {
	Conn      *nats.Conn
	Log       Log
	Calendar  Calendar
	Policy    Policy
	Sender    Sender
	Endpoints Endpoints
	// Pauses are shared with other processes, and Policy asks them. Defaults to
	// none: this process goes by what it knows itself.
	Pauses *Pauses

	// Slots is how many webhooks are worked on at a time, for each of the two
	// queues. Defaults to 256.
	Slots int
	// SlowCalls is how many requests that take longer than a quarter of a second
	// may be under way beside the slots, so that endpoints that hang leave the
	// slots to those that answer. Defaults to 4 × Slots.
	SlowCalls int
	// AckWait must be the one the durable consumers were made with. Held
	// messages are kept alive every third of it. Defaults to 45 s.
	AckWait time.Duration
	// Timeout is that of an exchange with an endpoint that has none of its own. A
	// request whose claim ends sooner is not begun. Defaults to two thirds of
	// AckWait.
	Timeout time.Duration
	// MaxAckPending must be the one the durable consumers were made with.
	// Up to half of it may sleep by this process, 50,000 at most; the rest is for
	// what is in hand or being set aside. Defaults to 150,000.
	MaxAckPending int
	// MaxSleep is the longest delay that is slept by NakWithDelay; longer ones
	// become schedules. Defaults to relay.MaxSleep, 15 minutes.
	MaxSleep time.Duration
	// ExpiresAfter is when an event that names no expires_at is given up, counted
	// from its acceptance, its scheduled_at or when its endpoint was last held no
	// longer, whichever is the latest. While its endpoint is held it is kept.
	// Defaults to 72 hours.
	ExpiresAfter time.Duration
	// DisableAfter is asked for how long a registered endpoint may fail before it
	// is disabled; not positive means for ever. Defaults to 5 days.
	DisableAfter func() time.Duration
	// TenantRequired makes an event that belongs to no tenant a fault. Defaults to
	// false: such events belong to who runs relay.
	TenantRequired bool
	// Lanes say how fast parked events are brought back.
	Lanes LaneOptions
	// Sweep is how often lanes and overdue schedules are looked for, and every
	// sixth time endpoints that have failed for long. Defaults to 10 s.
	Sweep time.Duration
	// Drain is how long Run waits for webhooks in hand after its context has
	// ended. Defaults to 40 s: more than one exchange takes.
	Drain time.Duration
	// ReplayRate is the number of dead letters replayed per second, and of parked
	// events that are buried. Defaults to 500.
	ReplayRate int
	// Observe is called once for every webhook that was worked on, after it
	// was recorded; metrics hang here. It must not block.
	Observe func(relay.Webhook, []relay.Attempt, relay.Verdict)
	// Heard is asked whether anybody listens on a subject of [SubjectEvents], if that
	// can be known: what nobody hears is not written. It must be quick. Defaults to
	// yes.
	Heard func(subject string) bool
	// Bind is told when JetStream made the stream of the queue, before anything is
	// taken from it, with a zero time before; an error ends Run. If the stream is
	// made anew while Run works, Bind is told when the one before was made as
	// well. Defaults to nothing.
	Bind func(ctx context.Context, before, made time.Time) error
	// At is called at the named points of a webhook's way, for tests that
	// crash there. Defaults to nothing.
	At func(Point)

	Logger zerolog.Logger // silent by default
}

func (o Options) withDefaults() Options {
	setDefault(&o.Slots, 256)
	setDefault(&o.AckWait, 45*time.Second)
	setDefault(&o.SlowCalls, 4*o.Slots)
	setDefault(&o.Timeout, o.AckWait*2/3)
	setDefault(&o.MaxAckPending, DefaultMaxAckPending)
	setDefault(&o.MaxSleep, relay.MaxSleep)
	setDefault(&o.ExpiresAfter, 72*time.Hour)
	setDefault(&o.Sweep, 10*time.Second)
	setDefault(&o.Drain, 40*time.Second)
	setDefault(&o.ReplayRate, 500)
	o.Lanes = o.Lanes.withDefaults()
	if o.DisableAfter == nil {
		o.DisableAfter = func() time.Duration { return 5 * 24 * time.Hour }
	}
	if o.Heard == nil {
		o.Heard = func(string) bool { return true }
	}
	if o.Observe == nil {
		o.Observe = func(relay.Webhook, []relay.Attempt, relay.Verdict) {}
	}
	if o.Bind == nil {
		o.Bind = func(context.Context, time.Time, time.Time) error { return nil }
	}
	if o.At == nil {
		o.At = func(Point) {}
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o Options) validate() error {
	var faults []error
	missing := func(name string, is bool) {
		if is {
			faults = append(faults, fmt.Errorf("consumer: %s is missing", name))
		}
	}
	missing("Conn", o.Conn == nil)
	missing("Log", o.Log == nil)
	missing("Calendar", o.Calendar == nil)
	missing("Policy", o.Policy == nil)
	missing("Sender", o.Sender == nil)
	missing("Endpoints", o.Endpoints == nil)
	return errors.Join(faults...)
}

// Consumer works on webhooks. It is safe for concurrent use; Run is called
// once.
type Consumer struct {
	Options
	js       jetstream.JetStream
	later    jetstream.Stream // set by Run
	dead     jetstream.Stream // set by Run
	made     time.Time        // when the queue's stream was; set by Run and the look every second
	log      zerolog.Logger
	held     *held
	asides   *asides
	steps    *steps
	parking  *parking
	together together
	tails    map[string]*tail // by stream
	sleep    *sleepBudget
	lanes    *lanes
	moves    *moves
	inFlight atomic.Int64
	halted   atomic.Bool // nothing is fetched, because the audit log is away
	working  sync.WaitGroup
	stats    atomic.Pointer[Stats]
	ready    chan struct{}
	texts    sync.Pool // of *[]byte, for events
}

// New makes a consumer and starts nothing. The error names every option that
// is missing.
func New(o Options) (*Consumer, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	js, err := jetstream.New(o.Conn)
	if err != nil {
		return nil, fmt.Errorf("consumer: open JetStream: %w", err)
	}
	c := &Consumer{
		Options: o,
		js:      js,
		log:     o.Logger,
		held:    newHeld(o.SlowCalls),
		asides:  newAsides(o.AckWait),
		steps:   newSteps(),
		parking: newParking(),
		tails:   map[string]*tail{StreamQueue: {}, StreamLater: {}},
		sleep:   newSleepBudget(o.MaxAckPending),
		moves:   newMoves(),
		ready:   make(chan struct{}),
	}
	c.lanes = newLanes(c)
	c.stats.Store(&Stats{})
	return c, nil
}

// Ready is closed once Run has found its streams and works.
func (c *Consumer) Ready() <-chan struct{} { return c.ready }

// Run works until ctx ends, then takes nothing new, finishes what is in hand
// (for at most Options.Drain) and returns. What was not finished is not
// acknowledged: it will be delivered again, to this process or another.
//
// It waits for a JetStream that does not answer yet, and returns an error if the
// streams are not there: run relay init.
func (c *Consumer) Run(ctx context.Context) error {
	queue, due, err := c.open(ctx)
	if err != nil {
		return err
	}
	if err := c.Bind(ctx, time.Time{}, c.made); err != nil {
		return err
	}
	service, err := c.serve(ctx)
	if err != nil {
		return err
	}
	defer service.stop()
	if c.Pauses != nil {
		c.Pauses.begin(ctx)
	}

	// What waits must stop at once; what was sent must finish. So the work has
	// a context of its own, which outlives ctx by the drain.
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(errStopped)

	var loops sync.WaitGroup
	loops.Go(func() { c.fetch(ctx, work, queue) })
	loops.Go(func() { c.fetch(ctx, work, due) })
	loops.Go(func() { c.lanes.run(ctx) })
	loops.Go(func() { c.sweep(ctx) })
	loops.Go(func() { c.disableFailing(ctx) })
	loops.Go(func() { c.makeRoom(ctx, work) })
	loops.Go(func() { c.bringBack(ctx) })
	loops.Go(func() { c.watch(ctx, queue, due) })

	close(c.ready)

	var beat sync.WaitGroup
	beat.Go(func() { c.held.keepAlive(work, c.AckWait/3) })
	if c.Pauses != nil {
		beat.Go(func() { c.Pauses.run(work) }) // what is in hand may probe
	}
	loops.Wait()
	c.drain(stopWork)
	c.letGo(work, time.Now())
	c.working.Wait()
	stopWork(errStopped)
	beat.Wait()
	return nil
}

var (
	errStopped  = errors.New("consumer: stopped")
	errDrainEnd = errors.New("consumer: the drain took too long")
)

// drain waits for the webhooks in hand, at most Options.Drain.
func (c *Consumer) drain(stopWork context.CancelCauseFunc) {
	late := time.AfterFunc(c.Drain, func() {
		c.log.Error().Int64("in_flight", c.inFlight.Load()).Dur("drain_ms", c.Drain).
			Msg("drain took too long; what is in hand will be delivered again")
		stopWork(errDrainEnd)
	})
	defer late.Stop()
	c.working.Wait()
}
