package relay_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/relaywebhooks/relay"
)

func TestCheckURL(t *testing.T) {
	good := []struct{ raw, want string }{
		{"https://example.com", "https://example.com/"},
		{"https://example.com/", "https://example.com/"},
		{"HTTPS://Example.COM:443/Hook", "https://example.com/Hook"},
		{"http://example.com:80/a", "http://example.com/a"},
		{"http://example.com:443/a", "http://example.com:443/a"},
		{"https://example.com:/a", "https://example.com/a"},
		{"https://example.com:08443/a", "https://example.com:8443/a"},
		{"https://example.com?a=b", "https://example.com/?a=b"},
		{"https://example.com/?", "https://example.com/?"},
		{"https://example.com/a%2Fb/../c//d?x=%zz&y=a+b", "https://example.com/a%2Fb/../c//d?x=%zz&y=a+b"},
		{"https://example.com/%00%0d%0a", "https://example.com/%00%0d%0a"},
		{"https://example.com/%2f{id}é", "https://example.com/%2f%7Bid%7D%C3%A9"},
		{"https://example.com/?q={é}", "https://example.com/?q={%C3%A9}"},
		{"https://example.com./a", "https://example.com./a"},
		{"https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"},
		{"https://a_b.example/", "https://a_b.example/"},
		{"http://127.0.0.1:8080/", "http://127.0.0.1:8080/"},
		{"http://[::1]:8080/", "http://[::1]:8080/"},
		{"http://[2001:DB8:0::1]/", "http://[2001:db8::1]/"},
		{"http://[::ffff:169.254.169.254]/", "http://[::ffff:169.254.169.254]/"},
		{"http://2130706433/", "http://2130706433/"},
	}
	for _, c := range good {
		got, err := relay.CheckURL(c.raw)
		if err != nil || got != c.want {
			t.Errorf("%q: got %q, %v; want %q", c.raw, got, err, c.want)
		}
	}
}

func TestCheckURLRefuses(t *testing.T) {
	long := "https://example.com/" + strings.Repeat("a", relay.MaxURL)
	bad := []string{
		"", " ", "/", "host/path", "//host/", "file:///etc/passwd", "gopher://host/", "unix:///var/run/docker.sock",
		"http+unix://%2Fvar%2Frun/", "javascript:alert(1)", "http:127.0.0.1", "http:/host/", "http://", "https:///path",
		"http://:80/", "https://user:pass@example.com/", "https://user@example.com/", "https://@example.com/",
		"http://127.0.0.1\\@example.com/", "http://exa\tmple.com/", "http://exa mple.com/", "http://example.com/\r\nX: 1",
		"http://example.com/a b", "http://example.com/?a b", "https://example.com/#frag", "https://example.com/#",
		"https://example.com:0/", "https://example.com:65536/", "https://example.com:99999/", "https://example.com:-1/",
		"https://example.com:http/", "https://example.com/%zz", "https://[fe80::1%25eth0]/", "https://[::1/", "https://[127.0.0.1]/",
		"https://[::ffff:127.0.0.1%25lo]/", "https://①②⑦.⓪.⓪.①/", "https://127。0。0。1/", "https://exämple.com/",
		"https://\u212aelvin.example/", "https://\u0130nternal.example/", "https://\u017fhop.example/", // small letters in ASCII, or capitals
		"https://%31%32%37.0.0.1/", "https://a..b/", "https://.a/", "https://a,b/", "https://a*b/",
		"https://" + strings.Repeat("a", 64) + ".com/", "https://" + strings.Repeat("abc.", 64) + "com/", long,
		"https://example.com/" + strings.Repeat("é", 900), "https://exam\x00ple.com/", "https://example.com/\x7f",
	}
	for _, raw := range bad {
		if got, err := relay.CheckURL(raw); err == nil {
			t.Errorf("%.80q was allowed as %.80q", raw, got)
		}
	}
}

func TestCheckURLHidesSecrets(t *testing.T) {
	for _, raw := range []string{
		"https://user:s3cret@example.com/", "https://user:s3/cret@example.com/", "https://us%zzs3cret@example.com/",
		"https://example.com:99999/?token=s3cret", "ftp://example.com/?token=s3cret", "https://example.com/?s3cret#x",
		"https://example.com:s3cret/", "https://user:s3cret@exa\x00mple.com/?s3cret", "s3cret:opaque",
	} {
		_, err := relay.CheckURL(raw)
		if err == nil {
			t.Errorf("%q was allowed", raw)
			continue
		}
		if raw != "s3cret:opaque" && strings.Contains(err.Error(), "s3") {
			t.Errorf("%q: the error shows it: %v", raw, err)
		}
	}
}

// What passes is its own canonical form, is what net/http puts on the wire, and
// holds nothing that a request line must not hold.
func FuzzCheckURL(f *testing.F) {
	for _, raw := range []string{
		"https://Example.com:443/a%2Fb{?x=é", "http://[::1]:8080/", "https://u:p@h/", "http://h?a#b", "//h/", "https://h:/\\",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := relay.CheckURL(raw)
		if err != nil {
			return
		}
		if again, err := relay.CheckURL(got); err != nil || again != got {
			t.Fatalf("%q became %q, which becomes %q, %v", raw, got, again, err)
		}
		_, place, _ := strings.Cut(raw, "://")
		place, _, _ = strings.Cut(place, "/")
		place, _, _ = strings.Cut(place, "?")
		if strings.ContainsFunc(place, func(r rune) bool { return r > unicode.MaxASCII }) {
			t.Fatalf("%q is another script's spelling of %q", raw, got)
		}
		for i := range len(got) {
			if got[i] <= ' ' || got[i] >= 0x7f {
				t.Fatalf("%q became %q: byte %d", raw, got, i)
			}
		}
		u, err := url.Parse(got)
		if err != nil || u.User != nil || u.Fragment != "" || u.Host == "" {
			t.Fatalf("%q became %q: %v", raw, got, err)
		}
		if want := u.Scheme + "://" + u.Host + u.RequestURI(); want != got {
			t.Fatalf("%q became %q, sent as %q", raw, got, want)
		}
		var wire strings.Builder
		r := http.Request{Method: http.MethodGet, URL: u, Header: http.Header{"User-Agent": {"relay"}}}
		if err := r.Write(&wire); err != nil || strings.Count(wire.String(), "\n") != 4 {
			t.Fatalf("%q: wire %q, %v", raw, wire.String(), err)
		}
	})
}
