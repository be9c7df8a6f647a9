package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/relaywebhooks/relay"
)

// The NATS micro service that operators ask.
const (
	SubjectReplay = "relay.dead.replay"  // replay dead letters
	SubjectJob    = "relay.dead.job"     // how far a job has come; relay.lanes.job is the same
	SubjectLanes  = "relay.lanes.list"   // the lanes, or that of one endpoint
	SubjectDrain  = "relay.lanes.drain"  // bring a lane back now, whatever its endpoint's rest
	SubjectExpire = "relay.lanes.expire" // bury what has been parked for too long
	SubjectBury   = "relay.lanes.bury"   // bury what is parked

	subjectLaneJob = "relay.lanes.job"
)

// service serves the micro service.
type service struct {
	*Consumer
	micro   micro.Service
	ctx     context.Context //nolint:containedctx // the jobs' lifetime; requests come from callbacks that have none
	cancel  context.CancelFunc
	working sync.WaitGroup
	mu      sync.Mutex
	jobs    map[string]*Job
	order   []string
}

// serve starts the service. Its jobs end when ctx ends; asking again goes on
// where a job stopped, because what is done is removed.
func (c *Consumer) serve(ctx context.Context) (*service, error) {
	r := &service{Consumer: c, jobs: map[string]*Job{}}
	r.ctx, r.cancel = context.WithCancel(ctx)
	var err error
	r.micro, err = micro.AddService(c.Conn, micro.Config{
		Name: "relay", Version: "1.0.0", Description: "relay: webhook delivery; replay of dead letters, and the lanes",
	})
	if err != nil {
		r.cancel()
		return nil, fmt.Errorf("consumer: offer the service: %w", err)
	}
	err = errors.Join(
		r.offer("replay", SubjectReplay, "a sequence, from-to, an endpoint's name, URL or key, or all; then "+keepExpiry+" to respect expires_at; of one tenant with the header "+HeaderTenant, r.replay),
		r.offer("lanes", SubjectLanes, "nothing, or an endpoint's name, URL or key", r.list),
		r.offer("expire", SubjectExpire, "an endpoint's name, URL or key; then perhaps an age, such as 24h", r.expire),
		r.offer("bury", SubjectBury, "an endpoint's name, URL or key; then perhaps a reason", r.buryLane),
		// Only the process that runs a job knows it, so every process is asked.
		r.offer("job", SubjectJob, "a job's id", r.job, micro.WithEndpointQueueGroupDisabled()),
		r.offer("lane-job", subjectLaneJob, "a job's id", r.job, micro.WithEndpointQueueGroupDisabled()),
		// Every process has a circuit of its own.
		r.offer("drain", SubjectDrain, "an endpoint's name, URL or key", r.drain, micro.WithEndpointQueueGroupDisabled()),
		c.Conn.FlushTimeout(settleTimeout), // so that who asks a relay that is ready is answered
	)
	if err != nil {
		r.stop()
		return nil, fmt.Errorf("consumer: offer the service: %w", err)
	}
	return r, nil
}

func (r *service) offer(name, subject, usage string, answer func(micro.Request), options ...micro.EndpointOpt) error {
	options = append(options, micro.WithEndpointSubject(subject), micro.WithEndpointMetadata(map[string]string{"usage": usage}))
	return r.micro.AddEndpoint(name, micro.HandlerFunc(answer), options...)
}

func (r *service) stop() {
	r.cancel()
	r.working.Wait()
	_ = r.micro.Stop() // its subscriptions end with the connection in any case
}

// refuse answers a request that relay cannot read or carry out.
func refuse(req micro.Request, code string, err error) {
	_ = req.Error(code, err.Error(), []byte(err.Error())) // also for those who see the body alone
}

// HeaderTenant of a request says whose endpoint the request names, or whose events
// are meant. An empty one says that they belong to no tenant; without one nobody has
// said, and what several tenants have is refused, with all of them listed.
const HeaderTenant = "Relay-Tenant"

// saidTenant is the tenant that a request names; nil if it names none.
func saidTenant(req micro.Request) *string {
	values, said := req.Headers()[HeaderTenant]
	if !said || len(values) == 0 {
		return nil
	}
	return &values[0]
}

// endpointKey finds the endpoint that a person means.
func (r *service) endpointKey(req micro.Request, text string) (string, error) {
	if text == "" {
		return "", errors.New("want an endpoint's name, URL or key")
	}
	ctx, cancel := context.WithTimeout(r.ctx, settleTimeout)
	defer cancel()
	ep, err := r.Endpoints.Meant(ctx, saidTenant(req), text)
	if err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "endpoint: "))
	}
	if key := ep.Key; strings.ContainsAny(key, ".*> \t") || hasControl(key) || !utf8.ValidString(key) || len(key) > relay.MaxName {
		return "", fmt.Errorf("no endpoint is named %q", clip(text))
	}
	return ep.Key, nil // at least it stands in the subjects as one would
}

// whose is the tenant of a stored message, as the record has it: what its subject
// or what can be read of it says.
func whose(m meta, header nats.Header, body []byte) string {
	w, _ := decode(m, header, body) // of a message with faults it is known all the same
	return w.Tenant
}
