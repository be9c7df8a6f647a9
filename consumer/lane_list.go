package consumer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/relaywebhooks/relay"
)

const (
	// lanesListed bounds an answer: it must fit into one message.
	lanesListed = 1000
	// lanesRead is how many lanes' heads are read at a time.
	lanesRead = 16
)

// Lane is how one endpoint's parked events stand, as the process that answers
// sees it.
type Lane struct {
	Endpoint string  `json:"endpoint"` // its key
	Tenant   string  `json:"tenant,omitempty"`
	Name     string  `json:"name,omitempty"` // if it is registered
	URL      string  `json:"url,omitempty"`  // of the event at the lane's head, without its query
	Events   uint64  `json:"events"`
	Oldest   float64 `json:"oldest_seconds"` // since the event at the head was accepted
	Rest     float64 `json:"rest_seconds"`   // how long the endpoint is not to be called yet
	State    string  `json:"state"`          // waiting, probing, draining or held
	Held     string  `json:"held,omitempty"` // why nothing is sent to the endpoint: somebody paused or disabled it
}

// Lanes is the answer of [SubjectLanes], as JSON: those with the most events
// first, and at most 1,000.
type Lanes struct {
	Lanes  []Lane `json:"lanes"`
	Count  int    `json:"count"`  // of all lanes, those that are not listed included
	Events uint64 `json:"events"` // in all of them
}

// list answers with all lanes, those of one tenant, or that of one endpoint.
func (r *service) list(req micro.Request) {
	filter := subjectParked + ">"
	if text := strings.TrimSpace(string(req.Data())); text != "" {
		key, err := r.endpointKey(req, text)
		if err != nil {
			refuse(req, "400", err)
			return
		}
		filter = subjectParked + key
	}
	r.working.Go(func() {
		lanes, err := r.lanesOf(r.ctx, filter, saidTenant(req))
		if err != nil {
			refuse(req, "500", err)
			return
		}
		_ = req.RespondJSON(lanes)
	})
}

// drain has a lane's endpoint called again, and answers with the lane.
func (r *service) drain(req micro.Request) {
	text := strings.TrimSpace(string(req.Data()))
	key, err := r.endpointKey(req, text)
	if err != nil {
		refuse(req, "400", err)
		return
	}
	if why := r.lanes.heldBy(key); why != "" {
		refuse(req, "409", fmt.Errorf("the lane is held: its endpoint is %s; it drains by itself when the endpoint is resumed or enabled", why))
		return
	}
	r.log.Info().Str("endpoint_key", key).Msg("an operator drains the lane")
	r.lanes.drain(key)
	r.working.Go(func() {
		lanes, err := r.lanesOf(r.ctx, subjectParked+key, nil)
		switch {
		case err != nil:
			refuse(req, "500", err)
		case lanes.Count == 0:
			_ = req.RespondJSON(Lane{Endpoint: key, State: LaneDraining})
		default:
			_ = req.RespondJSON(lanes.Lanes[0])
		}
	})
}

// lanesOf finds the lanes whose subjects match a filter, and those of a tenant
// among them. Whose a lane is, the event at its head says: so all of them have to
// be read.
func (r *service) lanesOf(ctx context.Context, filter string, tenant *string) (Lanes, error) {
	counts, err := r.subjectCounts(ctx, filter)
	if err != nil {
		return Lanes{}, err
	}
	found := make([]Lane, 0, len(counts))
	for subject, n := range counts {
		found = append(found, Lane{Endpoint: strings.TrimPrefix(subject, subjectParked), Events: n})
	}
	if tenant != nil {
		r.describeAll(ctx, found)
		found = slices.DeleteFunc(found, func(l Lane) bool { return l.Tenant != *tenant })
	}
	all := Lanes{Lanes: found, Count: len(found)}
	for _, l := range found {
		all.Events += l.Events
	}
	slices.SortFunc(all.Lanes, func(a, b Lane) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	all.Lanes = all.Lanes[:min(len(all.Lanes), lanesListed)]
	if tenant == nil {
		r.describeAll(ctx, all.Lanes)
	}
	return all, nil
}

// describeAll describes lanes, several at a time.
func (r *service) describeAll(ctx context.Context, lanes []Lane) {
	hands := make(chan struct{}, lanesRead)
	var reading sync.WaitGroup
	for i := range lanes {
		hands <- struct{}{}
		reading.Go(func() {
			defer func() { <-hands }()
			r.describe(ctx, &lanes[i])
		})
	}
	reading.Wait()
}

// describe adds what the event at its head says about a lane. What cannot be
// read is left out.
func (r *service) describe(ctx context.Context, lane *Lane) {
	lane.State, lane.Rest = r.lanes.state(lane.Endpoint), r.Policy.Rest(lane.Endpoint).Seconds()
	if lane.Held = r.lanes.heldBy(lane.Endpoint); lane.Held != "" {
		lane.State = LaneHeld
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	raw, err := r.later.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(subjectParked+lane.Endpoint))
	if err != nil {
		return
	}
	m := readMeta(raw.Subject, raw.Header)
	lane.Oldest = max(0, time.Since(m.key.Time).Seconds())
	w, err := decode(m, raw.Header, raw.Data)
	lane.Tenant = w.Tenant
	var ep relay.Endpoint
	if err == nil {
		ep, err = r.Endpoints.Find(w.Tenant, w.EndpointName, w.URL)
	}
	if err == nil {
		lane.Name = ep.Name
		lane.URL, _, _ = strings.Cut(ep.URL, "?")
	}
}

// String says the lane in one line, for people.
func (l Lane) String() string {
	s := fmt.Sprintf("%s: %d events, %s", l.Endpoint, l.Events, l.State)
	if l.Held != "" {
		return s + ": its endpoint is " + l.Held
	}
	if l.Rest > 0 {
		s += fmt.Sprintf(", its endpoint rests for %.0fs", l.Rest)
	}
	return s
}
