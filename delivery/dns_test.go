package delivery

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

// dnsServer answers on loopback: as much of DNS as the tests need. An answer that
// is too long for UDP is asked for again over TCP.
type dnsServer struct {
	resolver *net.Resolver
	answer   func(name string, n int) reply // n counts the questions for A records

	mu     sync.Mutex
	conns  []net.Conn
	closed bool
}

type reply struct {
	addrs []string
	cname string // the addresses are those of this name
	code  byte   // 0, or the error: 2 SERVFAIL, 3 NXDOMAIN
	mute  bool
}

func newDNS(t testing.TB, answer func(name string, n int) reply) *dnsServer {
	t.Helper()
	d := &dnsServer{answer: answer}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { d.serve(udp) })
	wg.Go(func() { d.serveTCP(tcp) })
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		wg.Wait()
		d.hangUp()
	})
	d.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.closed {
			return nil, net.ErrClosed
		}
		address := udp.LocalAddr().String()
		if strings.HasPrefix(network, "tcp") {
			address = tcp.Addr().String()
		}
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			d.conns = append(d.conns, c)
		}
		return c, err
	}}
	return d
}

// hangUp ends look-ups that nobody waits for any more; Go would let them wait
// for the resolver's own timeout.
func (d *dnsServer) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, c := range d.conns {
		c.Close()
	}
}

func (d *dnsServer) serve(udp net.PacketConn) {
	b := make([]byte, 4096)
	count := 0
	for {
		n, from, err := udp.ReadFrom(b)
		if err != nil {
			return
		}
		name, kind, question := readQuestion(b[:n])
		if kind == 1 {
			count++
		}
		if r := d.answer(name, count); !r.mute {
			m := message(b[:2], question, kind, r)
			if len(m) > 1232 {
				m = message(b[:2], question, kind, reply{})
				m[2] |= 2 // truncated
			}
			_, _ = udp.WriteTo(m, from)
		}
	}
}

// serveTCP answers one question a connection.
func (d *dnsServer) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		size := make([]byte, 2)
		_, err = io.ReadFull(c, size)
		b := make([]byte, binary.BigEndian.Uint16(size))
		if _, err2 := io.ReadFull(c, b); err == nil && err2 == nil {
			name, kind, question := readQuestion(b)
			m := message(b[:2], question, kind, d.answer(name, 0))
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
		}
		c.Close()
	}
}

// readQuestion returns the one question of a query, also as it stands there.
func readQuestion(b []byte) (name string, kind uint16, raw []byte) {
	i := 12
	for b[i] != 0 {
		name += string(b[i+1:i+1+int(b[i])]) + "."
		i += 1 + int(b[i])
	}
	return name, binary.BigEndian.Uint16(b[i+1:]), append([]byte(nil), b[12:i+5]...)
}

func message(id, question []byte, kind uint16, r reply) []byte {
	var records []byte
	count := uint16(0)
	add := func(owner []byte, kind uint16, data []byte) {
		count++
		records = append(records, owner...)
		records = binary.BigEndian.AppendUint16(records, kind)
		records = append(records, 0, 1, 0, 0, 0, 0) // class IN, TTL 0
		records = binary.BigEndian.AppendUint16(records, uint16(len(data)))
		records = append(records, data...)
	}
	owner := []byte{0xc0, 12}
	if r.cname != "" {
		target := encodeName(r.cname)
		add(owner, 5, target)
		owner = target
	}
	for _, a := range r.addrs {
		addr := netip.MustParseAddr(a)
		if addr.Is4() && kind == 1 {
			add(owner, 1, addr.AsSlice())
		}
		if addr.Is6() && kind == 28 {
			b := addr.As16()
			add(owner, 28, b[:])
		}
	}
	m := append([]byte(nil), id...)
	m = append(m, 0x81, 0x80|r.code, 0, 1)
	m = binary.BigEndian.AppendUint16(m, count)
	m = append(m, 0, 0, 0, 0)
	return append(append(m, question...), records...)
}

func encodeName(name string) (b []byte) {
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0)
}

// twoHosts are a receiver at 127.0.0.1, which counts as public, and a listener
// on the same port of 127.0.0.2, which does not and must never be called.
func twoHosts(t *testing.T) (r *receiver, port string, options func(*Options)) {
	t.Helper()
	r = newReceiver(t, nil)
	_, port, err := net.SplitHostPort(r.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	private, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := private.Accept()
			if err != nil {
				return
			}
			t.Error("the private address was called")
			c.Close()
		}
	})
	t.Cleanup(func() { private.Close(); wg.Wait() })
	return r, port, func(o *Options) { o.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} }
}

