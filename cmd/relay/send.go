package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay/consumer"
)

// sendCommand is relay send: every field of a message is a flag.
type sendCommand struct {
	Payload string `arg:"" optional:"" help:"The body: text, @file, or - for standard input."`

	URL            string   `name:"url" help:"Where to send it."`
	Endpoint       string   `help:"Or the name of a registered endpoint."`
	ID             string   `name:"id" help:"The webhook-id header. Made up if left out."`
	Method         string   `help:"HTTP method. Defaults to POST."`
	Header         []string `short:"H" sep:"none" placeholder:"NAME: VALUE" help:"Extra request header. Repeatable."`
	ContentType    string   `help:"Defaults to application/json."`
	EventType      string   `help:"What happened, such as order.paid; for people and for the audit log."`
	Tenant         string   `help:"Whose webhook it is."`
	MaxAttempts    *int     `placeholder:"N" help:"Attempts in all."`
	ScheduledAt    string   `placeholder:"TIME" help:"Not before: RFC 3339, or a wait such as 10m."`
	ExpiresAt      string   `placeholder:"TIME" help:"Give up after: RFC 3339, or a wait such as 2h."`
	IdempotencyKey string   `help:"A repeat with the same key is not sent again."`
	Metadata       string   `placeholder:"JSON" help:"A JSON object for the audit log."`
	Raw            bool     `help:"Publish in the raw form, with the fields as headers. Done anyway if the body is not JSON."`
	Print          bool     `help:"Show the message instead of publishing it."`
}

// Run checks the message, publishes it and shows where it was stored.
func (c *sendCommand) Run(ctx context.Context, p *program) error {
	body, err := c.body(p.stdin)
	if err != nil {
		return usageError{err}
	}
	if c.ID == "" {
		c.ID = "msg_" + nuid.Next()
	}
	if err := c.check(body, time.Now()); err != nil {
		return usageError{err}
	}
	msg := c.message(body)
	if c.Print {
		return printMessage(p.stdout, msg)
	}
	l, err := p.load()
	if err != nil {
		return err
	}
	conn, err := l.dialProducer()
	if err != nil {
		return err
	}
	defer conn.Close()
	ack, err := publish(ctx, conn, msg)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "stored in %s as %d\nwebhook-id %s\n", ack.Stream, ack.Sequence, c.ID)
	return nil
}

// dialProducer connects where relay would, also to the server inside a running
// relay, which listens.
func (c Config) dialProducer() (*nats.Conn, error) {
	if c.NATS.URL == "" {
		c.NATS.URL = serverURL(fmt.Sprintf("nats://%s:%d", c.NATS.Host, c.NATS.Port))
	}
	return c.dialNATS(zerolog.Nop())
}

func publish(ctx context.Context, conn *nats.Conn, msg *nats.Msg) (*jetstream.PubAck, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("no answer within 10s"))
	defer cancel()
	ack, err := js.PublishMsg(ctx, msg)
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		return nil, fmt.Errorf("nothing stores %s here: run relay init first", msg.Subject)
	}
	if err != nil {
		return nil, fmt.Errorf("publish to %s: %w", msg.Subject, refused(conn, err))
	}
	return ack, nil
}

// refused says why nothing answered, where the server has said it: it tells of a
// missing right beside the request, and leaves the request without an answer.
func refused(conn *nats.Conn, err error) error {
	if last := conn.LastError(); err != nil && errors.Is(last, nats.ErrPermissionViolation) {
		return fmt.Errorf("this NATS user may not do that; which command needs which user stands in deploy/nats: %w", last)
	}
	return err
}

// body reads the payload from where it is.
func (c *sendCommand) body(stdin io.Reader) ([]byte, error) {
	return written(c.Payload, stdin)
}

// written is what somebody gave on the command line: a text, @file, or - for
// standard input.
func written(text string, stdin io.Reader) ([]byte, error) {
	name, isFile := strings.CutPrefix(text, "@")
	switch {
	case text == "-":
		return io.ReadAll(stdin)
	case isFile:
		return os.ReadFile(name)
	default:
		return []byte(text), nil
	}
}

// message makes the envelope, or the raw form where the body is no JSON.
func (c *sendCommand) message(body []byte) *nats.Msg {
	msg := nats.NewMsg(cmp.Or(consumer.TenantSubject(c.Tenant), consumer.SubjectOutbound))
	if c.Raw || !json.Valid(body) {
		c.raw(msg.Header)
		msg.Data = body
		return msg
	}
	msg.Data = c.envelope(body)
	return msg
}

// fields are those that both forms have, in the envelope's spelling; only set
// ones.
func (c *sendCommand) fields() [][2]string {
	attempts := ""
	if c.MaxAttempts != nil { // 0 is set too, and a fault
		attempts = strconv.Itoa(*c.MaxAttempts)
	}
	all := [][2]string{
		{"url", c.URL},
		{"endpoint", c.Endpoint},
		{"id", c.ID},
		{"method", c.Method},
		{"content_type", c.ContentType},
		{"event_type", c.EventType},
		{"tenant", c.Tenant},
		{"max_attempts", attempts},
		{"scheduled_at", c.ScheduledAt},
		{"expires_at", c.ExpiresAt},
		{"idempotency_key", c.IdempotencyKey},
		{"metadata", c.Metadata},
	}
	var set [][2]string
	for _, f := range all {
		if f[1] != "" {
			set = append(set, f)
		}
	}
	return set
}

// envelope writes the JSON by hand: encoding/json would rewrite the payload,
// whose bytes are the HTTP body.
func (c *sendCommand) envelope(payload []byte) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for _, f := range c.fields() {
		value := []byte(f[1])
		if f[0] != "max_attempts" && f[0] != "metadata" {
			value, _ = json.Marshal(f[1]) //nolint:errchkjson // a string
		}
		fmt.Fprintf(&b, "%q:%s,", f[0], value)
	}
	if len(c.Header) > 0 {
		headers, _ := json.Marshal(c.headers()) //nolint:errchkjson // strings
		fmt.Fprintf(&b, `"headers":%s,`, headers)
	}
	b.WriteString(`"payload":`)
	b.Write(payload)
	b.WriteByte('}')
	return b.Bytes()
}

func (c *sendCommand) raw(h nats.Header) {
	for _, f := range c.fields() {
		h.Set(http.CanonicalHeaderKey("relay-"+strings.ReplaceAll(f[0], "_", "-")), f[1])
	}
	for name, values := range c.headers() {
		h["Relay-Header-"+name] = values
	}
}

func (c *sendCommand) headers() http.Header {
	all := http.Header{}
	for _, h := range c.Header {
		name, value, _ := strings.Cut(h, ":") // check has seen it
		all.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return all
}

func printMessage(w io.Writer, msg *nats.Msg) error {
	for name, values := range msg.Header {
		for _, v := range values {
			fmt.Fprintf(w, "%s: %s\n", name, v)
		}
	}
	_, err := fmt.Fprintf(w, "%s\n", msg.Data)
	return err
}
