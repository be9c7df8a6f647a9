package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// guard decides who may read what. It keeps hashes of tokens only: they have one
// length, so that comparing them tells nothing about the tokens'.
type guard struct {
	tokens   []known
	loopback bool // the server listens on a loopback address
	refused  func()
}

// known is a token that the guard knows.
type known struct {
	sum    [sha256.Size]byte
	scopes []Scope
}

func newGuard(o Options, loopback bool) guard {
	g := guard{loopback: loopback, refused: o.Metrics.tokensRefused.Inc}
	if o.Token != "" {
		g.tokens = append(g.tokens, known{sum: sha256.Sum256([]byte(o.Token)), scopes: Scopes()})
	}
	for _, t := range o.Tokens {
		g.tokens = append(g.tokens, known{sum: t.Hash.sum(), scopes: t.Scopes})
	}
	return g
}

// needed reports whether requests have to show a token.
func (g guard) needed() bool { return len(g.tokens) > 0 }

// access is what a request may have.
type access int

const (
	granted access = iota
	noToken        // it shows none that is known
	noScope        // it shows one, which is for something else
)

// access looks at the token that a request shows, if it needs one. All tokens are
// compared, each in constant time, so that the time of an answer tells nothing.
func (g guard) access(r *http.Request, scope Scope) access {
	if !g.needed() {
		if g.loopback {
			return granted
		}
		return noToken // Validate refuses to run such a server
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum, found := sha256.Sum256([]byte(token)), noToken
	for _, t := range g.tokens {
		if subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1 && strings.EqualFold(scheme, "Bearer") {
			found = noScope
			if slices.Contains(t.scopes, scope) {
				return granted
			}
		}
	}
	if found == noToken && r.Header.Get("Authorization") != "" {
		g.refused()
	}
	return found
}

// require lets only those requests through whose token has the scope.
func (g guard) require(scope Scope, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch g.access(r, scope) {
		case granted:
			next.ServeHTTP(w, r)
		case noScope:
			w.Header().Set("WWW-Authenticate", `Bearer realm="relay", error="insufficient_scope", scope="`+string(scope)+`"`)
			http.Error(w, "this token lacks the scope "+string(scope), http.StatusForbidden)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="relay"`)
			http.Error(w, "a bearer token is required", http.StatusUnauthorized)
		}
	})
}

// headers closes three doors of browsers: sniffing, running what an answer holds,
// and a page whose host name was made to point at loopback, which would otherwise
// read an unguarded server.
func (g guard) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		w.Header().Set("Cache-Control", "no-store")
		if g.loopback && !g.needed() && !loopbackHost(hostname(r.Host)) {
			http.Error(w, "ask for this server by a loopback address or as localhost", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

// loopbackHost reports whether only this machine can reach the host. An empty
// host means all interfaces.
func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