func TestDNS(t *testing.T) {
	r, port, options := twoHosts(t)
	many := make([]string, 0, 20)
	for range 20 {
		many = append(many, "127.0.0.2", "10.0.0.1")
	}
	cases := map[string]struct {
		reply
		class string // "" if it is delivered
	}{
		// The server gives this answer to whatever it is asked, so also to the name
		// with the machine's search domains behind it.
		"D9 metadata, without a dot": {reply{addrs: []string{"169.254.169.254"}}, "blocked"},
		"D9 intranet, without a dot": {reply{addrs: []string{"127.0.0.2"}}, "blocked"},
		"public":                     {reply{addrs: []string{"127.0.0.1"}}, ""},
		"D4 alias, public":           {reply{cname: "receiver.example.", addrs: []string{"127.0.0.1"}}, ""},
		"D5 compatible":              {reply{addrs: []string{"::127.0.0.1"}}, "blocked"},
		"D5 6to4":                    {reply{addrs: []string{"2002:7f00:1::"}}, "blocked"},
		"D5 link-local":              {reply{addrs: []string{"fe80::1"}}, "blocked"},
		"D1 unspecified":             {reply{addrs: []string{"0.0.0.0"}}, "blocked"},
		"D1 metadata":                {reply{addrs: []string{"169.254.169.254"}}, "blocked"},
		"D1 Azure":                   {reply{addrs: []string{"168.63.129.16"}}, "blocked"},
		"D7 REFUSED":                 {reply{code: 5}, "dns"},
		"D7 FORMERR":                 {reply{code: 1}, "dns"},
		"D1 private":                 {reply{addrs: []string{"127.0.0.2"}}, "blocked"},
		"D3 mixed":                   {reply{addrs: []string{"127.0.0.2", "127.0.0.1", "10.0.0.1"}}, ""},
		"D3 mixed, both IPs":         {reply{addrs: []string{"::1", "fd00:ec2::254", "127.0.0.2", "127.0.0.1"}}, ""},
		"D4 alias, metadata":         {reply{cname: "metadata.internal.", addrs: []string{"169.254.169.254"}}, "blocked"},
		"D4 alias, loopback":         {reply{cname: "localhost.", addrs: []string{"127.0.0.2"}}, "blocked"},
		"D5 mapped":                  {reply{addrs: []string{"::ffff:10.0.0.1"}}, "blocked"},
		"D5 mapped loopback":         {reply{addrs: []string{"::ffff:127.0.0.2"}}, "blocked"},
		"NAT64":                      {reply{addrs: []string{"64:ff9b::7f00:2"}}, "blocked"},
		"D7 NXDOMAIN":                {reply{code: 3}, "dns"},
		"D7 SERVFAIL":                {reply{code: 2}, "dns"},
		"D7 no address":              {reply{}, "dns"},
		"D8 many":                    {reply{addrs: many}, "blocked"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := newDNS(t, func(string, int) reply { return c.reply })
			s := newSender(t, options, func(o *Options) { o.Resolver = d.resolver })
			host := "hooks.example"
			if short, ok := strings.CutSuffix(name, ", without a dot"); ok {
				host = strings.TrimPrefix(short, "D9 ")
			}
			a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://"+host+":"+port+"/?s3cret"))
			switch {
			case c.class == "" && (a.Kind != relay.Response || a.Status != http.StatusOK):
				t.Error(show(a))
			case c.class != "" && (a.Class != c.class || (a.Kind == relay.Blocked) != (c.class == "blocked")):
				t.Error(show(a))
			case c.class != "" && (!strings.HasPrefix(a.Err, host+": ") || strings.Contains(a.Err, "127.0.0") || strings.Contains(a.Err, "s3cret")):
				t.Errorf("the text %q", a.Err)
			}
		})
	}
	if requests, _ := r.counts(); requests != 4 {
		t.Errorf("%d requests came", requests)
	}
}

func TestDNSTimeout(t *testing.T) { // D7
	d := newDNS(t, func(string, int) reply { return reply{mute: true} })
	s := newSender(t, func(o *Options) { o.Resolver, o.ConnectTimeout = d.resolver, 150*time.Millisecond })
	a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://hooks.example/"))
	wantFailure(t, a, relay.Error, "dns")
	if a.Took > time.Second || a.Err != "hooks.example: looking up the name timed out" {
		t.Error(show(a))
	}
}

