package endpoint_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// clientPair is a certificate and its key, in PEM.
func clientPair(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

const origin = "https://shop.example:8443"

// settingsAt are those of two endpoints with a secret in every place that takes
// one; each is shown as write writes it.
func settingsAt(t *testing.T, url, certificate, key string, write func(string) string) []string {
	t.Helper()
	var all []string
	for _, s := range []map[string]any{
		{
			"name": "basic", "url": url + "/basic?" + write("q=canary"), "secrets": []string{write(secret), write("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")},
			"headers": map[string]string{"X-A": write("canary-a"), "X-B": write("canary-b")}, "basic": map[string]string{"user": "u", "password": write("canary-p")},
		},
		{"name": "bearer", "url": url + "/bearer", "bearer": write("canary-t"), "certificate": certificate, "key": write(key)},
	} {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(raw))
	}
	return all
}

func asItIs(s string) string { return s }

func hide(string) string { return "[hidden]" }

// Whoever may change an endpoint, and does not know its secrets, cannot have them
// sent to a server of their own: not in plain, and not as a signature under what
// they publish themselves.
func TestHiddenSecretsDoNotLeaveTheirOrigin(t *testing.T) {
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{})
	certificate, key := clientPair(t)
	for _, settings := range settingsAt(t, origin, certificate, key, asItIs) {
		p.put(settings)
	}
	before := fmt.Sprintf("%+v", p.All())
	faults := [][]string{{"basic.password: ", "headers.X-A: ", "headers.X-B: ", "query: ", "secrets: "}, {"bearer: ", "key: "}}
	for what, url := range map[string]string{
		"host": "https://evil.example:8443", "a name below": "https://evil.shop.example:8443", "port": "https://shop.example", "scheme": "http://shop.example:8443",
		"a port that begins so": "https://shop.example:844", "a name with a dot": "https://shop.example.:8443",
	} {
		for i, settings := range settingsAt(t, url, certificate, key, hide) {
			_, err := p.store.Put(t.Context(), []byte(settings), "mallory")
			if err == nil {
				t.Errorf("%s: took %s", what, settings)
				continue
			}
			for _, fault := range faults[i] {
				if !strings.Contains("\n"+err.Error(), "\n"+fault+"[hidden] was meant for "+origin+" and does not go along to ") {
					t.Errorf("%s: no fault %q in\n%v", what, fault, err)
				}
			}
		}
	}
	if after := fmt.Sprintf("%+v", p.All()); after != before {
		t.Errorf("changed from\n%s to\n%s", before, after)
	}
	for _, same := range []string{origin + "/new/path", "HTTPS://Shop.example:08443"} {
		for _, settings := range settingsAt(t, same, certificate, key, hide) {
			if entry := p.put(settings); entry.State.CredentialsMovedAt != nil {
				t.Errorf("%s is another origin: %+v", same, entry.State)
			}
		}
	}
	if ep := found(t, p, "basic", ""); ep.Header.Get("X-A") != "canary-a" || ep.URL != origin+"/basic?q=canary" || string(ep.Secrets[0]) != secret {
		t.Errorf("lost: %+v", ep)
	}
	// Who brings them anew, or leaves them out, may go anywhere.
	for _, settings := range settingsAt(t, "https://new.example", certificate, key, asItIs) {
		if entry := p.put(settings); entry.State.CredentialsMovedAt != nil {
			t.Errorf("nothing went along: %+v", entry.State)
		}
	}
	p.put(`{"name": "basic", "url": "https://newer.example/"}`)
}

