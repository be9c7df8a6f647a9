package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay"
)

// handle is the way of one webhook: read it, claim it, attempt it, record what
// came of it, and only then settle its message. A return before the end leaves
// the message unacknowledged: JetStream delivers it again, and the claim knows
// how far it came.
func (c *Consumer) handle(ctx context.Context, raw jetstream.Msg, h *hand) {
	m, err := newMessage(raw, h)
	if err != nil {
		c.log.Error().Err(err).Str("subject", raw.Subject()).Msg("not a JetStream message")
		return
	}
	c.newer(ctx, m)
	w, ep, fault := c.read(m)
	if v, no := c.refused(m, w, ep, fault); no {
		c.setAside(ctx, m, w, v)
		return
	}
	c.asides.goesOn()
	claim, err := c.Log.Claim(ctx, w) // no claim, no request
	if err != nil {
		c.left(w, "claim", err)
		return
	}
	c.At(AfterClaim)
	if claim.Verdict.Action != relay.Send { // decided before: only settle it
		c.settle(ctx, m, w, claim, c.shelve(m, w, claim.Verdict))
		return
	}
	attempts, verdict, err := c.attempt(ctx, m, &ep, &w, &claim, fault)
	if err != nil {
		c.left(w, "claim again", err)
		return
	}
	verdict = c.shelve(m, w, c.disable(ctx, ep, verdict))
	c.At(BeforeRecord)
	recorded, err := c.Log.Record(ctx, w, claim, attempts, verdict) // no record, no acknowledgement
	if err != nil {
		c.left(w, "record", err)
		return
	}
	c.At(AfterRecord)
	c.tell(w, attempts, recorded)
	if recorded.Action == relay.Superseded {
		return // another process holds this message now; it will settle it
	}
	count(&claim, attempts)
	c.settle(ctx, m, w, claim, recorded)
}

// read decodes a message and finds its endpoint. With a fault, the webhook is
// as much as could be read, for the record.
func (c *Consumer) read(m message) (w relay.Webhook, ep relay.Endpoint, fault error) {
	defer func() {
		if p := recover(); p != nil { // else it would come again for ever, without a claim to count
			w, fault = unreadable(m.meta, c.ExpiresAfter), fmt.Errorf("relay could not read it: %v", p)
		}
	}()
	w, fault = decode(m.meta, m.Headers(), m.Data())
	if fault == nil {
		fault = c.owned(m, w)
	}
	if fault == nil {
		ep, fault = c.Endpoints.Find(w.Tenant, w.EndpointName, w.URL)
	}
	w.ContentType = cmp.Or(w.ContentType, ep.ContentType, defaultMediaType)
	w.ExpiresAt = expiry(m.meta, w, ep, c.ExpiresAfter)
	if fault != nil {
		w.EndpointKey, w.IdempotencyKey = relay.InvalidEndpoint, ""
		return w, ep, fault
	}
	w.EndpointKey, w.URL = ep.Key, ep.URL
	return w, ep, nil
}

// attempt decides what can be decided without a request, and else asks policy
// to make one. It answers the attempts made and the verdict on the webhook. An
// error means that the claim was lost between the attempts of a quick retry.
func (c *Consumer) attempt(
	ctx context.Context, m message, ep *relay.Endpoint, w *relay.Webhook, claim *relay.Claim, fault error,
) ([]relay.Attempt, relay.Verdict, error) {
	now := time.Now()
	switch {
	case fault != nil:
		return nil, relay.Verdict{Action: relay.Dead, Reason: invalidReason(fault)}, nil
	case m.bury != "":
		return nil, relay.Verdict{Action: relay.Dead, Reason: m.bury}, nil
	case expired(*w, now):
		return nil, relay.Verdict{Action: relay.Dead, Reason: "expired: not delivered by " + w.ExpiresAt.Format(time.RFC3339)}, nil
	case w.ScheduledAt.After(now):
		return nil, relay.Verdict{
			Action: relay.Defer, After: w.ScheduledAt.Sub(now),
			Reason: "scheduled for " + w.ScheduledAt.Format(time.RFC3339),
		}, nil
	}
	shaped, err := shape(ep, w)
	if err != nil {
		return nil, unshaped(err), nil
	}
	var last *relay.Attempt
	var lost error
	h := m.hand
	attempts, verdict := c.Policy.Do(ctx, *ep, *w, *claim, func(ctx context.Context) relay.Attempt {
		if last != nil {
			if lost = c.claimAgain(ctx, *w, claim, *last); lost != nil {
				return relay.Attempt{} // no claim, no request
			}
		}
		defer h.sends()()
		last = new(c.send(ctx, ep, shaped, claim))
		return *last
	})
	switch {
	case len(attempts) > 0:
	case ep.Held != "": // since it was read
		verdict, _ = c.Policy.Refuses(*ep)
	case elsewhere(*ep, w.URL):
		verdict.Reason = "its endpoint has moved since it was read"
	}
	return identified(attempts, *claim), verdict, lost
}

