package delivery

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"

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
// a public address. The unspecified ones are names for this machine under which
// no deny list would find it, and to a group of machines nobody can connect.
var neverCalled = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local: AWS, GCP, Azure, ECS, …
	netip.MustParsePrefix("fe80::/10"),          // link-local
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS
	netip.MustParsePrefix("fd20:ce::254/128"),   // GCP
	netip.MustParsePrefix("fd00:42::42/128"),    // Scaleway
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
}

// guard decides which addresses may be called. It never changes.
type guard struct {
	public *ssrf.Guardian
	ports  []uint16                // nil for every port
	deny   func() []netip.AddrPort // may be nil
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
	g := &guard{
		public: ssrf.New(ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)),
		deny:   o.Deny,
	}
	if !o.AnyPort {
		g.ports = make([]uint16, len(o.Ports))
		for i, port := range o.Ports {
			g.ports[i] = uint16(port) //nolint:gosec // validate has seen to it
		}
	}
	return g
}

// check says why an address, as a dialer is about to call it, is refused; nil
// if it is not. What it cannot read, it refuses.
func (g *guard) check(network, address string) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || target.Addr().Zone() != "" || network != "tcp4" && network != "tcp6" {
		return errAddress
	}
	return g.checkAddr(target.Addr(), target.Port())
}

func (g *guard) checkAddr(addr netip.Addr, port uint16) error {
	if err := g.checkPort(port); err != nil {
		return err
	}
	for addr = addr.Unmap(); ; {
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

func (g *guard) checkPort(port uint16) error {
	if g.ports != nil && !slices.Contains(g.ports, port) {
		return errPort
	}
	return nil
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
	if g.deny == nil {
		return false
	}
	for _, d := range g.deny() {
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
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
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
	case nat64.Contains(addr), nat64Local.Contains(addr), translated.Contains(addr), compatible.Contains(addr) && low > 1:
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