// A move takes them along, and answer, event and record say so, for good.
func TestAMoveOfSecretsIsSeen(t *testing.T) {
	var told []endpoint.Change
	url := testdb.New(t)
	p := startProcess(t, url, endpoint.StoreOptions{OnChange: func(c endpoint.Change) { told = append(told, c) }})
	p.put(`{"name": "orders", "url": "` + origin + `/hook", "bearer": "canary", "secrets": ["` + secret + `"]}`)
	const moved = `{"name": "orders", "url": "https://new.example/hook", "bearer": "[hidden]", "secrets": ["[hidden]"]}`
	entry, err := p.store.Move(t.Context(), []byte(moved), "operator")
	if err != nil {
		t.Fatal(err)
	}
	requireMoved := func(entry endpoint.Entry) {
		t.Helper()
		if s := entry.State; s.CredentialsMovedAt == nil || time.Since(*s.CredentialsMovedAt) > time.Minute ||
			s.CredentialsMovedFrom != origin || s.CredentialsMovedBy != "operator" {
			t.Errorf("answered %+v", s)
		}
	}
	requireMoved(entry)
	if last := told[len(told)-1]; last.What != endpoint.Changed || last.CredentialsFrom != origin || last.By != "operator" {
		t.Errorf("told %+v", last)
	}
	if ep := found(t, p, "orders", ""); ep.Header.Get("Authorization") != "Bearer canary" || string(ep.Secrets[0]) != secret || ep.URL != "https://new.example/hook" {
		t.Errorf("found %+v", ep)
	}
	requireMoved(p.put(strings.Replace(moved, "/hook", "/other", 1)))
	if last := told[len(told)-1]; last.CredentialsFrom != "" {
		t.Errorf("nothing was moved, but told %+v", last)
	}
	var from, by string
	err = p.pool.QueryRow(t.Context(), "SELECT credentials_moved_from, credentials_moved_by FROM relay.endpoint_settings WHERE name = 'orders'").Scan(&from, &by)
	if err != nil || from != origin || by != "operator" {
		t.Errorf("recorded %s by %s, %v", from, by, err)
	}
	// Where nothing is hidden nothing goes along unseen.
	entry, err = p.store.Move(t.Context(), []byte(`{"name": "plain", "url": "https://plain.example/", "bearer": "x"}`), "operator")
	if err != nil || entry.State.CredentialsMovedAt != nil {
		t.Errorf("%+v, %v", entry.State, err)
	}
	if err := p.store.Delete(t.Context(), found(t, p, "orders", "").Key, "test"); err != nil {
		t.Fatal(err)
	}
	if entry := p.put(`{"name": "orders", "url": "https://new.example/"}`); entry.State.CredentialsMovedAt != nil {
		t.Errorf("one that was registered anew: %+v", entry.State)
	}
}

// Nor can whoever may write to the table, and has no sealing key.
func TestSecretsDoNotFollowAURLThatIsWrittenIntoTheTable(t *testing.T) {
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{})
	p.put(`{"name": "orders", "url": "` + origin + `/hook", "bearer": "canary", "secrets": ["` + secret + `"]}`)
	p.put(`{"name": "plain", "url": "https://plain.example/"}`)
	write := func(name, url string) {
		t.Helper()
		p.exec("UPDATE relay.endpoint_settings SET url = $2 WHERE name = $1", name, url)
	}
	for _, url := range []string{"https://evil.example/hook", "http://shop.example:8443/hook", "", "no url"} {
		write("orders", url)
		p.soon("orders", "", func(ep relay.Endpoint, _ error) bool { return strings.HasPrefix(ep.Held, "faulty: ") })
		if ep := found(t, p, "orders", ""); len(ep.Header) > 0 || len(ep.Secrets) > 0 {
			t.Errorf("%q: %+v", url, ep)
		}
		// What does not open there cannot be kept there either.
		_, err := p.store.Move(t.Context(), []byte(`{"name": "orders", "url": "https://evil.example/hook", "bearer": "[hidden]"}`), "mallory")
		if err == nil || !strings.Contains(err.Error(), "bearer: [hidden] stands for a secret that is not there") {
			t.Errorf("%q: %v", url, err)
		}
		write("orders", origin+"/other")
		p.soon("orders", "", func(ep relay.Endpoint, _ error) bool {
			return ep.Held == "" && ep.Header.Get("Authorization") == "Bearer canary" && ep.URL == origin+"/other"
		})
	}
	write("plain", "https://elsewhere.example/")
	p.soon("plain", "", func(ep relay.Endpoint, _ error) bool { return ep.Held == "" && ep.URL == "https://elsewhere.example/" })
}

// The faults can be shown to anybody.
func TestFaultsOfAMoveShowNoSecret(t *testing.T) {
	p := startProcess(t, testdb.New(t), endpoint.StoreOptions{})
	p.put(whole)
	_, err := p.store.Put(t.Context(), []byte(`{"name": "orders", "url": "https://evil.example/?[hidden]", "headers": {"X-Api-Key": "[hidden]"}, "bearer": "mine"}`), "")
	if err == nil || strings.Contains(err.Error(), "canary") || strings.Count(err.Error(), "was meant for https://shop.example and") != 2 {
		t.Errorf("%v", err)
	}
}
