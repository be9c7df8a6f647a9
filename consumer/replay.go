package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"
)

// The NATS micro service that brings dead letters back.
const (
	SubjectReplay = "relay.dead.replay" // ask for a replay
	SubjectJob    = "relay.dead.job"    // ask how far a replay has come
	// keepExpiry is the word that lets the letters' own expires_at stand.
	keepExpiry = "keep-expiry"
	// answerWithin is how long a request waits for its job, so that a small
	// one is answered with its result.
	answerWithin = time.Second
	// jobsKept bounds the finished jobs that can still be asked for.
	jobsKept = 100
)

// Job is a replay and how far it has come: the answer of [SubjectReplay] and
// [SubjectJob], as JSON.
type Job struct {
	ID       string `json:"job"`
	Request  string `json:"request"`
	State    string `json:"state"` // running, done, failed, stopped
	Replayed int    `json:"replayed"`
	Failed   int    `json:"failed"`   // letters that relay cannot read
	Position uint64 `json:"position"` // the last sequence that was looked at
	Last     uint64 `json:"last"`     // the last one that will be
	Error    string `json:"error,omitempty"`
}

// String says the job in one line, for people.
func (j Job) String() string {
	s := fmt.Sprintf("job %s: %s, %d replayed", j.ID, j.State, j.Replayed)
	if j.Failed > 0 {
		s += fmt.Sprintf(", %d unreadable", j.Failed)
	}
	if j.State == "running" {
		s += fmt.Sprintf(", at letter %d of %d", j.Position, j.Last)
	}
	if j.Error != "" {
		s += ": " + j.Error
	}
	return s
}

// span is what a request asks for: letters from one sequence to another,
// perhaps of one endpoint.
type span struct {
	from, to   uint64
	filter     string
	keepExpiry bool
}

// replays serves the micro service.
type replays struct {
	*Consumer
	service micro.Service
	ctx     context.Context //nolint:containedctx // the jobs' lifetime; requests come from callbacks that have none
	cancel  context.CancelFunc
	working sync.WaitGroup
	mu      sync.Mutex
	jobs    map[string]*Job
	order   []string
}

// serveReplay starts the service. Its jobs end when ctx ends; asking again
// goes on where a job stopped, because a replayed letter is removed.
func (c *Consumer) serveReplay(ctx context.Context) (*replays, error) {
	r := &replays{Consumer: c, jobs: map[string]*Job{}}
	r.ctx, r.cancel = context.WithCancel(ctx)
	service, err := micro.AddService(c.Conn, micro.Config{
		Name: "relay", Version: "1.0.0", Description: "relay: webhook delivery; replay of dead letters",
	})
	if err != nil {
		r.cancel()
		return nil, fmt.Errorf("consumer: offer the replay service: %w", err)
	}
	r.service = service
	usage := micro.WithEndpointMetadata(map[string]string{
		"usage": "a sequence, from-to, an endpoint's name, URL or key, or all; then " + keepExpiry + " to respect expires_at",
	})
	err = errors.Join(
		service.AddEndpoint("replay", micro.HandlerFunc(r.replay), micro.WithEndpointSubject(SubjectReplay), usage),
		// Only the process that runs a job knows it, so every process is asked.
		service.AddEndpoint("job", micro.HandlerFunc(r.job), micro.WithEndpointSubject(SubjectJob), micro.WithEndpointQueueGroupDisabled()),
		c.Conn.FlushTimeout(settleTimeout), // so that who asks a relay that is ready is answered
	)
	if err != nil {
		r.stop()
		return nil, fmt.Errorf("consumer: offer the replay service: %w", err)
	}
	return r, nil
}

func (r *replays) stop() {
	r.cancel()
	r.working.Wait()
	_ = r.service.Stop() // its subscriptions end with the connection in any case
}

// replay answers a request: at once with the job's id and progress, or with
// its result where it is done within a second.
func (r *replays) replay(req micro.Request) {
	text := strings.TrimSpace(string(req.Data()))
	s, err := r.parse(r.ctx, text)
	if err != nil {
		_ = req.Error("400", err.Error(), []byte(err.Error())) // also for those who see the body alone
		return
	}
	job := r.start(text, s)
	done := make(chan struct{})
	r.working.Go(func() {
		defer close(done)
		r.run(r.ctx, job, s)
	})
	r.working.Go(func() {
		select {
		case <-done:
		case <-time.After(answerWithin):
		}
		_ = req.RespondJSON(r.snapshot(job))
	})
}

// job answers how far a job has come, at once if it is one of this process. A
// process that does not know it leaves the others time to answer first.
func (r *replays) job(req micro.Request) {
	id := strings.TrimSpace(string(req.Data()))
	r.mu.Lock()
	job := r.jobs[id]
	r.mu.Unlock()
	if job != nil {
		_ = req.RespondJSON(r.snapshot(job))
		return
	}
	r.working.Go(func() {
		pause(r.ctx, answerWithin)
		text := fmt.Sprintf("no running relay knows the job %s: its process has ended; replay again, what is done stays done", clip(id))
		_ = req.Error("404", text, []byte(text))
	})
}

func (r *replays) start(request string, s span) *Job {
	job := &Job{ID: nuid.Next(), Request: request, State: "running", Last: s.to}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.jobs[job.ID] = job
	r.order = append(r.order, job.ID)
	if len(r.order) > jobsKept {
		delete(r.jobs, r.order[0])
		r.order = r.order[1:]
	}
	return job
}

func (r *replays) update(job *Job, change func(*Job)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(job)
}

func (r *replays) snapshot(job *Job) Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *job
}

// parse reads "17", "1-100", "all", an endpoint's name, URL or key.
func (r *replays) parse(ctx context.Context, text string) (span, error) {
	words := strings.Fields(text)
	s := span{from: 1, filter: subjectDead + ">"}
	if len(words) == 2 && words[1] == keepExpiry {
		s.keepExpiry = true
		words = words[:1]
	}
	if len(words) != 1 {
		return s, fmt.Errorf("want a sequence, from-to, an endpoint or all, not %q", clip(text))
	}
	stream, err := r.js.Stream(ctx, StreamDead)
	if err != nil {
		return s, fmt.Errorf("look up %s: %w", StreamDead, err)
	}
	s.to = stream.CachedInfo().State.LastSeq // letters that come later are not meant
	if words[0] == "all" {
		return s, nil
	}
	from, to, isRange := strings.Cut(words[0], "-")
	first, err1 := strconv.ParseUint(from, 10, 64)
	last, err2 := strconv.ParseUint(to, 10, 64)
	switch {
	case isRange && err1 == nil && err2 == nil && first > last:
		return s, fmt.Errorf("the range %s ends before it begins", words[0])
	case isRange && err1 == nil && err2 == nil:
		s.from, s.to = max(first, 1), min(last, s.to)
	case !isRange && err1 == nil:
		s.from, s.to = max(first, 1), min(first, s.to)
	default:
		key, err := r.endpointKey(words[0])
		if err != nil {
			return s, err
		}
		s.filter = subjectDead + key + ".>"
	}
	return s, nil
}

// endpointKey finds the endpoint that a person means.
func (r *replays) endpointKey(text string) (string, error) {
	if strings.Contains(text, "://") {
		ep, err := r.Endpoints.Find("", text)
		return ep.Key, err
	}
	if ep, err := r.Endpoints.Find(text, ""); err == nil {
		return ep.Key, nil
	}
	if strings.ContainsAny(text, ".*> \t") {
		return "", fmt.Errorf("no endpoint is named %q", clip(text))
	}
	return text, nil // a key, as it stands in the letter's subject
}
