package delivery

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/relaywebhooks/relay"
)

// Options are the settings of a [Sender]. The zero value calls public addresses
// on the usual ports and signs nothing.
type Options struct {
	Timeout        time.Duration // of a whole exchange, answer included; default 30 s
	ConnectTimeout time.Duration // for DNS, TCP and TLS together; default 5 s

	// Allow opens networks that are not public. What no allow list opens are
	// link-local addresses, where clouds keep their metadata, and the other
	// addresses of that kind.
	Allow []netip.Prefix
	// Deny names addresses that are closed, such as those on which relay itself
	// listens, whatever Allow says. It is asked whenever a connection is about to
	// be made, by several goroutines at once. An unspecified address (0.0.0.0 or
	// ::) stands for every address of this machine, port 0 for every port. Nil
	// closes none.
	Deny      func() []netip.AddrPort
	Ports     []int // the ports that may be called; default 80, 443 and 8443
	AnyPort   bool  // every port may be called
	HTTPSOnly bool  // refuse http:// URLs

	// Proxy is the URL of a proxy through which all requests go: HTTP CONNECT
	// (http:// or https://) or SOCKS5 (socks5://), with user:password@ if it wants
	// them. relay then looks names up itself, and gives the proxy addresses that
	// it may call. Default: none; the environment is not asked.
	Proxy relay.Secret
	// ProxyResolves gives the proxy names instead. Then it is for the proxy to
	// refuse those that lead where nothing should be called: of such a URL relay
	// checks scheme and port, and that the host is no address in disguise.
	ProxyResolves bool

	UserAgent string         // default "relay/<version>"
	Secrets   []relay.Secret // sign for endpoints without secrets of their own

	MaxIdleConns        int           // connections kept open; default 4096, about 20 KB each
	MaxIdleConnsPerHost int           // default 256, more than one endpoint has in flight
	IdleTimeout         time.Duration // of a connection kept open; default 30 s, with HTTP/2 at most 5 s

	RootCAs  *x509.CertPool // the authorities to trust; default: the system's
	Resolver *net.Resolver  // default: Go's or the system's
}

// maxHTTP2Idle bounds how long an endpoint can keep this process busy over a
// connection on which nothing is asked of it: HTTP/2 frames cost us more than
// they cost the sender.
const maxHTTP2Idle = 5 * time.Second

func (o Options) withDefaults() Options {
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 5*time.Second)
	if o.Ports == nil {
		o.Ports = []int{80, 443, 8443}
	}
	o.UserAgent = cmp.Or(o.UserAgent, "relay/"+version())
	o.MaxIdleConns = cmp.Or(o.MaxIdleConns, 4096)
	o.MaxIdleConnsPerHost = cmp.Or(o.MaxIdleConnsPerHost, 256)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 30*time.Second)
	return o
}

func (o Options) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("delivery: "+format, args...)) }
	if o.Timeout < 0 || o.ConnectTimeout < 0 || o.IdleTimeout < 0 {
		fault("a timeout is negative")
	}
	if o.MaxIdleConns < 0 || o.MaxIdleConnsPerHost < 0 {
		fault("a number of idle connections is negative")
	}
	for _, port := range o.Ports {
		if port < 1 || port > 65535 {
			fault("port %d is not between 1 and 65535", port)
		}
	}
	if len(o.Ports) == 0 && !o.AnyPort {
		fault("no port may be called")
	}
	if err := checkValue("user agent", o.UserAgent); err != nil {
		fault("%w", err)
	}
	faults = append(faults, o.CheckProxy())
	return errors.Join(append(faults, o.validateAddresses()...)...)
}

func (o Options) validateAddresses() (faults []error) {
	for _, p := range o.Allow {
		if !p.IsValid() || p.Addr().Is4In6() {
			faults = append(faults, fmt.Errorf("delivery: allow %s: not a network; one of IPv4 is written as such", p))
		}
	}
	return faults
}

// version is that of this module in the running program.
func version() string {
	const module = "github.com/relaywebhooks/relay"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module && m.Version != "" && m.Version != "(devel)" {
			return m.Version
		}
	}
	return "dev"
}
