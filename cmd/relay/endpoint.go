package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/relaywebhooks/relay/endpoint"
)

// endpointCommand is relay endpoint: the endpoints that webhooks go to.
type endpointCommand struct {
	Put     endpointPutCommand     `cmd:"" help:"Register an endpoint, or replace its settings."`
	Get     endpointGetCommand     `cmd:"" help:"Show an endpoint's settings, as put takes them. Secrets are hidden, and put keeps those."`
	List    endpointListCommand    `cmd:"" help:"Show which endpoints there are, and which of them are held."`
	Delete  endpointDeleteCommand  `cmd:"" help:"Take an endpoint out of the registry. What still names it becomes a dead letter."`
	Pause   endpointPauseCommand   `cmd:"" help:"Keep an endpoint's events until it is resumed."`
	Resume  endpointResumeCommand  `cmd:"" help:"End a pause: what was kept is sent."`
	Disable endpointDisableCommand `cmd:"" help:"Keep an endpoint's events until it is enabled."`
	Enable  endpointEnableCommand  `cmd:"" help:"Enable an endpoint that was disabled: what was kept is sent."`
	Rotate  endpointRotateCommand  `cmd:"" help:"Sign with a new secret, and for a while with the old ones too. Shows the new one."`
	Try     endpointTryCommand     `cmd:"" help:"Show the request that a webhook would become by the endpoint's template, or by another one. Sends nothing."`
}

// which names one endpoint.
type which struct {
	Endpoint string  `arg:"" help:"The endpoint's name, URL or key."`
	Tenant   *string `help:"Whose it is; an empty text means no tenant's."`
}

func (w which) request() map[string]any {
	r := map[string]any{"endpoint": w.Endpoint}
	if w.Tenant != nil {
		r["tenant"] = *w.Tenant
	}
	return r
}

// whichAndWhy is an endpoint that is to be held, and the reason.
type whichAndWhy struct {
	which
	Reason string `help:"Why, for people."`
}

func (w whichAndWhy) request() map[string]any {
	r := w.which.request()
	r["reason"] = w.Reason
	return r
}

// endpointPutCommand is relay endpoint put.
type endpointPutCommand struct {
	Settings string `arg:"" optional:"" help:"A JSON object: text, @file, or - for standard input."`
	Name     string `help:"Its name; goes before the one in the settings."`
	URL      string `name:"url" help:"Where it is; goes before the one in the settings."`
	Tenant   string `help:"Whose it is; goes before the one in the settings."`
	Move     bool   `name:"move-credentials" help:"Have what is [hidden] go along to another scheme, host or port, unseen."`
}

// Run asks a running relay to register the endpoint, and shows it.
func (c *endpointPutCommand) Run(ctx context.Context, p *program) error {
	body := []byte("{}")
	if c.Settings != "" {
		var err error
		if body, err = written(c.Settings, p.stdin); err != nil {
			return usageError{err}
		}
	}
	for field, value := range map[string]string{"name": c.Name, "url": c.URL, "tenant": c.Tenant} {
		if value == "" {
			continue
		}
		var settings map[string]json.RawMessage
		if err := json.Unmarshal(body, &settings); err != nil || settings == nil {
			return usageError{errors.New("the settings must be a JSON object")}
		}
		settings[field], _ = json.Marshal(value) // a text always has a JSON
		body, _ = json.Marshal(settings)         // and so has what was JSON
	}
	verb := "put"
	if c.Move {
		verb = "move"
	}
	return p.endpointJSON(ctx, verb, body)
}

// endpointGetCommand is relay endpoint get.
type endpointGetCommand struct{ which }

// Run asks a running relay for the endpoint.
func (c *endpointGetCommand) Run(ctx context.Context, p *program) error {
	return p.endpointJSON(ctx, "get", c.request())
}

// endpointListCommand is relay endpoint list.
type endpointListCommand struct {
	Tenant *string `help:"Only those of this tenant; an empty text means those of none."`
	Held   bool    `help:"Only those whose events are kept."`
	JSON   bool    `name:"json" help:"Show it as JSON, one object an endpoint."`
}

// Run asks a running relay for all pages of the list.
func (c *endpointListCommand) Run(ctx context.Context, p *program) error {
	request := map[string]any{"held": c.Held}
	if c.Tenant != nil {
		request["tenant"] = *c.Tenant
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(w, "ENDPOINT\tTENANT\tNAME\tURL\tFROM\tHELD")
	}
	for {
		var page endpoint.Listing
		if err := p.askEndpoints(ctx, "list", request, &page); err != nil {
			return err
		}
		if err := c.show(p, w, page); err != nil {
			return err
		}
		if page.Next == "" {
			return w.Flush()
		}
		request["after"] = page.Next
	}
}

