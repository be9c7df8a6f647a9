package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// credentials are the files of an authority and of a client that it vouches for.
type credentials struct{ ca, certificate, key string }

// writeCredentials writes them into a directory, over those that are there.
func writeCredentials(t *testing.T, dir, client string) credentials {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: client},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := credentials{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")}
	writePEM(t, c.certificate, "CERTIFICATE", der)
	writePEM(t, c.key, "PRIVATE KEY", pkcs8)
	return c
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The certificate that relay shows is exchanged as its secrets are: by SIGHUP, and
// without a restart.
func TestTLSOfAnEndpoint(t *testing.T) {
	shown := make(chan string, 16)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		shown <- q.TLS.PeerCertificates[0].Subject.CommonName + ", " + q.Header.Get("Authorization") + ", " + q.Header.Get("Content-Type")
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	dir := t.TempDir()
	c := writeCredentials(t, dir, "first")
	writePEM(t, c.ca, "CERTIFICATE", server.Certificate().Raw)

	base := "admin: {address: '127.0.0.1:0'}\npolicy: {schedule: [10ms], max_attempts: 2}\n"
	text := func(more string) string {
		return fmt.Sprintf("%sendpoints: {bank: {url: '%s', content_type: text/csv, ca: %s, certificate: %s, key: %s%s}}\n",
			base, server.URL, c.ca, c.certificate, c.key, more)
	}
	config := file(t, base)
	r, log := startApp(t, config)
	if said := reload(t, r, log, config, text(", bearer: b1")); !strings.Contains(said, "configuration reloaded") {
		t.Fatal(said)
	}
	r.RequireDelivered(r.Publish(map[string]any{"endpoint": "bank", "payload": 1}))
	if got, want := <-shown, "first, Bearer b1, text/csv"; got != want {
		t.Errorf("shown was %q, want %q", got, want)
	}

	writeCredentials(t, dir, "second")
	if said := reload(t, r, log, config, text(", basic: 'user:pass:word'")); !strings.Contains(said, "configuration reloaded") {
		t.Fatal(said)
	}
	id := r.Publish(map[string]any{"endpoint": "bank", "payload": 1, "content_type": "text/plain"})
	r.RequireDelivered(id)
	if got, want := <-shown, "second, Basic dXNlcjpwYXNzOndvcmQ=, text/plain"; got != want {
		t.Errorf("shown was %q, want %q", got, want)
	}

	// A key that does not belong to the certificate changes nothing.
	other := writeCredentials(t, t.TempDir(), "other")
	if err := os.Rename(other.key, c.key); err != nil {
		t.Fatal(err)
	}
	said := reload(t, r, log, config, text(""))
	if !strings.Contains(said, "endpoints.bank.key = "+c.key+": is not the one that belongs to the first certificate") || !strings.Contains(said, "the old one holds") {
		t.Error(said)
	}
	r.RequireDelivered(r.Publish(map[string]any{"endpoint": "bank", "payload": 1}))
	if got, want := <-shown, "second, Basic dXNlcjpwYXNzOndvcmQ=, text/csv"; got != want {
		t.Errorf("shown was %q, want %q", got, want)
	}

	// Without the authority there is no request.
	if said := reload(t, r, log, config, base+"endpoints: {bank: {url: '"+server.URL+"'}}\n"); !strings.Contains(said, "configuration reloaded") {
		t.Fatal(said)
	}
	id = r.Publish(map[string]any{"endpoint": "bank", "payload": 1})
	r.RequireDead(id)
	if a := r.Attempts(id); len(a) != 2 || a[0].Class != "tls" || !strings.Contains(a[0].Message, "unknown authority") || len(shown) != 0 {
		t.Errorf("attempts %+v", a)
	}
}

func TestFaultsOfEndpoints(t *testing.T) {
	dir := t.TempDir()
	c := writeCredentials(t, dir, "relay")
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ settings, want string }{
		{"ca: " + dir + "/nothing.pem", "endpoints.a.ca = " + dir + "/nothing.pem: open " + dir + "/nothing.pem: no such file"},
		{"ca: " + empty, "endpoints.a.ca = " + empty + ": is not PEM"},
		{"ca: " + c.key, "endpoints.a.ca = " + c.key + ": holds a private key"},
		{"certificate: " + c.certificate, "endpoints.a.key: is missing"},
		{"key: " + c.key, "endpoints.a.certificate: is missing"},
		{"certificate: " + c.certificate + ", key: " + c.certificate, "endpoints.a.key = " + c.certificate + ": holds no private key"},
		{"bearer: t0ken, basic: 'a:t0ken'", "endpoints.a.bearer = [hidden]: use one of basic, bearer and headers.Authorization"},
		{"bearer: t0ken, headers: {authorization: t0ken}", "endpoints.a.bearer = [hidden]: use one of"},
		{"basic: 'a:t0ken', headers: {Authorization: t0ken}", "endpoints.a.basic = [hidden]: use one of"},
		{"basic: t0ken", "endpoints.a.basic = [hidden]: must be user:password"},
		{"basic: ':t0ken'", "endpoints.a.basic = [hidden]: must be user:password"},
		{"basic: \"a:t0ken\\n\"", "endpoints.a.basic = [hidden]: holds a control character"},
		{"bearer: Bearer t0ken", "endpoints.a.bearer = [hidden]: must be one word in ASCII"},
		{"bearer: \"t0ken\\nX: y\"", "endpoints.a.bearer = [hidden]: must be one word in ASCII"},
		{"content_type: json", `"a": content_type: is "json", want a media type`},
		{"content_type: \"a/b\\r\\nX: y\"", `"a": content_type`},
	} {
		got := faultsOf(t, "endpoints: {a: {url: 'https://a.example', "+tc.settings+"}}", sources{})
		if len(got) != 1 || !strings.Contains(got[0], tc.want) || strings.Contains(got[0], "t0ken") {
			t.Errorf("%s: %q, want one fault with %q", tc.settings, got, tc.want)
		}
	}
	got := faultsOf(t, "endpoints: {a: {url: 'http://a.example', certificate: "+c.certificate+", key: "+c.key+"}}", sources{})
	if len(got) != 1 || !strings.Contains(got[0], "does not begin with https://") {
		t.Error(got)
	}
}