// D2, D6: a name that changes with every question, TTL 0. What is called is
// what was looked at.
func TestDNSRebinding(t *testing.T) {
	r, port, options := twoHosts(t)
	d := newDNS(t, func(_ string, n int) reply {
		if n%2 == 1 {
			return reply{addrs: []string{"127.0.0.1"}}
		}
		return reply{addrs: []string{"127.0.0.2"}}
	})
	s := newSender(t, options, func(o *Options) { o.Resolver = d.resolver })
	blocked := 0
	for range 1000 {
		a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://hooks.example:"+port+"/"))
		if a.Kind == relay.Blocked {
			blocked++
		} else {
			wantResponse(t, a, http.StatusOK, nil)
		}
		s.CloseIdle()
	}
	if requests, _ := r.counts(); requests != 500 || blocked != 500 {
		t.Errorf("%d delivered, %d blocked", requests, blocked)
	}
}

// D8: a thousand addresses, of which none or the last may be called.
func TestDNSWithAThousandAnswers(t *testing.T) {
	r, port, options := twoHosts(t)
	for _, last := range []string{"127.0.0.2", "127.0.0.1"} {
		var addrs []string
		for i := range 999 {
			addrs = append(addrs, fmt.Sprintf("10.%d.%d.1", i/250, i%250))
		}
		addrs = append(addrs, last)
		d := newDNS(t, func(string, int) reply { return reply{addrs: addrs} })
		s := newSender(t, options, func(o *Options) { o.Resolver = d.resolver })
		a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://hooks.example:"+port+"/"))
		if last == "127.0.0.1" {
			wantResponse(t, a, http.StatusOK, nil)
		} else {
			wantFailure(t, a, relay.Blocked, "blocked")
		}
	}
	if requests, _ := r.counts(); requests != 1 {
		t.Errorf("%d requests came", requests)
	}
}

// D10: a connection is kept while its name turns private. It leads where it led
// when it was looked at; a new one is refused, and none is kept for long.
func TestDNSTurnsPrivateUnderAKeptConnection(t *testing.T) {
	r, port, options := twoHosts(t)
	var private atomic.Bool
	d := newDNS(t, func(string, int) reply {
		if private.Load() {
			return reply{addrs: []string{"127.0.0.2"}}
		}
		return reply{addrs: []string{"127.0.0.1"}}
	})
	s := newSender(t, options, func(o *Options) { o.Resolver = d.resolver })
	w := webhookTo("http://hooks.example:" + port + "/")
	wantResponse(t, s.Send(t.Context(), relay.Endpoint{}, w), http.StatusOK, nil)
	private.Store(true)
	wantResponse(t, s.Send(t.Context(), relay.Endpoint{}, w), http.StatusOK, nil)
	s.CloseIdle()
	wantFailure(t, s.Send(t.Context(), relay.Endpoint{}, w), relay.Blocked, "blocked")
	if requests, conns := r.counts(); requests != 2 || conns != 1 {
		t.Errorf("%d requests over %d connections", requests, conns)
	}
	if idle := (Options{}).withDefaults().IdleTimeout; idle > 90*time.Second {
		t.Errorf("connections are kept for %v", idle)
	}
}

// A33: what looks like an address to some resolvers stays a name.
func TestOddAddressesAreNames(t *testing.T) {
	d := newDNS(t, func(string, int) reply { return reply{code: 3} })
	s := newSender(t, func(o *Options) { o.Resolver, o.Allow = d.resolver, nil })
	for _, host := range oddAddresses {
		a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://"+host+"/"))
		wantFailure(t, a, relay.Error, "dns")
	}
}

var oddAddresses = []string{"127.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.0.0.01", "0"}

// A33: the machine's own resolver may read these as addresses; then the guard does.
func TestOddAddressesWithTheSystemResolver(t *testing.T) {
	s := newSender(t, func(o *Options) { o.Allow, o.ConnectTimeout = nil, 500*time.Millisecond })
	for _, host := range append([]string{"localhost", "127.0.0.1."}, oddAddresses...) {
		a := s.Send(t.Context(), relay.Endpoint{}, webhookTo("http://"+host+"/"))
		if a.Kind == relay.Response || a.Class != "dns" && a.Class != "blocked" {
			t.Errorf("%s: %s", host, show(a))
		}
	}
}
