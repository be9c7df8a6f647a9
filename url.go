package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// CheckURL says whether relay can send to a URL, and how that URL is written:
// canonical has the scheme and host in lower case, no default port, at least
// "/" as its path, and nothing beyond ASCII; path and query keep their meaning
// to the byte. Two spellings that go on the wire alike have one canonical form,
// and the canonical form is its own.
//
// Refused are: anything longer than [MaxURL], control characters and spaces,
// schemes other than http and https, a user name or password, a fragment, a
// missing host, a host that is no name in ASCII and no IP address, and ports
// outside 1 to 65535. Whether relay may call that address is decided later,
// after DNS. The error is for people and repeats neither the query nor a
// password.
func CheckURL(raw string) (canonical string, err error) {
	r, err := readURL(raw)
	if err != nil {
		return "", err
	}
	return r.canonical, nil
}

// ParseURL is [CheckURL] for who needs the parts of the canonical form. The result
// is the caller's own.
func ParseURL(raw string) (*url.URL, error) {
	r, err := readURL(raw)
	if err != nil {
		return nil, err
	}
	return new(r.parts), nil
}

// checkedURL is a URL that relay can send to.
type checkedURL struct {
	canonical string
	parts     url.URL
}

// knownURLs are those that were read lately, without their queries: those may hold
// secrets, and another one in each event. A webhook's URL is read at every door that
// it comes to, and most webhooks go to the same few.
var knownURLs struct {
	sync.Map // of checkedURL, by what was read
	n        atomic.Int64
}

// mostURLs is how many are known at most. Then all are forgotten: it is cheap to read
// the few again that most webhooks go to.
const mostURLs = 1024

func knownURL(bare string) (checkedURL, bool) {
	v, _ := knownURLs.Load(bare)
	r, ok := v.(checkedURL)
	return r, ok
}

func knowURL(bare string, r checkedURL) {
	if knownURLs.n.Add(1) > mostURLs {
		knownURLs.Clear()
		knownURLs.n.Store(1)
	}
	knownURLs.Store(strings.Clone(bare), r) // of a message that is not to stay
}

// readURL is checkURL, which it asks for the part before the query only once.
func readURL(raw string) (checkedURL, error) {
	bare, query, asks := strings.Cut(raw, "?")
	if len(raw) > MaxURL || asks && !isPlainQuery(query) {
		return checkURL(raw)
	}
	r, known := knownURL(bare)
	if !known {
		var err error
		if r, err = checkURL(bare); err != nil {
			return checkURL(raw)
		}
		knowURL(bare, r)
	}
	if !asks {
		return r, nil
	}
	r.canonical, r.parts.RawQuery = r.canonical+"?"+query, query
	return r, r.fits()
}

// isPlainQuery reports whether a query goes into a canonical URL as it is.
func isPlainQuery(query string) bool {
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c > '~' || c == '#' {
			return false
		}
	}
	return query != ""
}

func (r checkedURL) fits() error {
	if len(r.canonical) > MaxURL {
		return fmt.Errorf("URL: longer than %d bytes once escaped", MaxURL)
	}
	return nil
}

// checkURL reads a URL as if it were the first.
func checkURL(raw string) (checkedURL, error) {
	u, err := parseURL(raw)
	if err != nil {
		return checkedURL{}, err
	}
	host, err := canonicalHost(u)
	if err != nil {
		return checkedURL{}, err
	}
	u.Host = host
	if u.Path == "" {
		u.Path = "/"
	}
	r := checkedURL{canonical: u.String()}
	if u, err = url.Parse(r.canonical); err != nil {
		return checkedURL{}, unreadable(err)
	}
	r.parts = *u
	return r, r.fits()
}

// parseURL reads a URL and refuses what can be seen without looking at the
// host. net/url's own errors repeat parts of the URL, so none is passed on.
func parseURL(raw string) (*url.URL, error) {
	switch {
	case raw == "":
		return nil, errors.New("URL: empty")
	case len(raw) > MaxURL:
		return nil, fmt.Errorf("URL: longer than %d bytes", MaxURL)
	case strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return nil, errors.New("URL: holds a space or a control character")
	case strings.Contains(raw, "#"):
		return nil, errors.New("URL: has a fragment (#…), which is never sent")
	}
	u, err := url.Parse(escape(raw))
	if err != nil {
		return nil, unreadable(err)
	}
	switch {
	case u.Scheme == "":
		return nil, errors.New("URL: no scheme; it must begin with https:// or http://")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("URL: scheme %.20q; only https and http are called", u.Scheme)
	case u.Opaque != "":
		return nil, errors.New("URL: no // after the scheme")
	case u.User != nil:
		return nil, errors.New("URL: holds a user name or password; use an Authorization header")
	}
	return u, nil
}

func unreadable(err error) error {
	if _, ok := errors.AsType[url.EscapeError](err); ok {
		return errors.New("URL: a % that no two hexadecimal digits follow")
	}
	if _, ok := errors.AsType[url.InvalidHostError](err); ok {
		return errors.New("URL: a character in the host that no host has")
	}
	return errors.New("URL: cannot be read")
}

// canonicalHost returns host and port as they go into the canonical URL.
func canonicalHost(u *url.URL) (string, error) {
	host, port := u.Hostname(), u.Port()
	if host == "" {
		return "", errors.New("URL: no host")
	}
	if strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() {
			return "", errors.New("URL: no IPv6 address between [ and ]")
		}
		if addr.Zone() != "" {
			return "", errors.New("URL: an IPv6 address with a zone has meaning on one machine only")
		}
		host = "[" + addr.String() + "]"
	} else if err := checkName(host); err != nil {
		return "", err
	}
	host = strings.ToLower(host)
	if port == "" {
		return host, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", errors.New("URL: the port is not between 1 and 65535")
	}
	if u.Scheme == "https" && n == 443 || u.Scheme == "http" && n == 80 {
		return host, nil
	}
	return host + ":" + strconv.FormatUint(n, 10), nil
}

// checkName refuses what cannot be a DNS name or an IPv4 address. A name in
// another script must come in its xn-- form: relay then shows what it calls,
// and no look-alike digit turns into an address on the way. It is looked at before
// capitals become small letters: of the Kelvin sign that would make a k.
func checkName(host string) error {
	if len(host) > 253 {
		return errors.New("URL: the host is longer than 253 bytes")
	}
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		case c >= 0x80:
			return errors.New("URL: the host is not in ASCII; write it in its xn-- form")
		default:
			return errors.New("URL: a character in the host that no host has")
		}
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if label == "" || len(label) > 63 {
			return errors.New("URL: a part of the host is empty or longer than 63 bytes")
		}
	}
	return nil
}

// escape writes as %XX what no URL may hold, wherever it stands, and in the path
// also the characters at which net/url gives up on the spelling it was given:
// beside a "{" it would turn %2F into a slash. The rest of a query is left as it
// is. Whatever this escapes in the host, [url.Parse] or checkName refuses.
func escape(raw string) string {
	var b strings.Builder
	inQuery, copied := false, 0
	for i := range len(raw) {
		c := raw[i]
		inQuery = inQuery || c == '?'
		if c >= 0x80 || !inQuery && strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			fmt.Fprintf(&b, "%s%%%02X", raw[copied:i], c)
			copied = i + 1
		}
	}
	if copied == 0 {
		return raw // as nearly always
	}
	b.WriteString(raw[copied:])
	return b.String()
}
