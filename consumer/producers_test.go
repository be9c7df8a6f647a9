package consumer_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/delivery"
	"github.com/relaywebhooks/relay/policy"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/signature"
)

// producer is one message of a hostile or careless producer, and what must
// become of it. In header, block and body, $URL stands for an address of the
// receiver that belongs to the case alone, and $HOST and $PATH for its parts.
type producer struct {
	name    string
	subject string   // below webhooks.outbound.
	header  []string // names and values
	block   string   // instead: the lines as they go over the wire, for what nats.go does not write
	body    string
	want    fate
}

// fate is what becomes of a message: it is sent as it is written here, or
// buried without a request, or not even stored.
type fate struct {
	refused string            // the publisher's error says this
	dead    string            // the reason says this
	body    string            // of the request
	wire    map[string]string // headers of the request: the values with commas between, "" for none
	row     map[string]string // columns of relay.webhooks, "" for null
	target  string            // what follows the case's own path in the request line
	method  string            // POST if empty
}

func sent(body string) fate            { return fate{body: body} }
func dead(reason string) fate          { return fate{dead: reason} }
func refused(because string) fate      { return fate{refused: because} }
func rawTo(headers ...string) []string { return append([]string{"Relay-Url", "$URL"}, headers...) }

func (o fate) with(headers ...string) fate {
	o.wire = pairs(headers)
	return o
}

func (o fate) recorded(columns ...string) fate {
	o.row = pairs(columns)
	return o
}

func (o fate) to(target string) fate {
	o.target = target
	return o
}

func (o fate) by(method string) fate {
	o.method = method
	return o
}

func pairs(list []string) map[string]string {
	m := make(map[string]string, len(list)/2)
	for i := 0; i < len(list); i += 2 {
		m[list[i]] = list[i+1]
	}
	return m
}

const producersSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestProducers publishes everything that a hostile or careless producer may
// write, all at once to one relay, and looks at what reached the wire and the
// database: one row for each message that was stored; for one that can be sent,
// one request, signed, to the byte as it was published; for one that cannot, no
// request, no attempt, and one letter with the message as it was.
func TestProducers(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t, relaytest.Options{
		Endpoints: []relay.Endpoint{{Name: "orders", URL: "http://127.0.0.1:9/never"}},
		Delivery:  delivery.Options{Secrets: []relay.Secret{producersSecret}},
		Policy:    policy.Options{Schedule: []time.Duration{time.Hour}},
	})
	cases := map[string][]producer{
		"envelope": envelopeCases(), "fields": fieldCases(), "raw": rawCases(), "headers": headerCases(),
		"NATS headers": natsCases(), "URL": urlCases(), "tenants": tenantCases(), "further": furtherCases(),
	}
	p := &producing{Relay: r, t: t}
	for _, group := range sortedNames(cases) {
		for _, c := range cases[group] {
			p.publish(group, c)
		}
	}
	for _, e := range p.events {
		t.Run(e.group+"/"+e.name, func(t *testing.T) { p.check(t, e) })
	}
	requireEmpty(t, r)
	var rows, letters int
	for _, e := range p.events {
		if e.want.refused == "" {
			rows++
		}
		if e.want.dead != "" {
			letters++
		}
	}
	if n := p.count("SELECT count(*) FROM relay.webhooks"); n != rows {
		t.Errorf("%d rows of %d events", n, rows)
	}
	if n := stored(t, r, consumer.StreamDead); n != letters {
		t.Errorf("%d letters, want %d", n, letters)
	}
	for _, view := range []string{"webhook_status", "dead_letters", "endpoint_health"} {
		if n := p.count("SELECT count(row_to_json(v)::text) FROM relay." + view + " v"); n == 0 {
			t.Errorf("relay.%s shows nothing", view)
		}
	}
}

func sortedNames(m map[string][]producer) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// producing is the table under way.
type producing struct {
	*relaytest.Relay
	t      *testing.T
	events []published
}

