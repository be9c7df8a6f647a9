package delivery

import (
	"crypto/tls"
	"crypto/x509"
	"sync"
	"time"

	"github.com/relaywebhooks/relay"
)

// maxOwn bounds for how many endpoints with TLS settings of their own transports
// are kept. For one beyond it the one that was used least recently is forgotten:
// a pair takes some kilobytes beside its connections.
const maxOwn = 4096

// sessionsOfOne is how many TLS sessions of one endpoint can be resumed: of each
// host in its URL, and that is one.
const sessionsOfOne = 4

// keyring holds the transports of endpoints with TLS settings of their own. They
// share nothing with each other nor with the rest: a connection that was made
// under one endpoint's authorities is not for another, and a session that was
// begun with one certificate is not resumed with the next.
//
// Settings that changed are another pointer, and what was made for the old ones
// is never asked for again. It is let go of when there is something new to keep;
// its connections end by themselves, after Options.IdleTimeout. The zero value is
// ready.
type keyring struct {
	mu   sync.Mutex
	held map[*relay.TLS]*held
}

type held struct {
	transports
	used time.Time
}

// trusting returns the transports for an endpoint's TLS settings.
func (s *Sender) trusting(settings *relay.TLS, now time.Time) (transports, error) {
	k := &s.own
	k.mu.Lock()
	defer k.mu.Unlock()
	if h, ok := k.held[settings]; ok {
		h.used = now
		return h.transports, nil
	}
	d, err := s.dialer.with(settings)
	if err != nil {
		return transports{}, err
	}
	o := s.options
	o.MaxIdleConns = min(o.MaxIdleConns, o.MaxIdleConnsPerHost)
	h := &held{transports: newTransports(o, d), used: now}
	k.add(settings, h, now.Add(-o.IdleTimeout))
	return h.transports, nil
}

// add makes room and keeps h. What was not used since has no connections left, or
// will soon have none. An exchange that is still under way keeps its own.
func (k *keyring) add(settings *relay.TLS, h *held, since time.Time) {
	var oldest *relay.TLS
	for other, o := range k.held {
		if o.used.Before(since) {
			delete(k.held, other)
		} else if oldest == nil || o.used.Before(k.held[oldest].used) {
			oldest = other
		}
	}
	if len(k.held) >= maxOwn {
		delete(k.held, oldest)
	}
	if k.held == nil {
		k.held = map[*relay.TLS]*held{}
	}
	k.held[settings] = h
}

func (k *keyring) closeIdle() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.held {
		h.closeIdle()
	}
}

// with returns a dialer that goes by an endpoint's TLS settings, which
// [relay.CheckTLS] has seen. Where they name authorities, those alone are trusted.
// Its certificate is shown to whoever asks for
// one, whatever authorities they ask for: they then say what is wrong with it.
func (d *dialer) with(settings *relay.TLS) (*dialer, error) {
	own := *d
	own.tls = d.tls.Clone()
	own.tls.ClientSessionCache = tls.NewLRUClientSessionCache(sessionsOfOne)
	if settings.Authorities != nil {
		own.tls.RootCAs = x509.NewCertPool()
		if !own.tls.RootCAs.AppendCertsFromPEM(settings.Authorities) {
			return nil, &failure{class: classRequest, text: "the authorities that the endpoint is registered with cannot be read"}
		}
	}
	if settings.Certificate != nil {
		pair, err := tls.X509KeyPair(settings.Certificate, []byte(settings.Key))
		if err != nil {
			return nil, &failure{class: classRequest, text: "the certificate and the key that the endpoint is registered with cannot be read, or do not match"}
		}
		own.certificate = &pair
	}
	return &own, nil
}
