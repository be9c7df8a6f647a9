package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/relaywebhooks/relay/consumer"
)

// replayCommand is relay replay.
type replayCommand struct {
	What       string  `arg:"" help:"Which dead letters: a sequence of WEBHOOKS_DEAD, from-to, the name, URL or key of an endpoint, or all."`
	KeepExpiry bool    `help:"Respect the letters' expires_at, instead of starting it anew."`
	Tenant     *string `help:"Only this tenant's; an empty text means those of none."`
	Detach     bool    `short:"d" help:"Do not wait for the end."`
}

// Run asks a running relay for the replay and shows how it comes along. The
// replay is relay's: it goes on if this command is interrupted.
func (c *replayCommand) Run(ctx context.Context, p *program) error {
	l, err := p.load()
	if err != nil {
		return err
	}
	conn, err := l.dialProducer()
	if err != nil {
		return err
	}
	defer conn.Close()
	request := c.What
	if c.KeepExpiry {
		request += " keep-expiry"
	}
	job, err := askFor[consumer.Job](ctx, conn, c.Tenant, consumer.SubjectReplay, request)
	if err != nil {
		return err
	}
	for !c.Detach && job.State == "running" {
		fmt.Fprintf(p.stderr, "replayed %d, at %d of %d\n", job.Replayed, job.Position, job.Last)
		if job, err = next(ctx, conn, job); err != nil {
			return err
		}
	}
	return c.result(p, job)
}

// next waits a little and asks how far the job has come.
func next(ctx context.Context, conn *nats.Conn, job consumer.Job) (consumer.Job, error) {
	select {
	case <-ctx.Done():
		return job, fmt.Errorf("interrupted; the job goes on: nats req %s %s tells how far it is", consumer.SubjectJob, job.ID)
	case <-time.After(time.Second):
		return ask[consumer.Job](ctx, conn, consumer.SubjectJob, job.ID)
	}
}

func (c *replayCommand) result(p *program, job consumer.Job) error {
	if job.State == "running" {
		fmt.Fprintf(p.stdout, "job %s\n", job.ID)
		return nil
	}
	fmt.Fprintf(p.stdout, "%s: replayed %d", job.State, job.Replayed)
	if job.Failed > 0 {
		fmt.Fprintf(p.stdout, ", left %d that are no letters of relay's", job.Failed)
	}
	fmt.Fprintln(p.stdout)
	if job.State == "done" && job.Replayed == 0 && job.Failed == 0 {
		fmt.Fprintf(p.stdout, "no letter matches; nats stream subjects %s lists them\n", consumer.StreamDead)
	}
	if job.State != "done" {
		return errors.New(job.Error)
	}
	return nil
}

// ask sends a request to relay's service and reads its answer.
func ask[T any](ctx context.Context, conn *nats.Conn, subject, text string) (T, error) {
	return askFor[T](ctx, conn, nil, subject, text)
}

// askFor is ask about what belongs to a tenant; "" if it belongs to none.
func askFor[T any](ctx context.Context, conn *nats.Conn, tenant *string, subject, text string) (T, error) {
	var found T
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("no answer within 10s"))
	defer cancel()
	request := nats.NewMsg(subject)
	request.Data = []byte(text)
	if tenant != nil {
		request.Header.Set(consumer.HeaderTenant, *tenant)
	}
	answer, err := conn.RequestMsgWithContext(ctx, request)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return found, errors.New("no relay is running on this NATS server, or this user may not ask it")
	case err != nil && ctx.Err() != nil:
		return found, fmt.Errorf("ask relay: %w", refused(conn, context.Cause(ctx)))
	case err != nil:
		return found, fmt.Errorf("ask relay: %w", err)
	}
	if problem := answer.Header.Get(micro.ErrorHeader); problem != "" {
		return found, usageError{errors.New(strings.TrimPrefix(problem, "consumer: "))}
	}
	if err := json.Unmarshal(answer.Data, &found); err != nil {
		return found, fmt.Errorf("relay's answer cannot be read: %w", err)
	}
	return found, nil
}