// published is a case whose message was given to JetStream.
type published struct {
	producer
	group, path string
	ack         jetstream.PubAck
	err         error
}

func (p *producing) publish(group string, c producer) {
	p.t.Helper()
	e := published{producer: c, group: group, path: fmt.Sprintf("/case%03d", len(p.events))}
	put := strings.NewReplacer("$URL", p.Receiver.URL+e.path, "$HOST", strings.TrimPrefix(p.Receiver.URL, "http://"), "$PATH", e.path)
	e.body = put.Replace(c.body)
	subject := consumer.SubjectOutbound
	if c.subject != "" {
		subject += "." + c.subject
	}
	if c.block != "" {
		e.ack, e.err = p.overTheWire(subject, put.Replace(c.block), e.body)
	} else {
		m := &nats.Msg{Subject: subject, Data: []byte(e.body), Header: nats.Header{}}
		for i := 0; i < len(c.header); i += 2 {
			m.Header[c.header[i]] = append(m.Header[c.header[i]], put.Replace(c.header[i+1]))
		}
		var ack *jetstream.PubAck
		if ack, e.err = p.JS.PublishMsg(p.t.Context(), m); e.err == nil {
			e.ack = *ack
		}
	}
	p.events = append(p.events, e)
}

// overTheWire publishes as a client that checks nothing.
func (p *producing) overTheWire(subject, block, body string) (ack jetstream.PubAck, err error) {
	p.t.Helper()
	inbox := p.Conn.NewInbox()
	answers, err := p.Conn.SubscribeSync(inbox)
	p.must(err)
	p.must(p.Conn.Flush())
	server, err := url.Parse(p.NATS.ClientURL())
	p.must(err)
	conn, err := net.Dial("tcp", server.Host)
	p.must(err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "CONNECT {\"headers\":true,\"verbose\":false}\r\nHPUB %s %s %d %d\r\n%s%s\r\nPING\r\n",
		subject, inbox, len(block), len(block)+len(body), block, body)
	p.must(err)
	answer, err := answers.NextMsg(relaytest.Patience)
	p.must(err)
	said := struct {
		jetstream.PubAck
		Error *jetstream.APIError `json:"error"`
	}{}
	p.must(json.Unmarshal(answer.Data, &said))
	if said.Error != nil {
		return said.PubAck, said.Error
	}
	return said.PubAck, nil
}

func (p *producing) must(err error) {
	if err != nil {
		p.t.Helper()
		p.t.Fatal(err)
	}
}

func (p *producing) count(sql string, args ...any) (n int) {
	p.t.Helper()
	p.must(p.DB.QueryRow(p.t.Context(), sql, args...).Scan(&n))
	return n
}

// check holds a case to its fate.
func (p *producing) check(t *testing.T, e published) {
	t.Helper()
	p = &producing{Relay: p.Relay, t: t} // a fault is this case's alone
	if e.want.refused != "" {
		if e.err == nil || !strings.Contains(e.err.Error(), e.want.refused) {
			t.Errorf("the publisher got %+v, %v; want an error with %q", e.ack, e.err, e.want.refused)
		}
		return
	}
	if e.err != nil {
		t.Fatalf("not stored: %v", e.err)
	}
	row := p.row(t, e)
	for column, want := range e.want.row {
		if got := text(row[column]); got != strings.ReplaceAll(want, "$URL", p.Receiver.URL+e.path) {
			t.Errorf("%s is %q in the record, want %q", column, got, want)
		}
	}
	attempts := p.count("SELECT count(*) FROM relay.attempts WHERE seq = $1", e.ack.Sequence)
	requests := p.requests(e.path)
	if e.want.dead != "" {
		p.checkDead(t, e, row)
		if attempts != 0 || len(requests) != 0 {
			t.Errorf("%d attempts and %d requests, want none", attempts, len(requests))
		}
		return
	}
	if attempts != 1 || len(requests) != 1 || row["status"] != "delivered" {
		t.Fatalf("%d attempts, %d requests, recorded %v; want one, delivered", attempts, len(requests), row)
	}
	p.checkSent(t, e, row, requests[0])
}