// The schedule of three days is one word, and relay says what else it takes.
func TestTheStandardSchedule(t *testing.T) {
	const all = "policy: {schedule: standard, max_attempts: 10}\nconsumer: {expires_after: 4d}\n"
	for _, l := range []loaded{
		mustLoad(t, sources{file: file(t, all)}),
		mustLoad(t, sources{environ: []string{"RELAY_POLICY_SCHEDULE=standard"}, set: []string{"policy.max_attempts=10", "consumer.expires_after=4d"}}),
		mustLoad(t, sources{file: file(t, all+"endpoints: {a: {url: 'http://a', schedule: standard}}")}),
	} {
		if got := text(reflect.ValueOf(l.Policy.Schedule)); got != "5s,5m,30m,2h,6h,12h,16h,20h,1d" {
			t.Errorf("the schedule is %s", got)
		}
		if a, ok := l.Endpoints["a"]; ok && !slices.Equal(a.Schedule, l.Policy.Schedule) {
			t.Errorf("that of the endpoint is %v", a.Schedule)
		}
	}
	got := strings.Join(faultsOf(t, "policy: {schedule: standard}\nendpoints: {a: {url: 'http://a', schedule: standard, max_attempts: 9}}", sources{}), "\n")
	for _, want := range []string{
		"policy.max_attempts = 5: must be at least 10 for all waits of policy.schedule: standard",
		"endpoints.a.max_attempts = 9: must be at least 10 for all waits of endpoints.a.schedule: standard",
		"consumer.expires_after = 3d: must be at least 90h for all waits of policy.schedule: standard",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if got := faultsOf(t, "policy: {schedule: normal}", sources{}); len(got) != 1 || !strings.Contains(got[0], "is not a duration") {
		t.Error(got)
	}
}
