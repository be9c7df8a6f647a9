package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/relaywebhooks/relay/endpoint"
)

// endpointDone asks for what has nothing to show, and says how the endpoint stands.
func (p *program) endpointDone(ctx context.Context, verb string, request any) error {
	var done endpoint.Done
	if err := p.askEndpoints(ctx, verb, request, &done); err != nil {
		return err
	}
	name := done.Name
	if name == "" {
		name = done.URL
	}
	fmt.Fprintf(p.stdout, "%s is %s", name, done.Done)
	if done.Held != "" {
		fmt.Fprintf(p.stdout, "; its events wait: %s", done.Held)
	}
	_, err := fmt.Fprintln(p.stdout)
	return err
}

// endpointJSON asks for what is shown as it comes.
func (p *program) endpointJSON(ctx context.Context, verb string, request any) error {
	var answer json.RawMessage
	if err := p.askEndpoints(ctx, verb, request, &answer); err != nil {
		return err
	}
	return p.showJSON(answer)
}

// askEndpoints asks a running relay about endpoints; request is JSON, or becomes it.
func (p *program) askEndpoints(ctx context.Context, verb string, request, answer any) error {
	body, ok := request.([]byte)
	if !ok {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	return p.asking(func(conn *nats.Conn) error {
		ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("no answer within 10s"))
		defer cancel()
		m := &nats.Msg{Subject: endpoint.SubjectEndpoints + verb, Data: body, Header: nats.Header{endpoint.HeaderBy: {whoAmI()}}}
		got, err := conn.RequestMsgWithContext(ctx, m)
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return errors.New("no relay is running on this NATS server, or this user may not ask it")
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("ask relay: %w", refused(conn, context.Cause(ctx)))
		case err != nil:
			return fmt.Errorf("ask relay: %w", err)
		}
		if problem := got.Header.Get(micro.ErrorHeader); problem != "" {
			var r endpoint.Refusal
			if json.Unmarshal(got.Data, &r) == nil && len(r.Faults) > 0 {
				problem = strings.Join(r.Faults, "\n")
			}
			return usageError{errors.New(problem)}
		}
		if err := json.Unmarshal(got.Data, answer); err != nil {
			return fmt.Errorf("relay's answer cannot be read: %w", err)
		}
		return nil
	})
}

// whoAmI says who changes an endpoint, for people.
func whoAmI() string {
	name, host := "somebody", "somewhere"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}
