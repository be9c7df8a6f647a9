package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	healthyPaths = 6 // /ok/0 to /ok/5: never sick as a whole
	finePaths    = 2 // /fine/0 and /fine/1: nothing ever fails there
	sickPaths    = 3 // /sick/0 to /sick/2: the nemesis may strike these
	busyPaths    = 4 // /busy/0 to /busy/3: they say 429 to some
	publishers   = 12
)

// mix is how often each plan is chosen, out of 1000. The rest is planOK. Not
// more attempts fail by plan than a well endpoint may: a circuit that opens by
// them would leave no lane that must be empty after the faults.
var mix = []struct {
	plan  plan
	share int
}{
	{planDrip, 25},
	{planFlaky, 20},
	{planFail, 3},
	{planHang, 6},
	{planReset, 10},
	{planGone, 12},
	{planBusy, 10},
	{planLate, 15},
	{planInvalid, 4},
	{planTwin, 6},
}

// producer publishes events with known ids, at a steady rate.
type producer struct {
	history *history
	js      jetstream.JetStream
	seed    uint64
	rate    int
	url     string // of the receiver's cable
	quiet   bool   // only planOK: for a look at one fault alone

	registered []*registered // endpoints; none: none are
}

// run publishes until ctx ends, and then only finishes what it has begun: an
// event whose confirmation was lost is published again under its message id.
func (p *producer) run(ctx context.Context) {
	random := rand.New(rand.NewPCG(p.seed, 1)) //nolint:gosec // a campaign must be repeatable
	queue := make(chan *nats.Msg)
	var publishing sync.WaitGroup
	for range publishers {
		publishing.Go(func() {
			for m := range queue {
				p.publish(m)
			}
		})
	}
	began := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		m := p.event(n, random)
		for _, m := range p.twice(m) {
			select {
			case queue <- m:
			case <-ctx.Done():
			}
		}
		// What an outage held up is caught up with, as real producers do.
		wait(ctx, time.Until(began.Add(time.Duration(n)*time.Second/time.Duration(p.rate))))
	}
	close(queue)
	publishing.Wait()
}

// twice makes two events of one that will fail, with the same webhook id and
// message ids of their own: a webhook id is the producer's and not unique.
func (p *producer) twice(m *nats.Msg) []*nats.Msg {
	id := m.Header.Get(nats.MsgIdHdr)
	if planOf(id) != planFail {
		return []*nats.Msg{m}
	}
	again := nats.NewMsg(m.Subject)
	again.Data, again.Header = m.Data, maps.Clone(m.Header)
	again.Header.Set(nats.MsgIdHdr, id+"_again")
	return []*nats.Msg{m, again}
}

// publish tries until JetStream confirms. A lost confirmation makes no second
// event: the message id is remembered by the stream.
func (p *producer) publish(m *nats.Msg) {
	id := strings.TrimSuffix(m.Header.Get(nats.MsgIdHdr), "_again")
	p.history.note(entry{What: sayIntend, ID: id, Plan: planOf(id), Path: m.Header.Get("X-Path"), Hash: m.Header.Get("X-Hash")})
	m.Header.Del("X-Path")
	m.Header.Del("X-Hash")
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		ack, err := p.js.PublishMsg(ctx, m)
		cancel()
		if err == nil {
			p.history.note(entry{What: sayAcked, ID: id, Seq: ack.Sequence})
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// event makes the nth event. Its id tells the plan, as <run>_<plan>_<n>.
func (p *producer) event(n int, random *rand.Rand) *nats.Msg {
	what := planOK
	for left, i := random.IntN(1000), 0; !p.quiet && i < len(mix); i++ {
		if left -= mix[i].share; left < 0 {
			what = mix[i].plan
			break
		}
	}
	id := fmt.Sprintf("c%d_%s_%06d", p.seed, what, n)
	payload := fmt.Sprintf(`{"n": %d, "fill":  %q}`, n, strings.Repeat("x", random.IntN(600)))
	to := p.destination(what, random)
	m := nats.NewMsg(to.subject())
	if what == planOK && n%4 == 0 {
		m.Data = fmt.Appendf(nil, `{"id": %q, %q: %q, "event_type": "campaign.raw", "payload": %s}`, id, strings.ToLower(to.field), to.address, payload)
	} else {
		m.Data = []byte(payload)
		m.Header.Set("Relay-"+to.field, to.address)
		m.Header.Set("Relay-Id", id)
		p.ask(m, what, n, random)
	}
	sum := sha256.Sum256([]byte(to.body(payload)))
	m.Header.Set(nats.MsgIdHdr, id)
	m.Header.Set("X-Path", to.path) // for the history; they do not leave this process
	m.Header.Set("X-Hash", hex.EncodeToString(sum[:8]))
	return m
}

// destination is where an event goes, and how it says so.
type destination struct {
	*registered    // what is not registered has no settings
	path           string
	field, address string // Url, or Endpoint and its name
}

// lasting are the plans for registered endpoints: what these answer is a success
// in the end, so that what is held must be delivered.
var lasting = []plan{planOK, planDrip, planFlaky, planHang, planReset, planLate}

func (p *producer) destination(what plan, random *rand.Rand) destination {
	path := fmt.Sprintf("/ok/%d", random.IntN(healthyPaths))
	switch {
	case len(p.registered) > 0 && slices.Contains(lasting, what) && random.IntN(100) < 10:
		r := p.registered[random.IntN(len(p.registered))]
		if random.IntN(2) == 0 {
			return destination{r, r.path, "Endpoint", r.name}
		}
		return destination{r, r.path, "Url", p.url + r.path}
	case what == planBusy:
		path = fmt.Sprintf("/busy/%d", random.IntN(busyPaths))
	case what == planOK && random.IntN(100) < 30:
		path = fmt.Sprintf("/fine/%d", random.IntN(finePaths))
	case !p.quiet && random.IntN(100) < 8:
		path = fmt.Sprintf("/sick/%d", random.IntN(sickPaths))
	}
	return destination{&registered{}, path, "Url", p.url + path}
}

// ask sets what some plans need said in the message.
func (p *producer) ask(m *nats.Msg, what plan, n int, random *rand.Rand) {
	switch what { //nolint:exhaustive // the others need nothing
	case planLate:
		m.Header.Set("Relay-Scheduled-At", time.Now().Add(time.Duration(1+random.IntN(5))*time.Second).UTC().Format(time.RFC3339))
	case planInvalid:
		m.Header.Set("Relay-Max-Attempts", "many")
	case planTwin:
		m.Header.Set("Relay-Idempotency-Key", fmt.Sprintf("twin-%d-%d", p.seed, n/500))
	}
}
