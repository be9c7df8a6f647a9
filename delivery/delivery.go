// Package delivery makes one HTTP exchange, safely. It is the only place from
// which relay calls out.
//
// An exchange is one request and one answer. There are no redirects, no
// cookies, no proxy from the environment, no decompression, and no second
// request: where net/http would repeat one, it is told that it cannot. One
// deadline covers everything from the look-up of the name to the last byte of
// the answer.
//
// Which addresses may be called is decided when the connection is made, after
// DNS, so that no name can lead to an address that was not looked at.
//
// What goes wrong is not an error but a [relay.Attempt] with a Class: dns,
// connect, proxy, timeout, tls, reset, protocol, blocked, request, canceled or
// panic.
package delivery

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/signature"
)

// Sender sends webhooks. It keeps connections open for the next webhook to the
// same host. It is safe for concurrent use.
type Sender struct {
	options Options
	signer  *signature.Signer // for endpoints without secrets of their own; may be nil
	dialer  *dialer
	common  transports // of endpoints without TLS settings of their own
	own     keyring    // of the others
}

// New makes a Sender. It starts nothing and keeps nothing open; all faults of
// the options are reported at once.
func New(o Options) (*Sender, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Sender{options: o}
	if len(o.Secrets) > 0 {
		signer, err := newSigner(o.Secrets)
		if err != nil {
			return nil, fmt.Errorf("delivery: %w", err)
		}
		s.signer = signer
	}
	s.dialer = newDialer(o)
	s.common = newTransports(o, s.dialer)
	return s, nil
}

// CloseIdle closes the connections that wait for another webhook. It is for the
// end, when no exchange is under way: net/http offers a connection to others a
// moment before it hands over the answer, so that closing it then breaks an
// exchange that the endpoint has answered already. A Sender that is only
// replaced needs no CloseIdle: its connections end after Options.IdleTimeout.
func (s *Sender) CloseIdle() {
	s.common.closeIdle()
	s.own.closeIdle()
}

// Send makes one exchange and says what came of it. It never fails and never
// panics, and it sends at most one request. It fills in everything but ID,
// Number, Generation and Success.
//
// The webhook goes to its own URL, or to the endpoint's if it has none. The
// endpoint's Timeout, Secrets and Header come before those of [Options] and
// of the webhook. An endpoint with HTTP2 is offered that, over TLS. One with TLS
// settings has connections of its own, which no other endpoint uses; they are
// told apart by the pointer, so that new settings hold from the next Send on.
func (s *Sender) Send(ctx context.Context, ep relay.Endpoint, w relay.Webhook) (a relay.Attempt) {
	a = relay.Attempt{Started: time.Now(), Kind: relay.Error}
	defer func() {
		if p := recover(); p != nil {
			a.Kind, a.Class, a.Err = relay.Error, classPanic, clean(fmt.Sprint(p))
		}
		a.Took = time.Since(a.Started)
	}()
	x := &exchange{timeout: cmp.Or(ep.Timeout, s.options.Timeout)}
	ctx, cancel := context.WithTimeoutCause(ctx, x.timeout, &x.expired)
	defer cancel()

	x.certified = ep.TLS != nil && ep.TLS.Certificate != nil
	if err := s.exchange(x.watch(ctx), x, &ep, &w, &a); err != nil {
		x.blame(ctx, err, &a)
	}
	return a
}

func (s *Sender) exchange(ctx context.Context, x *exchange, ep *relay.Endpoint, w *relay.Webhook, a *relay.Attempt) error {
	req, err := s.request(ctx, ep, w, a.Started)
	if err != nil {
		return err
	}
	t := s.common
	if ep.TLS != nil {
		if t, err = s.trusting(ep.TLS, a.Started); err != nil {
			return err
		}
	}
	return x.do(t.offering(ep.HTTP2 && req.URL.Scheme == "https"), req, a)
}

func newSigner(secrets []relay.Secret) (*signature.Signer, error) {
	texts := make([]string, len(secrets))
	for i, secret := range secrets {
		texts[i] = string(secret)
	}
	return signature.NewSigner(texts...)
}
