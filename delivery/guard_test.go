package delivery

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/relaywebhooks/relay"
)

// special are addresses that must not be dialled: one or more of every block in
// IANA's special-purpose registries, the forms in which IPv6 hides IPv4, and
// where clouds keep their metadata.
var special = strings.Fields(`
	0.0.0.0 0.1.2.3 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255
	127.0.0.1 127.0.0.53 127.255.255.254 169.254.0.1 169.254.169.254 169.254.170.2 169.254.170.23 169.254.255.255
	172.16.0.0 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.8 192.0.0.9 192.0.0.170 192.0.0.192 192.0.2.1
	192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255
	198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.254 255.255.255.255 168.63.129.16
	:: ::1 ::127.0.0.1 ::169.254.169.254 ::ffff:0:127.0.0.1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1
	::ffff:169.254.169.254 ::ffff:168.63.129.16 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::808:808 64:ff9b:1::1
	64:ff9b:1::a9fe:a9fe 100::1 100:0:0:1::1 2001::1 2001:0:a9fe:a9fe:: 2001:1::1 2001:2::1 2001:3::1 2001:4:112::1
	2001:10::1 2001:20::1 2001:30::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::1 2620:4f:8000::1 3fff::1 
	5f00::1 fc00::1 fd00::1 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1
	1::1 4000::1 127.0.0.1%lo`)

var publicAddrs = []string{"1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700::1111", "2001:4860:4860::8888", "2a00:1450::1", "::ffff:8.8.8.8"}

func dialed(addr string) (network, address string) {
	network = "tcp4"
	if strings.Contains(addr, ":") {
		network = "tcp6"
	}
	return network, net.JoinHostPort(addr, "443")
}

// A36: no miss and no false block, as the guard sees them and as URLs, of which
// nothing reaches the network.
func TestAddressMatrix(t *testing.T) {
	if len(special) < 66 {
		t.Fatalf("%d addresses", len(special))
	}
	g := newGuard(Options{}.withDefaults())
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range special {
		t.Run("A36 "+addr, func(t *testing.T) {
			if g.check(dialed(addr)) == nil {
				t.Error("may be called")
			}
			a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://"+hostOf(addr)+"/"))
			if strings.Contains(addr, "%") { // no URL may hold it
				wantFailure(t, a, relay.Error, "request")
			} else {
				wantFailure(t, a, relay.Blocked, "blocked")
			}
		})
	}
	for _, addr := range publicAddrs {
		t.Run("A36 public "+addr, func(t *testing.T) {
			if err := g.check(dialed(addr)); err != nil {
				t.Error(err)
			}
		})
	}
}

// The matrix, and what some resolvers take for addresses, with Go's resolver and
// with the system's, whichever of them this machine prefers. Without cgo there
// is only the first.
func TestBothResolvers(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for resolver, says := range map[string][]string{
		"go":  {"forcing use of the Go resolver", "using the Go DNS resolver"},
		"cgo": {"forcing use of the cgo resolver", "without support for the cgo resolver"},
	} {
		t.Run("netdns="+resolver, func(t *testing.T) {
			c := exec.CommandContext(t.Context(), program, "-test.run", "^(TestAddressMatrix|TestBlockedAddresses|TestOddAddressesWithTheSystemResolver|TestProxyIsNotAskedForSpecialAddresses)$", "-test.v")
			c.Env = append(os.Environ(), "GODEBUG=netdns="+resolver+"+1")
			out, err := c.CombinedOutput()
			if err != nil || strings.Count(string(out), "--- PASS: TestAddressMatrix/") < 66 {
				t.Errorf("%v\n%s", err, out)
			}
			if !slices.ContainsFunc(says, func(text string) bool { return strings.Contains(string(out), text) }) {
				t.Errorf("which resolver was that?\n%.500s", out)
			}
		})
	}
}

func TestGuardFailsClosed(t *testing.T) {
	g := newGuard(Options{Allow: everything(), AnyPort: true})
	for _, c := range [][2]string{
		{"tcp4", ":80"},
		{"tcp4", ""},
		{"tcp4", "1.1.1.1"},
		{"tcp4", "example.com:80"},
		{"tcp4", "1.1.1.1:99999"},
		{"tcp4", "127.1:80"},
		{"udp4", "1.1.1.1:80"},
		{"tcp", "1.1.1.1:80"},
		{"unix", "/var/run/docker.sock"},
		{"tcp6", "[2606:4700::1111%eth0]:80"},
	} {
		if g.check(c[0], c[1]) == nil {
			t.Errorf("%s %q may be called", c[0], c[1])
		}
	}
}

func everything() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

