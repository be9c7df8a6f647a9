package consumer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"
)

const (
	// answerWithin is how long a request waits for its job, so that a small
	// one is answered with its result.
	answerWithin = time.Second
	// jobsKept bounds the finished jobs that can still be asked for.
	jobsKept = 100
)

// Job is something that takes longer and how far it has come: the answer of
// [SubjectReplay], [SubjectExpire], [SubjectBury] and [SubjectJob], as JSON.
type Job struct {
	ID       string  `json:"job"`
	Request  string  `json:"request"`
	Tenant   *string `json:"tenant,omitempty"` // that the request named; "" is what belongs to none
	State    string  `json:"state"`            // running, done, failed, stopped
	Replayed int     `json:"replayed"`
	Failed   int     `json:"failed"`   // letters that relay cannot read
	Buried   int     `json:"buried"`   // parked events on their way to the dead letters
	Position uint64  `json:"position"` // the last sequence that was looked at
	Last     uint64  `json:"last"`     // the last one that will be
	Error    string  `json:"error,omitempty"`
}

// String says the job in one line, for people.
func (j Job) String() string {
	s := fmt.Sprintf("job %s: %s, %d replayed", j.ID, j.State, j.Replayed)
	if j.Buried > 0 {
		s = fmt.Sprintf("job %s: %s, %d buried", j.ID, j.State, j.Buried)
	}
	if j.Failed > 0 {
		s += fmt.Sprintf(", %d unreadable", j.Failed)
	}
	if j.State == "running" {
		s += fmt.Sprintf(", at %d of %d", j.Position, j.Last)
	}
	if j.Error != "" {
		s += ": " + j.Error
	}
	return s
}

// work does a job and answers the request: with the job's result where it is
// done within a second, else with its id and progress.
func (r *service) work(req micro.Request, job *Job, do func(context.Context, *Job) error) {
	done := make(chan struct{})
	r.working.Go(func() {
		defer close(done)
		r.ended(job, do(r.ctx, job))
	})
	r.working.Go(func() {
		select {
		case <-done:
		case <-time.After(answerWithin):
		}
		_ = req.RespondJSON(r.snapshot(job))
	})
}

// ended notes what a job came to.
func (r *service) ended(job *Job, err error) {
	r.update(job, func(j *Job) {
		switch {
		case err == nil:
			j.State = "done"
		case r.ctx.Err() != nil:
			j.State, j.Error = "stopped", "relay is stopping; ask again to go on"
		default:
			j.State, j.Error = "failed", err.Error()
		}
	})
	done := r.snapshot(job)
	r.log.Info().Str("job", done.ID).Str("request", clip(done.Request)).Any("tenant", done.Tenant).Int("replayed", done.Replayed).
		Int("buried", done.Buried).Int("failed", done.Failed).Str("error", done.Error).Msg("job " + done.State)
}

// job answers how far a job has come, at once if it is one of this process. A
// process that does not know it leaves the others time to answer first.
func (r *service) job(req micro.Request) {
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
		text := fmt.Sprintf("no running relay knows the job %s: its process has ended; ask again, what is done stays done", clip(id))
		_ = req.Error("404", text, []byte(text))
	})
}

// start makes a job that ends at a sequence.
func (r *service) start(request string, tenant *string, last uint64) *Job {
	job := &Job{ID: nuid.Next(), Request: request, Tenant: tenant, State: "running", Last: last}
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

func (r *service) update(job *Job, change func(*Job)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(job)
}

func (r *service) snapshot(job *Job) Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *job
}

// jobPatience is how long a job goes on trying while nothing moves.
const jobPatience = 5 * time.Minute

// workThrough takes a job from one sequence to another, by steps that answer
// where to go on. While NATS does not answer, or does not take what the job
// moves, it tries on, as everything in relay does, and gives up after
// jobPatience.
func (r *service) workThrough(ctx context.Context, job *Job, from, to uint64, step func(seq uint64) (uint64, error)) error {
	moved := time.Now()
	for seq := from; seq <= to; {
		next, err := step(seq)
		switch {
		case err == nil:
			seq, moved = next, time.Now()
		case ctx.Err() != nil || time.Since(moved) > jobPatience:
			return err
		default:
			r.log.Warn().Err(err).Str("job", job.ID).Str("request", clip(job.Request)).Msg("a job waits")
			pause(ctx, fetchPause)
		}
	}
	return nil
}