// send makes one request under a claim, and sees that it does not outlive it: a
// process that was paused for too long must not send what another may have
// claimed meanwhile. Nor does it begin what would be cut off by the claim's end:
// the endpoint might have answered.
func (c *Consumer) send(ctx context.Context, known *relay.Endpoint, w *relay.Webhook, claim *relay.Claim) relay.Attempt {
	ep := c.current(*known)
	if ep.Held != "" || elsewhere(ep, known.URL) {
		*known = ep
		return relay.Attempt{} // no request was made
	}
	if time.Until(claim.Until) < min(cmp.Or(ep.Timeout, c.Timeout), claim.Lease*2/3) {
		return relay.Attempt{} // no request was made
	}
	if end, bounded := ctx.Deadline(); !bounded || end.After(claim.Until) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, claim.Until, errClaimOver)
		defer cancel()
	}
	a := c.Sender.Send(ctx, ep, *w)
	a.ID, a.Number, a.Generation = claim.ID, claim.Made+1, w.Generation
	c.At(AfterSend)
	return a
}

// current is a registered endpoint as it is now. An event may have waited long
// for its claim, and what is signed with a secret that was taken away meanwhile
// can be verified by no one.
func (c *Consumer) current(ep relay.Endpoint) relay.Endpoint {
	if ep.Name == "" {
		return ep
	}
	if now, err := c.Endpoints.Find(ep.Tenant, ep.Name, ""); err == nil && now.Key == ep.Key {
		return now
	}
	return ep
}

// elsewhere reports whether an endpoint has another URL than when its event was
// read. Then that is read again: what it shows of itself at the new URL is not for
// whoever has the old one.
func elsewhere(now relay.Endpoint, url string) bool { return bare(now.URL) != bare(url) }

var errClaimOver = errors.New("the claim is over")

// claimAgain goes before a quick second request: the first one is recorded and
// the second claimed before it goes out. An error means that no claim is held:
// the record of the first attempt gave it back, or another process has it, and
// whoever claims the event next decides.
func (c *Consumer) claimAgain(ctx context.Context, w relay.Webhook, claim *relay.Claim, last relay.Attempt) error {
	soon := relay.Verdict{Action: relay.Retry, Place: relay.InQueue, Reason: "once more at once"}
	recorded, err := c.Log.Record(ctx, w, *claim, []relay.Attempt{last}, soon)
	if err != nil {
		return err
	}
	if recorded.Action != relay.Retry {
		return fmt.Errorf("%s: %s", recorded.Action, recorded.Reason)
	}
	next, err := c.Log.Claim(ctx, w)
	if err != nil {
		return err
	}
	if next.Verdict.Action != relay.Send {
		return fmt.Errorf("%s: %s", next.Verdict.Action, next.Verdict.Reason)
	}
	*claim = next
	return nil
}

// identified gives the claim's id to an attempt that panicked before it had
// one.
func identified(attempts []relay.Attempt, claim relay.Claim) []relay.Attempt {
	for i := range attempts {
		if attempts[i].ID == (relay.AttemptID{}) {
			attempts[i].ID, attempts[i].Number = claim.ID, claim.Made+1
		}
	}
	return attempts
}

// count brings a claim up to date with the attempts made under it, for the
// headers of a dead letter.
func count(claim *relay.Claim, attempts []relay.Attempt) {
	for _, a := range attempts {
		claim.Made, claim.Last = max(claim.Made, a.Number), a.Status
	}
}
