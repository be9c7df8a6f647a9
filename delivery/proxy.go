package delivery

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	socks "golang.org/x/net/proxy"
)

// maxProxyAnswer bounds what is read of a proxy's answer to CONNECT.
const maxProxyAnswer = 16 << 10

// proxy is the way out of the network: an HTTP proxy that is asked to CONNECT,
// or a SOCKS5 proxy. Through it go http:// URLs as well as https:// ones, so
// that it sees addresses, and of an https:// URL nothing else.
type proxy struct {
	url   *url.URL
	net   net.Dialer
	tls   *tls.Config // of the connection to the proxy itself
	agent string
}

// newProxy reads the URL of a proxy. Its errors do not repeat it.
func newProxy(o Options) (*proxy, error) {
	u, err := url.Parse(string(o.Proxy))
	switch {
	case err != nil:
		return nil, errors.New("delivery: proxy: must be a URL")
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5":
		return nil, errors.New("delivery: proxy: must begin with http://, https:// or socks5://")
	case u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("delivery: proxy: must be scheme://user:password@host:port, the user being optional")
	}
	if name, password := login(u); u.Scheme == "socks5" && u.User != nil && (name == "" || len(name) > 255 || password == "" || len(password) > 255) {
		return nil, errors.New("delivery: proxy: must have a user name and a password of 1 to 255 bytes, or neither: SOCKS5 knows no others")
	}
	return &proxy{
		url: u, net: net.Dialer{KeepAlive: 30 * time.Second, Resolver: o.Resolver}, agent: o.UserAgent,
		tls: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs, ServerName: u.Hostname()},
	}, nil
}

func login(u *url.URL) (name, password string) {
	password, _ = u.User.Password()
	return u.User.Username(), password
}

// address is the host and port of the proxy.
func (p *proxy) address() string {
	port := p.url.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080"}[p.url.Scheme]
	}
	return net.JoinHostPort(p.url.Hostname(), port)
}

