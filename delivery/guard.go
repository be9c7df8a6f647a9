package delivery

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"code.dny.dev/ssrf"
)

var (
	// Both texts are seen by whoever reads an attempt. They say no more than
	// the rule: not what the name resolved to, nor what listens there.
	errAddress = errors.New("its address is not one that relay may call")
	errPort    = errors.New("its port is not one that relay may call")
)

// neverCalled are addresses that no allow list opens: link-local, and where
// clouds keep metadata and credentials for whoever asks from inside. Some of
// them lie in private networks that an operator may well allow, and Azure's is
// a public address.
var neverCalled = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local: AWS, GCP, Azure, ECS, …
	netip.MustParsePrefix("fe80::/10"),          // link-local
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS
	netip.MustParsePrefix("fd20:ce::254/128"),   // GCP
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
}

// guard decides which addresses may be called. It never changes.
type guard struct {
	public *ssrf.Guardian
	deny   []netip.AddrPort
}

func newGuard(o Options) *guard {
	var v4, v6 []netip.Prefix
	for _, p := range o.Allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	ports := ssrf.WithAnyPort()
	if !o.AnyPort {
		list := make([]uint16, len(o.Ports))
		for i, port := range o.Ports {
			list[i] = uint16(port) //nolint:gosec // validate has seen to it
		}
		ports = ssrf.WithPorts(list...)
	}
	return &guard{
		public: ssrf.New(ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...), ports),
		deny:   o.Deny,
	}
}

// check says why an address, as a dialer is about to call it, is refused; nil
// if it is not. What it cannot read, it refuses.
func (g *guard) check(network, address string) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || target.Addr().Zone() != "" || network != "tcp4" && network != "tcp6" {
		return errAddress
	}
	addr, port := target.Addr().Unmap(), target.Port()
	if err := g.public.SafeAddrPort(netip.AddrPortFrom(addr, port)); errors.Is(err, ssrf.ErrProhibitedPort) {
		return errPort
	}
	for {
		if g.public.SafeAddr(addr) != nil || never(addr) || g.denied(addr, port) {
			return errAddress
		}
		inner, ok := embedded(addr)
		if !ok {
			return nil
		}
		addr = inner
	}
}

func never(addr netip.Addr) bool {
	for _, p := range neverCalled {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// denied looks the address up in the operator's deny list.
func (g *guard) denied(addr netip.Addr, port uint16) bool {
	for _, d := range g.deny {
		if d.Port() != 0 && d.Port() != port {
			continue
		}
		if a := d.Addr().Unmap(); a == addr || a.IsUnspecified() && isOwn(addr) {
			return true
		}
	}
	return false
}

// isOwn reports whether an address leads back to this machine. If that cannot
// be found out, it does.
func isOwn(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == addr {
			return true
		}
	}
	return false
}

// Forms of IPv6 address behind which an IPv4 address is reached.
var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")
	compatible = netip.MustParsePrefix("::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
)

// embedded returns the IPv4 address that an IPv6 address stands for. Where an
// operator allows such a form, because the way out of the network is a NAT64,
// the address within must be allowed as well.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	if !addr.Is6() {
		return netip.Addr{}, false
	}
	b := addr.As16()
	low := binary.BigEndian.Uint32(b[12:])
	switch {
	case nat64.Contains(addr), nat64Local.Contains(addr), compatible.Contains(addr) && low > 1:
		return v4(low), true
	case teredo.Contains(addr):
		return v4(^low), true
	case sixToFour.Contains(addr):
		return v4(binary.BigEndian.Uint32(b[2:])), true
	}
	return netip.Addr{}, false
}

func v4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
