package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/hostile"
)

// runApp runs what relay run runs, with settings of the test's own, until the
// test ends. The relay that it is given has been stopped.
func runApp(t *testing.T, r *relaytest.Relay, set ...string) *app {
	t.Helper()
	l, err := load(sources{set: append([]string{
		"nats.url=" + r.NATS.ClientURL(), "postgres.url=" + r.URL, "admin.address=127.0.0.1:0", "policy.schedule=10ms",
	}, set...)})
	if err != nil {
		t.Fatal(err)
	}
	s := &servers{log: zerolog.Nop()}
	t.Cleanup(s.close)
	if err := s.open(t.Context(), l.Config); err != nil {
		t.Fatal(err)
	}
	a, err := newApp(t.Context(), l, s)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		a.sender.current.Load().CloseIdle()
	})
	return a
}

// allowed is the one address of this machine that the relay of these tests may
// call, as if it were public.
const allowed = "127.0.0.77"

// place is a URL to which a producer sends an event, and what comes of it.
type place struct {
	name, url string
	want      string // of the reason, or the path that reached the receiver
	attempts  int    // rows in relay.attempts
	kind      string // of the attempt
}

// invalid are URLs that never were a place: refused when the event is read, with
// no attempt.
func invalidPlaces() (all []place) {
	for name, url := range map[string]string{
		"U1 file": "file:///etc/passwd", "U2 gopher": "gopher://127.0.0.1:70/_x", "U2 ftp": "ftp://example.com/", "U2 ldap": "ldap://127.0.0.1/",
		"U2 dict": "dict://127.0.0.1:11211/stat", "U2 data": "data:text/plain,x", "U2 ws": "ws://example.com/",
		"U3 unix": "unix:///var/run/docker.sock", "U3 http+unix": "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "U4 javascript": "javascript:alert(1)",
		"U5 no scheme": "//" + allowed + "/", "U6 no scheme, no slashes": allowed + "/path", "U6 a path": "/path", "U6 a word": "example",
		"U7 no slashes": "http:127.0.0.1", "U7 one slash": "http:/127.0.0.1/", "U7 no host": "http://", "U7 no host, a port": "http://:80/", "U7 three slashes": "http:///127.0.0.1/",
		"U9 user and password": "https://user:canary@example.com/", "U9 user": "https://user@example.com/", "U9 empty user": "https://@example.com/",
		"U9 address as user": "http://" + allowed + "@169.254.169.254/", "U9 escaped at": "http://example.com%40169.254.169.254/",
		"U11 backslash": `http://127.0.0.1\@example.com/`, "U11 backslashes": `http:\\127.0.0.1\`, "U11 tab in the host": "http://exa\tmple.com/",
		"U11 line feed in the host": "http://example.com\n/", "U11 carriage return": "http://example.com/\r\nX: 1", "U11 space in the host": "http://exam ple.com/",
		"U11 leading space": " http://example.com/", "U11 NUL in the host": "http://example.com\x00.evil/", "U11 escaped host": "http://%31%32%37.0.0.1/",
		"U11 comma in the host": "http://127.0.0.1,example.com/", "U11 angle": "http://<script>/", "U11 zero width space": "http://exam\u200bple.com/",
		"U12 fragment": "https://example.com/#frag", "U12 empty fragment": "https://example.com/#", "U12 fragment and at": "http://example.com#@169.254.169.254/",
		"U13 port 0": "http://example.com:0/", "U13 port 65536": "http://example.com:65536/", "U13 port 99999": "http://example.com:99999/",
		"U13 negative port": "http://example.com:-80/", "U13 port by name": "http://example.com:http/", "U13 port in hex": "http://example.com:0x50/",
		"U13 port with a plus": "http://example.com:+80/", "U13 two ports": "http://example.com:80:80/",
		"U14 64 KiB": "https://example.com/" + strings.Repeat("a", 64<<10), "U14 2,049 bytes": "https://example.com/" + strings.Repeat("a", 2029),
		"U14 2,048 bytes that grow": "https://example.com/" + strings.Repeat("é", 1000), "U14 label of 64 bytes": "https://" + strings.Repeat("a", 64) + ".com/",
		"U15 bare percent": "https://example.com/%", "U15 no hexadecimal": "https://example.com/%zz",
		"U17 another script": "https://exämple.com/", "U17 look-alike": "https://еxample.com/", "U17 right to left": "https://example\u202e.com/",
		"A28 zone": "http://[fe80::1%25eth0]/", "A28 zone of loopback": "http://[::ffff:127.0.0.1%25lo]/", "A28 zone unescaped": "http://[fe80::1%eth0]/",
		"U9 user and password of an address": "http://u:p@[::1]/", "U9 nothing but at": "http://@/", "U9 at twice": "http://a@b@example.com/", "U9 at after a port": "http://example.com:80@169.254.169.254/",
		"U6 a mark before the scheme": "\ufeffhttp://example.com/", "U6 another's scheme around it": "view-source:http://example.com/", "U6 jar": "jar:http://example.com!/",
		"U7 four slashes": "http:////example.com/", "U7 slash and backslash": `http:/\example.com/`, "U7 slashes that look alike": "http:\u2215\u2215example.com/",
		"U11 NUL, escaped, in the host": "http://127.0.0.1%00.example.com/", "U11 tab, escaped, in the host": "http://127.0.0.1%09/", "U11 dot, escaped, in the host": "http://169%2e254%2e169%2e254/",
		"U11 soft hyphen": "http://exam\u00adple.com/", "U11 one-dot leader": "http://127\u20240\u20240\u20241/", "U11 semicolon in the host": "http://127.0.0.1;example.com/",
		"U11 no host but a dot": "http://./", "U11 only dots": "http://.../", "U11 a dot first": "http://.example.com/", "U11 two dots last": "http://example.com../", "U11 plus in the host": "http://a+b/",
		"U12 fragment, escaped at": "http://example.com#%40169.254.169.254/", "U13 full-width port": "http://example.com:８０/", "U13 port with a space, escaped": "http://example.com:80%20/", "U13 port of 20 digits": "http://example.com:18446744073709551696/",
		"U17 circled letters": "https://ⓔxample.com/", "U17 Kelvin sign": "https://\u212aelvin.example/", "U17 sharp s": "https://faß.example/",
		"A28 zone of an unspecified address": "http://[::%25lo]/", "A36 IPv6 without brackets": "http://::1/", "A36 brackets and more": "http://[::1]example.com/", "A36 future address": "http://[v1.fe80::a]/",
		"A36 IPv4 of five in IPv6": "http://[::ffff:1.2.3.4.5]/", "A36 zeros before IPv4 in IPv6": "http://[::ffff:0177.0.0.1]/", "A36 brackets around a name": "http://[localhost]/", "A36 nothing in brackets": "http://[]/",
		"A33 brackets around IPv4": "http://[127.0.0.1]/", "A33 no end of the bracket": "http://[::1/", "A34 full width": "http://①②⑦.⓪.⓪.①/", "A34 ideographic stops": "http://127。0。0。1/",
		"A34 full-width dots": "http://127．0．0．1/", "A34 superscript": "http://¹²⁷.0.0.1/",
	} {
		all = append(all, place{name: name, url: url, want: "invalid: "})
	}
	return all
}

// forbidden are places that are not called: one attempt says so, and none
// follows.
func forbiddenPlaces(port string) (all []place) {
	hosts := map[string]string{
		"A1 loopback": "127.0.0.1", "A2 end of loopback": "127.255.255.254", "A2 beside the one that is allowed": "127.0.0.78", "A3 unspecified": "0.0.0.0",
		"A4 10/8": "10.0.0.1", "A4 end of 10/8": "10.255.255.255", "A5 172.16/12": "172.16.0.1", "A5 end of 172.16/12": "172.31.255.254", "A6 192.168/16": "192.168.1.1",
		"A7 AWS, GCP, Azure": "169.254.169.254", "A8 ECS": "169.254.170.2", "A8 EKS": "169.254.170.23", "A9 Alibaba": "100.100.100.200", "A10 CGNAT": "100.64.0.1",
		"A11 Oracle": "192.0.0.192", "A12 Azure's wire server": "168.63.129.16", "A13 benchmarks": "198.18.0.1", "A14 multicast": "224.0.0.1", "A15 reserved": "240.0.0.1",
		"A16 broadcast": "255.255.255.255", "A17 unspecified, IPv6": "[::]", "A18 loopback, IPv6": "[::1]", "A19 mapped": "[::ffff:127.0.0.1]", "A20 mapped, hexadecimal": "[::ffff:7f00:1]",
		"A20 mapped metadata": "[::ffff:a9fe:a9fe]", "A21 compatible": "[::127.0.0.1]", "A22 compatible metadata": "[::a9fe:a9fe]", "A23 NAT64": "[64:ff9b::7f00:1]",
		"A24 NAT64 metadata": "[64:ff9b::169.254.169.254]", "A25 local NAT64": "[64:ff9b:1::a9fe:a9fe]", "A26 6to4": "[2002:7f00:1::]", "A27 Teredo": "[2001:0:a9fe:a9fe::]",
		"A28 link-local": "[fe80::1]", "A29 unique local": "[fc00::1]", "A29 AWS, IPv6": "[fd00:ec2::254]", "A29 GCP, IPv6": "[fd20:ce::254]", "A30 site-local": "[fec0::1]",
		"A31 multicast, IPv6": "[ff02::1]", "A32 translated": "[::ffff:0:127.0.0.1]", "A36 documentation": "[2001:db8::1]", "A36 SRv6": "[5f00::1]", "A36 discard": "[100::1]",
		"A33 localhost": "localhost", "A33 localhost in capitals": "LOCALHOST", "A36 loopback written out": "[0:0:0:0:0:0:0:1]", "A23 NAT64 in capitals": "[64:FF9B::127.0.0.1]",
		"A36 written out": "[0000:0000:0000:0000:0000:ffff:7f00:0001]", "A36 upper case": "[::FFFF:7F00:1]",
	}
	for name, host := range hosts {
		all = append(all, place{name, "http://" + host + ":" + port + "/?canary", "blocked: ", 1, "blocked"})
	}
	for _, closed := range []int{1, 22, 25, 4222, 5432, 6379, 8080, 65535} {
		all = append(all, place{fmt.Sprintf("U13 port %d of a public address", closed), fmt.Sprintf("http://8.8.8.8:%d/?canary", closed), "its port is not one that relay may call", 1, "blocked"})
	}
	return all
}

// TestWhereRelayDoesNotCall: the URLs and addresses of the list of hostile input,
// through the whole program. The row says what became of each, and nothing of
// it reached a socket.
func TestWhereRelayDoesNotCall(t *testing.T) {
	r := relaytest.Start(t)
	r.Stop()
	port := listen(t, "127.0.0.1:0") // fails the test if it is called
	listen(t, "127.0.0.78:"+port)
	listen(t, "[::1]:"+port)
	runApp(t, r, "delivery.allow="+allowed+"/32", "delivery.ports=80,443,8443,"+port)
	refusesToRegister(t, r, invalidPlaces())

	places := append(invalidPlaces(), forbiddenPlaces(port)...)
	slices.SortFunc(places, func(a, b place) int { return strings.Compare(a.name, b.name) })
	ids := make([]string, len(places))
	for i, p := range places {
		ids[i] = r.Publish(map[string]any{"id": fmt.Sprintf("place_%d", i), "url": p.url, "payload": 1})
	}
	for i, p := range places {
		t.Run(p.name, func(t *testing.T) {
			w := r.RequireStatus(ids[i], "dead")
			attempts := r.Attempts(ids[i])
			if !strings.Contains(w.Reason, p.want) || strings.Contains(w.Reason, "canary") || w.Attempts != p.attempts || len(attempts) != p.attempts {
				t.Errorf("%q: %+v, attempts %+v", p.url, w, attempts)
			}
			for _, a := range attempts {
				if a.Kind != p.kind || a.Status != 0 || strings.Contains(a.Message, "canary") {
					t.Errorf("attempt %+v", a)
				}
			}
			if letter := r.Letter(w); letter.Header.Get("Relay-Meta-Reason") != w.Reason {
				t.Errorf("the letter says %v", letter.Header)
			}
		})
	}
}

// refusesToRegister: what is no place for an event is none for an endpoint.
func refusesToRegister(t *testing.T, r *relaytest.Relay, places []place) {
	t.Helper()
	if !r.Eventually(func() bool { // relay offers its services a moment after it began
		_, err := r.Conn.Request(endpoint.SubjectEndpoints+"list", nil, relaytest.Patience)
		return !errors.Is(err, nats.ErrNoResponders)
	}) {
		t.Fatal("nobody answers")
	}
	for _, p := range places {
		settings, err := json.Marshal(map[string]string{"name": "hostile", "url": p.url})
		if err != nil {
			t.Fatal(err)
		}
		m, err := r.Conn.Request(endpoint.SubjectEndpoints+"put", settings, relaytest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		var refusal endpoint.Refusal
		if err := json.Unmarshal(m.Data, &refusal); err != nil || m.Header.Get(micro.ErrorCodeHeader) != "400" ||
			len(refusal.Faults) == 0 || !strings.HasPrefix(refusal.Faults[0], "url: ") || strings.Contains(string(m.Data), "canary") {
			t.Errorf("%s: %.80q is registered, or refused for something else: %s", p.name, p.url, m.Data)
		}
	}
	var rows int
	if err := r.DB.QueryRow(t.Context(), "SELECT count(*) FROM relay.endpoint_settings").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d endpoints stand in the table, %v", rows, err)
	}
}

// U8: where only https may be called, http is not, and the row says so.
func TestHTTPSOnlyInTheRecord(t *testing.T) {
	r := relaytest.Start(t)
	r.Stop()
	port := listen(t, allowed+":0") // fails the test if it is called
	runApp(t, r, "delivery.allow="+allowed+"/32", "delivery.ports="+port, "delivery.https_only=true")
	id := r.Publish(map[string]any{"url": "http://" + allowed + ":" + port + "/?canary", "payload": 1})
	w := r.RequireDead(id)
	attempts := r.Attempts(id)
	if len(attempts) != 1 || attempts[0].Kind != "blocked" || !strings.Contains(w.Reason, "only https is called") || strings.Contains(w.Reason, "canary") {
		t.Errorf("%+v, attempts %+v", w, attempts)
	}
}

// TestWhatReachesTheWire: URLs that may be called arrive as they were published.
func TestWhatReachesTheWire(t *testing.T) {
	r := relaytest.Start(t)
	r.Stop()
	got := make(chan string, 64)
	l, err := net.Listen("tcp", allowed+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		got <- q.Method + " " + q.RequestURI + " " + q.Host
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	runApp(t, r, "delivery.allow="+allowed+"/32", "delivery.ports="+port)
	host := allowed + ":" + port
	for _, c := range []struct{ name, url, path, host string }{
		{"U15 NUL and line ends stay escaped", "http://" + host + "/a%00b%0d%0aX:%201", "/a%00b%0d%0aX:%201", host},
		{"U15 escaped slash", "http://" + host + "/a%2Fb", "/a%2Fb", host},
		{"U15 dots", "http://" + host + "/a/../../b/./c", "/a/../../b/./c", host},
		{"U15 query as it is", "http://" + host + "/?a=%0d%0a&b=é&c={}", "/?a=%0d%0a&b=%C3%A9&c={}", host},
		{"U15 at and colon in the path", "http://" + host + "/@x:y", "/@x:y", host},
		{"U16 upper case", "HTTP://" + host + "/A", "/A", host},
		{"U16 leading zeros of the port", "http://" + allowed + ":0" + port + "/z", "/z", host},
		{"U16 no path", "http://" + host, "/", host},
		{"U16 mapped address", "http://[::ffff:" + allowed + "]:" + port + "/m", "/m", "[::ffff:" + allowed + "]:" + port},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := r.RequireStatus(r.Publish(map[string]any{"url": c.url, "payload": 1}), "delivered")
			if request := <-got; request != "POST "+c.path+" "+c.host || w.Attempts != 1 {
				t.Errorf("arrived as %q, %+v", request, w)
			}
		})
	}
}

// TestHostileReceiversInTheRecord: whatever a receiver answers, one attempt is
// one row, and the event ends.
func TestHostileReceiversInTheRecord(t *testing.T) {
	r := relaytest.Start(t)
	r.Stop()
	answers := hostile.Answers()
	ids := make([]string, len(answers))
	urls := make([]string, len(answers))
	var ports []string
	for i, h := range answers {
		url, _ := hostile.Server(t, func(_ int, c net.Conn) {
			if hostile.ReadRequest(bufio.NewReader(c)) == nil {
				h.Serve(c)
			}
		})
		urls[i] = url
		ports = append(ports, url[strings.LastIndexByte(url, ':')+1:len(url)-1])
	}
	runApp(t, r, "delivery.allow=127.0.0.1/32", "delivery.ports="+strings.Join(ports, ","), "delivery.timeout=3s", "delivery.connect_timeout=3s")
	for i, url := range urls {
		ids[i] = r.Publish(map[string]any{"id": fmt.Sprintf("answer_%d", i), "url": url + "?canary", "payload": 1, "max_attempts": 1})
	}
	for i, h := range answers {
		t.Run(h.Name, func(t *testing.T) {
			w := r.RequireStatus(ids[i], "delivered", "failed", "dead")
			attempts := r.Attempts(ids[i])
			if len(attempts) != 1 || w.Attempts != 1 {
				t.Fatalf("%+v, attempts %+v", w, attempts)
			}
			a := attempts[0]
			if h.Class != hostile.Any && (a.Class != h.Class || a.Status != h.Status) {
				t.Errorf("class %q and status %d, want %q and %d", a.Class, a.Status, h.Class, h.Status)
			}
			if success := a.Class == "" && 200 <= a.Status && a.Status <= 299; a.Success != success || (w.Status == "delivered") != success {
				t.Errorf("%+v, attempt %+v", w, a)
			}
			if strings.Contains(a.Message+w.Reason, "canary") || len(a.Body) > 16<<10 {
				t.Errorf("%+v, attempt %+v", w, a)
			}
		})
	}
	for _, view := range []string{"webhook_status", "dead_letters", "endpoint_health"} { // no answer spoils them for the rest
		var rows int
		if err := r.DB.QueryRow(t.Context(), "SELECT count(row_to_json(v)::text) FROM relay."+view+" v").Scan(&rows); err != nil || rows == 0 {
			t.Errorf("relay.%s: %d rows, %v", view, rows, err)
		}
	}
}