func (c *endpointListCommand) show(p *program, w io.Writer, page endpoint.Listing) error {
	for _, e := range page.Endpoints {
		if !c.JSON {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Endpoint, e.Tenant, e.Name, e.URL, e.Source, e.Held)
		} else if err := json.NewEncoder(p.stdout).Encode(e); err != nil {
			return err
		}
	}
	return nil
}

// endpointDeleteCommand is relay endpoint delete.
type endpointDeleteCommand struct{ which }

// Run asks a running relay to delete the endpoint.
func (c *endpointDeleteCommand) Run(ctx context.Context, p *program) error {
	return p.endpointDone(ctx, "delete", c.request())
}

// endpointPauseCommand is relay endpoint pause.
type endpointPauseCommand struct{ whichAndWhy }

// Run asks a running relay to pause the endpoint.
func (c *endpointPauseCommand) Run(ctx context.Context, p *program) error {
	return p.endpointDone(ctx, "pause", c.request())
}

// endpointResumeCommand is relay endpoint resume.
type endpointResumeCommand struct{ which }

// Run asks a running relay to resume the endpoint.
func (c *endpointResumeCommand) Run(ctx context.Context, p *program) error {
	return p.endpointDone(ctx, "resume", c.request())
}

// endpointDisableCommand is relay endpoint disable.
type endpointDisableCommand struct{ whichAndWhy }

// Run asks a running relay to disable the endpoint.
func (c *endpointDisableCommand) Run(ctx context.Context, p *program) error {
	return p.endpointDone(ctx, "disable", c.request())
}

// endpointEnableCommand is relay endpoint enable.
type endpointEnableCommand struct{ which }

// Run asks a running relay to enable the endpoint.
func (c *endpointEnableCommand) Run(ctx context.Context, p *program) error {
	return p.endpointDone(ctx, "enable", c.request())
}

// endpointRotateCommand is relay endpoint rotate.
type endpointRotateCommand struct {
	which
	Overlap string `default:"24h" help:"How long the old secrets sign too."`
	Ed25519 bool   `name:"ed25519" xor:"secret" help:"Make a pair: whsk_ for relay, whpk_ for the receiver."`
	Secret  string `xor:"secret" help:"Sign with this one, instead of one that is made now: @file, or - for standard input."`
}

// Run makes the secret here, so that it stands in no answer, and shows it when the
// endpoint signs with it.
func (c *endpointRotateCommand) Run(ctx context.Context, p *program) error {
	private, shown, err := makeSecret(c.Ed25519)
	if c.Secret != "" {
		if c.Secret != "-" && !strings.HasPrefix(c.Secret, "@") {
			return usageError{errors.New("--secret wants @file or -: what stands on the command line others can see")}
		}
		var text []byte
		text, err = written(c.Secret, p.stdin)
		private, shown = strings.TrimSpace(string(text)), ""
	}
	if err != nil {
		return err
	}
	r := c.request()
	r["secret"], r["overlap"] = private, c.Overlap
	var entry json.RawMessage
	if err := p.askEndpoints(ctx, "rotate", r, &entry); err != nil {
		return err
	}
	_, err = fmt.Fprint(p.stdout, shown)
	return err
}

// endpointTryCommand is relay endpoint try.
type endpointTryCommand struct {
	Endpoint  string  `arg:"" optional:"" help:"The endpoint's name, URL or key. Without one, the template in the file --template is tried here, without a running relay."`
	Tenant    *string `help:"Whose it is; an empty text means no tenant's."`
	From      string  `name:"payload" help:"Without an endpoint: a file with the payload, or - for standard input."`
	Payload   string  `arg:"" optional:"" default:"{}" help:"The webhook's payload, JSON: text, @file, or - for standard input."`
	Template  string  `help:"Instead of the endpoint's template, JSON: text or @file."`
	EventType string  `help:"What happened, such as order.paid."`
	ID        string  `name:"id" help:"The webhook-id."`
}

// Run asks a running relay for the request, and shows it.
func (c *endpointTryCommand) Run(ctx context.Context, p *program) error {
	if c.Endpoint == "" {
		return c.local(p)
	}
	r := which{c.Endpoint, c.Tenant}.request()
	for field, text := range map[string]string{"payload": c.Payload, "template": c.Template} {
		if text == "" {
			continue
		}
		raw, err := written(text, p.stdin)
		if err != nil {
			return usageError{err}
		}
		if !json.Valid(raw) {
			return usageError{fmt.Errorf("the %s is not JSON", field)}
		}
		r[field] = json.RawMessage(raw)
	}
	for field, text := range map[string]string{"event_type": c.EventType, "id": c.ID} {
		if text != "" {
			r[field] = text
		}
	}
	return p.endpointJSON(ctx, "try", r)
}