// row waits until an event has come to its end, and returns its row.
func (p *producing) row(t *testing.T, e published) map[string]any {
	t.Helper()
	var rows []string
	ok := p.Eventually(func() bool {
		found, err := p.DB.Query(t.Context(), "SELECT row_to_json(w)::text FROM relay.webhooks w WHERE seq = $1", e.ack.Sequence)
		p.must(err)
		rows = rows[:0]
		for found.Next() {
			var row string
			p.must(found.Scan(&row))
			rows = append(rows, row)
		}
		p.must(found.Err())
		return len(rows) == 1 && (strings.Contains(rows[0], `"status":"delivered"`) || strings.Contains(rows[0], `"status":"dead"`))
	})
	if !ok {
		t.Fatalf("message %d came to no end: %v", e.ack.Sequence, rows)
	}
	row := map[string]any{}
	dec := json.NewDecoder(strings.NewReader(rows[0]))
	dec.UseNumber() // those of metadata may be of any length
	p.must(dec.Decode(&row))
	return row
}

// text is a column as JSON shows it.
func text(v any) string {
	if v == nil {
		return ""
	}
	if s, ok := v.(string); ok {
		return s
	}
	out, _ := json.Marshal(v)
	return string(out)
}

// requests are those that came to a case's own address.
func (p *producing) requests(path string) (came []relaytest.Request) {
	for _, r := range p.Receiver.Requests() {
		if strings.HasPrefix(r.Path, path) {
			came = append(came, r)
		}
	}
	return came
}

func (p *producing) checkDead(t *testing.T, e published, row map[string]any) {
	t.Helper()
	reason := text(row["reason"])
	if row["status"] != "dead" || !strings.Contains(reason, e.want.dead) {
		t.Fatalf("recorded %v; want it dead with %q", row, e.want.dead)
	}
	at, err := time.Parse(time.RFC3339, text(row["accepted_at"]))
	p.must(err)
	letter := p.Letter(relaytest.Webhook{EndpointKey: text(row["endpoint_key"]), Key: relay.NewKey(at, e.ack.Sequence)})
	if string(letter.Data) != e.body {
		t.Errorf("the letter holds %.200q, published was %.200q", letter.Data, e.body)
	}
	if got := letter.Header.Values("Relay-Meta-Reason"); len(got) != 1 || got[0] != reason {
		t.Errorf("the letter gives as reasons %q, the record says %q", got, reason)
	}
}

func (p *producing) checkSent(t *testing.T, e published, row map[string]any, got relaytest.Request) {
	t.Helper()
	if string(got.Body) != e.want.body {
		t.Errorf("sent was %.200q, want %.200q", got.Body, e.want.body)
	}
	if e.want.method == "" {
		e.want.method = http.MethodPost
	}
	if got.Method != e.want.method || got.Path != e.path+e.want.target {
		t.Errorf("the request line says %s %s, want %s %s", got.Method, got.Path, e.want.method, e.path+e.want.target)
	}
	for name, want := range e.want.wire {
		if v := strings.Join(got.Header.Values(name), ","); v != want {
			t.Errorf("header %s is %q, want %q", name, v, want)
		}
	}
	if ids := got.Header.Values("webhook-id"); len(ids) != 1 || ids[0] != row["webhook_id"] {
		t.Errorf("webhook-id is %q, recorded %v", ids, row["webhook_id"])
	}
	if v := got.Header.Get("Accept-Encoding"); v != "identity" {
		t.Errorf("Accept-Encoding is %q", v)
	}
	verifier, err := signature.NewVerifier(producersSecret)
	p.must(err)
	if err := verifier.Verify(got.Header, got.Body); err != nil {
		t.Error(err)
	}
}
