package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/consumer"
)

// laneCommand is relay lane: what is parked for an endpoint that cannot be
// called, and what an operator may do about it.
type laneCommand struct {
	List   laneListCommand   `cmd:"" help:"Show the endpoints for which events are parked."`
	Drain  laneDrainCommand  `cmd:"" help:"Send what is parked now, whatever the circuit says: probes first, then more and more."`
	Expire laneExpireCommand `cmd:"" help:"Lay what is parked for too long among the dead letters."`
	Bury   laneBuryCommand   `cmd:"" help:"Lay all that is parked among the dead letters."`
}

// laneListCommand is relay lane list.
type laneListCommand struct {
	Endpoint string  `arg:"" optional:"" help:"The name, URL or key of one endpoint. Defaults to all."`
	Tenant   *string `help:"Whose endpoint that is, or whose are shown; an empty text means no tenant's."`
	JSON     bool    `name:"json" help:"Show it as JSON."`
}

// Run asks a running relay for its lanes.
func (c *laneListCommand) Run(ctx context.Context, p *program) error {
	var lanes consumer.Lanes
	if err := p.asking(func(conn *nats.Conn) (err error) {
		lanes, err = askFor[consumer.Lanes](ctx, conn, c.Tenant, consumer.SubjectLanes, c.Endpoint)
		return err
	}); err != nil {
		return err
	}
	if c.JSON {
		return p.showJSON(lanes)
	}
	if lanes.Count == 0 {
		fmt.Fprintln(p.stdout, "nothing is parked")
		return nil
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ENDPOINT\tTENANT\tEVENTS\tOLDEST\tSTATE\tRESTS FOR\tIS")
	for _, l := range lanes.Lanes {
		name := l.Name
		if name == "" {
			name = l.URL
		}
		if l.Held != "" {
			name += ", " + l.Held
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", l.Endpoint, l.Tenant, l.Events, seconds(l.Oldest), l.State, seconds(l.Rest), name)
	}
	if n := lanes.Count - len(lanes.Lanes); n > 0 {
		fmt.Fprintf(w, "and %d more; %d events in all\n", n, lanes.Events)
	}
	return w.Flush()
}

// seconds shows a number of seconds as a duration.
func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

// laneDrainCommand is relay lane drain.
type laneDrainCommand struct {
	Endpoint string  `arg:"" help:"The endpoint's name, URL or key."`
	Tenant   *string `help:"Whose endpoint that is; an empty text means no tenant's."`
	JSON     bool    `name:"json" help:"Show it as JSON."`
}

// Run has every running relay call the endpoint again.
func (c *laneDrainCommand) Run(ctx context.Context, p *program) error {
	var lane consumer.Lane
	if err := p.asking(func(conn *nats.Conn) (err error) {
		lane, err = askFor[consumer.Lane](ctx, conn, c.Tenant, consumer.SubjectDrain, c.Endpoint)
		return err
	}); err != nil {
		return err
	}
	if c.JSON {
		return p.showJSON(lane)
	}
	if lane.Events == 0 {
		fmt.Fprintf(p.stdout, "nothing is parked for %s\n", c.Endpoint)
		return nil
	}
	of := ""
	if c.Tenant != nil {
		of = " --tenant=" + shellWord(*c.Tenant)
	}
	fmt.Fprintf(p.stdout, "draining %d events; relay lane list %s%s shows how many are left\n", lane.Events, c.Endpoint, of)
	return nil
}

// laneExpireCommand is relay lane expire.
type laneExpireCommand struct {
	Endpoint  string        `arg:"" help:"The endpoint's name, URL or key."`
	OlderThan time.Duration `help:"Only what was accepted longer ago than this, such as 24h. Defaults to what is past its own expires_at."`
	laneJob   `embed:""`
}

// Run asks a running relay to do it and shows how it comes along.
func (c *laneExpireCommand) Run(ctx context.Context, p *program) error {
	request := c.Endpoint
	if c.OlderThan != 0 {
		request += " " + c.OlderThan.String()
	}
	return c.follow(ctx, p, consumer.SubjectExpire, request)
}

// laneBuryCommand is relay lane bury.
type laneBuryCommand struct {
	Endpoint string `arg:"" help:"The endpoint's name, URL or key."`
	Reason   string `help:"Why; it stands in the dead letters and in the audit log."`
	laneJob  `embed:""`
}

// Run asks a running relay to do it and shows how it comes along.
func (c *laneBuryCommand) Run(ctx context.Context, p *program) error {
	return c.follow(ctx, p, consumer.SubjectBury, c.Endpoint+" "+c.Reason)
}

// laneJob is a command that has relay do what takes longer.
type laneJob struct {
	Tenant *string `help:"Whose endpoint that is; an empty text means no tenant's."`
	Detach bool    `short:"d" help:"Do not wait for the end."`
	JSON   bool    `name:"json" help:"Show it as JSON."`
}

// follow starts a job and shows how far it is, until it ends. The job is
// relay's: it goes on if this command is interrupted.
func (c *laneJob) follow(ctx context.Context, p *program, subject, request string) error {
	var job consumer.Job
	if err := p.asking(func(conn *nats.Conn) (err error) {
		job, err = askFor[consumer.Job](ctx, conn, c.Tenant, subject, request)
		for err == nil && !c.Detach && job.State == "running" {
			fmt.Fprintf(p.stderr, "buried %d\n", job.Buried)
			job, err = next(ctx, conn, job)
		}
		return err
	}); err != nil {
		return err
	}
	if c.JSON {
		if err := p.showJSON(job); err != nil {
			return err
		}
	} else if job.State == "running" {
		fmt.Fprintf(p.stdout, "job %s\n", job.ID)
	} else {
		fmt.Fprintf(p.stdout, "%s: buried %d\n", job.State, job.Buried)
	}
	if job.Error != "" {
		return errors.New(job.Error)
	}
	return nil
}

// asking lends a connection to NATS.
func (p *program) asking(do func(*nats.Conn) error) error {
	l, err := p.load()
	if err != nil {
		return err
	}
	conn, err := l.dialProducer()
	if err != nil {
		return err
	}
	defer conn.Close()
	return do(conn)
}

func (p *program) showJSON(v any) error {
	e := json.NewEncoder(p.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
