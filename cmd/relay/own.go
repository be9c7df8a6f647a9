package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay/embedded"
)

// ownServers are the servers that relay stands on, and its own admin listener.
// No webhook may be sent there, whatever networks are allowed.
type ownServers struct {
	admin    string // host and port
	conn     *nats.Conn
	pool     *pgxpool.Pool
	embedded *embedded.NATS // nil if NATS is elsewhere

	found   map[string][]netip.AddrPort // by server: the last that was known
	current atomic.Pointer[[]netip.AddrPort]
}

// list is asked for every connection that relay makes to a receiver.
func (o *ownServers) list() []netip.AddrPort {
	if p := o.current.Load(); p != nil {
		return *p
	}
	return nil
}

// lookAgain is how often the addresses are looked up: a database fails over, and
// a NATS cluster grows.
const lookAgain = 30 * time.Second

// Run keeps the addresses up to date until ctx ends.
func (o *ownServers) Run(ctx context.Context) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			o.look(ctx)
		}
	}
}

// look finds the addresses. Those of a name that cannot be looked up now stay as
// they were.
func (o *ownServers) look(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("no answer within 5s"))
	defer cancel()
	next := map[string][]netip.AddrPort{}
	var all []netip.AddrPort
	for _, server := range o.servers() {
		next[server] = o.found[server]
		if addrs := resolve(ctx, server); len(addrs) > 0 {
			next[server] = addrs
		}
		all = append(all, next[server]...)
	}
	o.found = next
	o.current.Store(&all)
}

// servers are all of them, as host and port.
func (o *ownServers) servers() []string {
	servers := []string{o.admin, o.conn.ConnectedAddr()}
	for _, known := range o.conn.Servers() { // those of nats.url, and the rest of the cluster
		if u, err := url.Parse(known); err == nil {
			servers = append(servers, u.Host)
		}
	}
	if o.embedded != nil {
		servers = append(servers, o.embedded.Listeners()...)
	}
	pg := o.pool.Config().ConnConfig
	servers = append(servers, net.JoinHostPort(pg.Host, strconv.Itoa(int(pg.Port))))
	for _, f := range pg.Fallbacks {
		servers = append(servers, net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))))
	}
	slices.Sort(servers)
	return slices.Compact(servers)
}

// resolve returns the addresses of a server; none if it is a Unix socket or a
// pipe, or if its name is not known. A server on this machine has them all: it
// may listen on more of them than the one that relay uses.
func resolve(ctx context.Context, hostport string) []netip.AddrPort {
	host, text, err := net.SplitHostPort(hostport)
	number, err2 := strconv.ParseUint(text, 10, 16)
	if err != nil || err2 != nil || number == 0 || strings.HasPrefix(host, "/") {
		return nil
	}
	port := uint16(number)
	if host == "" { // every address, as in :8422
		return []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), port)}
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	own := make([]netip.AddrPort, len(addrs))
	for i, addr := range addrs {
		if addr = addr.Unmap(); isThisMachine(addr) {
			addr = netip.IPv6Unspecified()
		}
		own[i] = netip.AddrPortFrom(addr, port)
	}
	return own
}

func isThisMachine(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true
	}
	own, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(own, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == addr
	})
}