// An operator who allows everything still does not open these.
func TestGuardHardDeny(t *testing.T) {
	g := newGuard(Options{Allow: everything(), AnyPort: true})
	for _, addr := range []string{
		"169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254", "fe80::1",
		"::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b:1::169.254.169.254", "2002:a9fe:a9fe::",
		"64:ff9b::168.63.129.16", "64:ff9b::100.100.100.200", "2001:0:1:2:3:4:5601:5601", "::ffff:0:169.254.169.254",
		"0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "ff0e::1", "fd00:42::42",
		"64:ff9b::0.0.0.0", "64:ff9b:1::100.100.100.200", "2002::1", "::ffff:0.0.0.0",
	} {
		if g.check(dialed(addr)) == nil {
			t.Errorf("%s may be called", addr)
		}
	}
	for _, addr := range []string{"10.0.0.1", "127.0.0.1", "::1", "fd12::1", "64:ff9b::10.0.0.1"} {
		if err := g.check(dialed(addr)); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// With a NAT64 allowed, what is behind it must be allowed as well.
func TestGuardNAT64(t *testing.T) {
	g := newGuard(Options{Allow: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("10.1.0.0/16")}, AnyPort: true})
	for addr, want := range map[string]bool{
		"64:ff9b::8.8.8.8": true, "64:ff9b::10.1.2.3": true, "64:ff9b::10.2.2.3": false, "64:ff9b::127.0.0.1": false, "10.1.2.3": true, "10.2.0.1": false,
	} {
		if got := g.check(dialed(addr)) == nil; got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func TestGuardPorts(t *testing.T) {
	g := newGuard(Options{}.withDefaults())
	for port, want := range map[string]bool{"80": true, "443": true, "8443": true, "22": false, "25": false, "4222": false, "5432": false, "6379": false, "0": false} {
		err := g.check("tcp4", net.JoinHostPort("1.1.1.1", port))
		if (err == nil) != want || err != nil && !errors.Is(err, errPort) {
			t.Errorf("port %s: %v", port, err)
		}
	}
	if err := newGuard(Options{AnyPort: true}).check("tcp4", "1.1.1.1:22"); err != nil {
		t.Error(err)
	}
}

func denying(addresses ...string) func() []netip.AddrPort {
	list := make([]netip.AddrPort, len(addresses))
	for i, a := range addresses {
		list[i] = netip.MustParseAddrPort(a)
	}
	return func() []netip.AddrPort { return list }
}

func TestGuardDeny(t *testing.T) {
	g := newGuard(Options{Allow: loopback, AnyPort: true, Deny: denying("127.0.0.1:4222", "0.0.0.0:5432", "8.8.8.8:0")})
	for address, want := range map[string]bool{
		"127.0.0.1:4222": false, "[::ffff:127.0.0.1]:4222": false, "127.0.0.2:4222": true, "127.0.0.1:4223": true,
		"127.9.9.9:5432": false, "[::1]:5432": false, "1.1.1.1:5432": true, "8.8.8.8:1": false, "8.8.8.8:443": false, "8.8.4.4:443": true,
	} {
		network := "tcp4"
		if address[0] == '[' {
			network = "tcp6"
		}
		if got := g.check(network, address) == nil; got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if own, err := net.InterfaceAddrs(); err != nil || !isOwn(netip.MustParsePrefix(own[0].String()).Addr()) || isOwn(netip.MustParseAddr("1.1.1.1")) {
		t.Errorf("own addresses %v, %v", own, err)
	}
}

// S4, from the URL to the attempt: nothing is dialled, and the text is the same for
// every refused address.
func TestBlockedAddresses(t *testing.T) {
	url, accepted := rawServer(t, nil)
	_, port, err := net.SplitHostPort(strings.Trim(strings.TrimPrefix(url, "http://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	s := newSender(t, func(o *Options) { o.Allow = nil })
	for _, host := range []string{
		"127.0.0.1", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "10.0.0.1", "169.254.169.254",
		"[fd00:ec2::254]", "[64:ff9b::7f00:1]", "localhost",
	} {
		a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://"+host+":"+port+"/?s3cret"))
		wantFailure(t, a, relay.Blocked, "blocked")
		if !strings.HasSuffix(a.Err, ": its address is not one that relay may call") || a.Unanswered {
			t.Errorf("%s: %s", host, show(a))
		}
	}
	if n := accepted(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	s = newSender(t, func(o *Options) { o.AnyPort = false })
	a := s.Send(t.Context(), relay.Endpoint{}, webhookTo(url))
	wantFailure(t, a, relay.Blocked, "blocked")
	if !strings.Contains(a.Err, "port") || accepted() != 0 {
		t.Error(show(a))
	}
}

func FuzzGuard(f *testing.F) {
	f.Add("tcp4", "127.0.0.1:80")
	f.Add("tcp6", "[::ffff:127.0.0.1%lo]:80")
	strict, open := newGuard(Options{AnyPort: true}), newGuard(Options{Allow: everything(), AnyPort: true})
	f.Fuzz(func(t *testing.T, network, address string) {
		if strict.check(network, address) != nil {
			return
		}
		if err := open.check(network, address); err != nil {
			t.Fatalf("%s %q: allowing everything refuses it: %v", network, address, err)
		}
		a := netip.MustParseAddrPort(address).Addr().Unmap()
		if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
			t.Fatalf("%s %q is let through", network, address)
		}
	})
}
