package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/relaywebhooks/relay"
)

// guard decides who may read. It keeps the token's hash only: hashes have one
// length, so that comparing them tells nothing about the token's.
type guard struct {
	token    [sha256.Size]byte
	needed   bool
	loopback bool // the server listens on a loopback address
}

func newGuard(token relay.Secret, loopback bool) guard {
	return guard{token: sha256.Sum256([]byte(token)), needed: token != "", loopback: loopback}
}

// allows reports whether the request shows the token, or needs none.
func (g guard) allows(r *http.Request) bool {
	if !g.needed {
		return g.loopback
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1
}

// require lets only those requests through that the guard allows.
func (g guard) require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.allows(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="relay"`)
			http.Error(w, "a bearer token is required", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// headers closes two doors of browsers: sniffing, and a page whose host name was
// made to point at loopback, which would otherwise read an unguarded server.
func (g guard) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if g.loopback && !g.needed && !loopbackHost(hostname(r.Host)) {
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