// connect opens a connection through the proxy to a host and port.
func (p *proxy) connect(ctx context.Context, target string) (net.Conn, error) {
	if p.url.Scheme == "socks5" {
		return p.socks(ctx, target)
	}
	conn, err := p.DialContext(ctx, "tcp", p.address())
	if err != nil {
		return nil, err
	}
	if p.url.Scheme == "https" {
		secure := tls.Client(conn, p.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, proxyFailure(err, "no TLS with the proxy")
		}
		conn = secure
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = p.ask(conn, target)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// DialContext calls the proxy itself, which the guard need not allow: whoever
// may set it may set delivery.allow too.
func (p *proxy) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := p.net.DialContext(ctx, network, address)
	if err != nil {
		return nil, proxyFailure(err, "the proxy cannot be reached")
	}
	return conn, nil
}

// Dial is what package proxy asks for beside DialContext.
func (p *proxy) Dial(network, address string) (net.Conn, error) {
	return p.DialContext(context.Background(), network, address)
}

// proxyFailure is what is wrong with the proxy, unless the time is up. The text
// does not say where it is: it is read by people outside.
func proxyFailure(err error, text string) error {
	if isTimeout(err) || errors.Is(err, context.Canceled) {
		return err
	}
	return &failure{class: classProxy, text: text}
}

// ask has the proxy connect to the target.
func (p *proxy) ask(conn net.Conn, target string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n", target, target, p.agent)
	if p.url.User != nil {
		name, password := login(p.url)
		b.WriteString("Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password)) + "\r\n")
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(conn, b.String()); err != nil {
		return proxyFailure(err, "the proxy broke the connection off")
	}
	in := bufio.NewReader(io.LimitReader(conn, maxProxyAnswer))
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // it would read on; the connection is closed
	if err != nil {
		return proxyFailure(err, "the proxy does not answer as an HTTP proxy does")
	}
	host, _, _ := net.SplitHostPort(target)
	switch code := resp.StatusCode; {
	case 200 <= code && code <= 299 && in.Buffered() > 0:
		return &failure{class: classProxy, text: "the proxy does not answer as an HTTP proxy does"}
	case 200 <= code && code <= 299:
		return nil
	case code == http.StatusForbidden:
		return &failure{class: classBlocked, text: host + ": " + textRefused}
	case code == http.StatusProxyAuthRequired:
		return &failure{class: classProxy, text: "the proxy asks for other credentials"}
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return &failure{class: classConnect, text: fmt.Sprintf("%s: the proxy has no connection: it answers %d", target, code)}
	default:
		return &failure{class: classProxy, text: fmt.Sprintf("the proxy answers %d", code)}
	}
}

const textRefused = "the proxy may not call it"

// socks connects through a SOCKS5 proxy.
func (p *proxy) socks(ctx context.Context, target string) (net.Conn, error) {
	var auth *socks.Auth
	if p.url.User != nil {
		name, password := login(p.url)
		auth = &socks.Auth{User: name, Password: password}
	}
	d, err := socks.SOCKS5("tcp", p.address(), auth, p)
	if err != nil {
		return nil, &failure{class: classProxy, text: "the proxy cannot be used"}
	}
	through, ok := d.(socks.ContextDialer)
	if !ok {
		return nil, &failure{class: classProxy, text: "the proxy cannot be used"}
	}
	conn, err := through.DialContext(ctx, "tcp", target)
	if err != nil {
		return nil, socksFailure(err, target)
	}
	return conn, nil
}

// socksReplies are the answers of a SOCKS5 proxy about its target. The package
// has no values for them, only texts.
var socksReplies = []struct{ found, class, text string }{
	{"not allowed by ruleset", classBlocked, textRefused},
	{"network unreachable", classConnect, "network is unreachable from the proxy"},
	{"host unreachable", classConnect, "no route to host from the proxy"},
	{"connection refused", classConnect, "connection refused, says the proxy"},
	{"TTL expired", classConnect, "the proxy has no connection"},
	{"general SOCKS server failure", classConnect, "the proxy has no connection"},
	{"authentication", classProxy, "the proxy asks for other credentials"},
}

func socksFailure(err error, target string) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	for _, r := range socksReplies {
		if !strings.Contains(err.Error(), r.found) {
			continue
		}
		if r.class == classProxy {
			return &failure{class: r.class, text: r.text}
		}
		return &failure{class: r.class, text: target + ": " + r.text}
	}
	return proxyFailure(err, "the proxy does not answer as a SOCKS5 proxy does")
}

// throughProxy connects to a host by way of the proxy. The guard has seen every
// address that the proxy is given. Where the proxy resolves names, the guard
// sees the port, and names that stand for addresses; the rest is the proxy's.
func (d *dialer) throughProxy(ctx context.Context, host, port string) (net.Conn, error) {
	targets, err := d.targets(ctx, host, port)
	if err != nil {
		return nil, err
	}
	for i, target := range targets {
		conn, failed := d.tryTarget(ctx, target, len(targets)-i)
		if failed == nil {
			return conn, nil
		}
		if err == nil {
			err = failed
		}
		if f, ok := errors.AsType[*failure](failed); ok && f.class == classProxy || ctx.Err() != nil {
			break // the next address would fare no better
		}
	}
	return nil, d.dialFailure(host, port, err)
}

// tryTarget has its share of the time that is left.
func (d *dialer) tryTarget(ctx context.Context, target string, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	return d.proxy.connect(ctx, target)
}

// maxTargets bounds how many addresses of one host the proxy is asked for.
const maxTargets = 8

// targets are what the proxy may be asked to connect to for a host.
func (d *dialer) targets(ctx context.Context, host, port string) ([]string, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	number := uint16(n)
	if err != nil {
		return nil, &failure{class: classRequest, text: "no host and port in the URL"}
	}
	blocked := func(why error) error { return &failure{class: classBlocked, text: host + ": " + why.Error()} }
	at := func(a netip.Addr) error { return d.guard.checkAddr(a, number) }
	literal, err := netip.ParseAddr(host)
	if err == nil {
		if err := at(literal); err != nil {
			return nil, blocked(err)
		}
		return []string{net.JoinHostPort(literal.Unmap().String(), port)}, nil
	}
	if err := d.guard.checkPort(number); err != nil {
		return nil, blocked(err)
	}
	if d.remoteNames {
		if isDisguised(host) {
			return nil, blocked(errAddress)
		}
		return []string{net.JoinHostPort(host, port)}, nil
	}
	return d.lookUp(ctx, host, port, at)
}

// lookUp returns the addresses of a host that the guard lets through.
func (d *dialer) lookUp(ctx context.Context, host, port string, check func(netip.Addr) error) ([]string, error) {
	resolver := d.net.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, d.dialFailure(host, port, err)
	}
	var targets []string
	var refused error
	for _, a := range addrs {
		if err := check(a); err != nil {
			refused = err
		} else if len(targets) < maxTargets {
			targets = append(targets, net.JoinHostPort(a.Unmap().String(), port))
		}
	}
	if len(targets) == 0 && refused != nil {
		return nil, &failure{class: classBlocked, text: host + ": " + refused.Error()}
	}
	return targets, nil
}

// isDisguised reports names that a resolver may take for an address without
// asking anybody: those that end in a number, as 127.1, 0x7f.1 and 2130706433
// do, and localhost. A name without a dot, too, means something only inside.
func isDisguised(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	dot := strings.LastIndexByte(host, '.')
	last := host[dot+1:]
	if dot < 0 || last == "localhost" || host == "localhost.localdomain" {
		return true
	}
	digits, hex := strings.CutPrefix(last, "0x")
	return strings.TrimFunc(digits, func(r rune) bool {
		return '0' <= r && r <= '9' || hex && 'a' <= r && r <= 'f'
	}) == ""
}

// CheckProxy says what is wrong with Proxy and ProxyResolves; [New] does so too.
// The error does not repeat the URL, which may hold a password.
func (o Options) CheckProxy() error {
	if o.Proxy == "" && o.ProxyResolves {
		return errors.New("delivery: proxy: must be named if it resolves names")
	}
	if o.Proxy == "" {
		return nil
	}
	_, err := newProxy(o)
	return err
}
