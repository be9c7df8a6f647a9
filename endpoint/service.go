package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"
)

const (
	// SubjectEndpoints is where operators ask the micro service: a verb follows,
	// such as relay.endpoints.pause.
	SubjectEndpoints = "relay.endpoints."
	// SubjectEvents is where a change is told: one of [Registered] to [Enabled]
	// follows, and the endpoint's key.
	SubjectEvents = "relay.events.endpoint."
	// HeaderBy is the header of a request that says who asks, for people.
	HeaderBy = "Relay-By"
)

// ServiceOptions are the settings of a [Service]. Conn and Store are required.
type ServiceOptions struct {
	Conn  *nats.Conn
	Store *Store
	// Logger defaults to silence.
	Logger zerolog.Logger
}

// Service is the NATS micro service by which operators register and hold endpoints.
// Every relay process offers it, and any of them answers. Requests and answers are
// JSON, and no answer holds a secret.
type Service struct {
	o       ServiceOptions
	ready   chan struct{}
	working sync.RWMutex // held for reading by every request
	stopped bool
}

// NewService makes a service; [Service.Run] offers it.
func NewService(o ServiceOptions) *Service { return &Service{o: o, ready: make(chan struct{})} }

// Ready is closed once requests are answered.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Run offers the service until ctx ends. It may be called once.
func (s *Service) Run(ctx context.Context) error {
	service, err := micro.AddService(s.o.Conn, micro.Config{
		Name: "relay-endpoints", Version: "1.0.0", Description: "relay: the endpoints that webhooks go to",
	})
	if err != nil {
		return fmt.Errorf("endpoint: offer the service: %w", err)
	}
	const one = "a name, a URL or a key; or a JSON object with endpoint, and perhaps tenant"
	err = errors.Join(
		s.offer(service, "put", "a JSON object of settings", s.put),
		s.offer(service, "move", "as put; hidden secrets go along to another scheme, host or port", s.move),
		s.offer(service, "get", one, s.get),
		s.offer(service, "list", "nothing, or a JSON object with tenant, held, after or limit", s.list),
		s.offer(service, "delete", one, s.delete),
		s.offer(service, "pause", one+" and reason", s.state(Paused)),
		s.offer(service, "resume", one, s.state(Resumed)),
		s.offer(service, "disable", one+" and reason", s.state(Disabled)),
		s.offer(service, "enable", one, s.state(Enabled)),
		s.offer(service, "rotate", "a JSON object with endpoint, secret, and perhaps tenant and overlap", s.rotate),
		s.offer(service, "try", "a JSON object with endpoint, payload, and perhaps template and other fields of a message", s.try),
		s.o.Conn.FlushTimeout(patience), // so that who asks a relay that is ready is answered
	)
	if err != nil {
		_ = service.Stop()
		return fmt.Errorf("endpoint: offer the service: %w", err)
	}
	close(s.ready)
	<-ctx.Done()
	_ = service.Stop() // its subscriptions end with the connection in any case
	_ = s.o.Conn.FlushTimeout(patience)
	s.working.Lock() // what was asked before is answered
	s.stopped = true
	s.working.Unlock()
	return nil
}

// request is one request, in the hands of a verb.
type request struct {
	body []byte
	by   string
}

// verb carries a request out. What it returns is the answer's JSON.
type verb func(ctx context.Context, r request) (any, error)

func (s *Service) offer(service micro.Service, name, usage string, do verb) error {
	answer := func(m micro.Request) {
		s.working.RLock()
		defer s.working.RUnlock()
		if s.stopped {
			refuse(m, failed("this relay is stopping: ask again"))
			return
		}
		ctx, cancel := context.WithTimeoutCause(context.Background(), patience, errors.New("no answer from Postgres"))
		defer cancel()
		found, err := do(ctx, request{body: m.Data(), by: m.Headers().Get(HeaderBy)})
		if err != nil {
			refuse(m, err)
			return
		}
		if err := m.RespondJSON(found); err != nil {
			s.o.Logger.Warn().Err(err).Str("verb", name).Msg("an answer about endpoints could not be sent")
			refuse(m, failed("the answer cannot be sent: %w", err))
		}
	}
	return service.AddEndpoint("endpoints-"+name, micro.HandlerFunc(answer),
		micro.WithEndpointSubject(SubjectEndpoints+name), micro.WithEndpointMetadata(map[string]string{"usage": usage}))
}

// Refusal is the body of an answer that is an error.
type Refusal struct {
	Faults []string `json:"faults"` // each begins with the field that it is about, if it is about one
}

// refuse answers a request that relay cannot read or carry out. The header has the
// faults in one line.
func refuse(m micro.Request, err error) {
	var r Refusal
	all := faults(err)
	for _, fault := range all[:min(len(all), maxFaults)] {
		r.Faults = append(r.Faults, fault.Error())
	}
	if more := len(all) - maxFaults; more > 0 { // a refusal must fit into one message too
		r.Faults = append(r.Faults, fmt.Sprintf("and %d more", more))
	}
	body, _ := json.Marshal(r) // texts always have a JSON
	_ = m.Error(code(err), strings.ReplaceAll(strings.Join(r.Faults, "; "), "\n", " "), body)
}

// code is the answer's code: of HTTP's, the one that says the same.
func code(err error) string {
	_, broken := errors.AsType[failure](err)
	switch {
	case broken:
		return "500"
	case errors.Is(err, ErrUnknown):
		return "404"
	case errors.Is(err, ErrChanged), errors.Is(err, ErrInFile), errors.Is(err, ErrAmbiguous):
		return "409"
	}
	return "400"
}

// event is the JSON of one message on [SubjectEvents].
type event struct {
	Event    string    `json:"event"`
	At       time.Time `json:"at"`
	Tenant   string    `json:"tenant,omitempty"`
	Endpoint string    `json:"endpoint"` // its key
	Name     string    `json:"endpoint_name,omitempty"`
	URL      string    `json:"url,omitempty"` // without its query
	Reason   string    `json:"reason,omitempty"`
	By       string    `json:"by,omitempty"`
	// The origin for which its secrets were meant until now.
	CredentialsMovedFrom string `json:"credentials_moved_from,omitempty"`
}

// Announce returns what tells the world of changes: [StoreOptions.OnChange]. An
// event that nobody heard is gone.
func Announce(conn *nats.Conn) func(Change) {
	return func(c Change) {
		text, _ := json.Marshal(event{ // texts and a time always have a JSON
			Event: "endpoint." + c.What, At: time.Now().UTC(), Tenant: c.Tenant, Endpoint: c.Key, Name: c.Name,
			URL: withoutQuery(c.URL), Reason: c.Reason, By: c.By, CredentialsMovedFrom: c.CredentialsFrom,
		})
		_ = conn.Publish(SubjectEvents+c.What+"."+c.Key, text) // it fails only while NATS is away for long
	}
}
