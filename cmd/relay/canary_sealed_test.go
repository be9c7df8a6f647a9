package main

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
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
)

// register registers endpoints in the database with every kind of secret, and some
// that are refused for their faults, and takes down what is said about them.
func (c *leaky) register() {
	c.t.Helper()
	certificate, private := c.clientCertificate()
	c.put(true, map[string]any{
		"name": "stored", "url": c.Receiver.URL + "/stored?token=" + canaryStoredQuery, "secrets": []string{"whsec_" + key(canaryStoredSecret)},
		"headers": map[string]string{"X-Api-Key": canaryStoredHeader}, "basic": map[string]string{"user": "relay", "password": canaryStoredPassword},
	})
	c.put(true, map[string]any{"name": "bearer", "url": c.Receiver.URL + "/bearer", "bearer": canaryStoredBearer})
	c.put(true, map[string]any{
		"name": "mutual", "url": strings.Replace(c.Receiver.URL, "http:", "https:", 1) + "/mutual", "certificate": certificate, "key": private,
	})
	for field, value := range map[string]any{
		"url": "http://relay:" + canaryStoredPassword + "@127.0.0.1:port/?token=" + canaryStoredQuery, "secrets": []string{canaryStoredSecret, "whsec_" + key(canaryStoredSecret)[:12]},
		"headers": map[string]string{"X-Bad": canaryStoredHeader + "\n", "Host": canaryStoredHeader}, "basic": map[string]string{"user": "relay", "pasword": canaryStoredPassword},
		"bearer": []string{canaryStoredBearer}, "key": private, "certificate": private, "ca": private, "nonsense": canaryStoredBearer, "timeout": canaryStoredBearer,
		"success_codes": canaryStoredBearer,
	} {
		c.put(false, map[string]any{"name": "bad", "url": c.Receiver.URL + "/bad", field: value})
	}
}

// put registers an endpoint, or fails to.
func (c *leaky) put(good bool, settings map[string]any) {
	c.t.Helper()
	request, err := json.Marshal(settings)
	c.must(err)
	c.asks(good, "put", string(request))
}

// asks has relay's service do something with endpoints, or refuse to, and takes down
// what it answers.
func (c *leaky) asks(good bool, verb, request string) {
	c.t.Helper()
	m, err := c.Conn.Request(endpoint.SubjectEndpoints+verb, []byte(request), relaytest.Patience)
	c.must(err)
	if fault := m.Header.Get(micro.ErrorHeader); good != (fault == "") {
		c.t.Errorf("relay.endpoints.%s: %s", verb, fault)
	}
	c.add(placeAnswers, fmt.Sprintf("%s %v", m.Data, m.Header))
}

// look asks for all that can be asked about endpoints with secrets, and changes one
// of them.
func (c *leaky) look() {
	c.t.Helper()
	c.asks(true, "list", "")
	for _, name := range []string{"stored", "bearer", "mutual", "orders"} {
		c.asks(true, "get", name)
		c.asks(true, "pause", name)
		c.asks(true, "resume", name)
		c.asks(true, "disable", name)
		c.asks(true, "enable", name)
		c.asks(true, "try", `{"endpoint": "`+name+`", "payload": {}}`)
	}
	c.asks(true, "rotate", `{"endpoint": "stored", "secret": "whsec_`+key(canaryStoredNext)+`"}`)
	c.asks(false, "rotate", `{"endpoint": "stored", "secret": "`+canaryStoredNext+`"}`)
	c.asks(false, "rotate", `{"endpoint": "orders", "secret": "whsec_`+key(canaryStoredNext)+`"}`)
	c.asks(true, "pause", c.Receiver.URL+"/paused?token="+canaryStoredQuery)
	c.asks(true, "get", c.Receiver.URL+"/stored?token="+canaryStoredQuery)
}

// reseal has everything sealed with the second key, and lets a stranger's key find
// something that it cannot open.
func (c *leaky) reseal() {
	c.t.Helper()
	c.says(1, "rekey", "--check", "--set", "sealing.keys=rsk_"+key(canarySecondSealing)+",rsk_"+key(canarySealing))
	c.says(0, "rekey", "--set", "sealing.keys=rsk_"+key(canarySecondSealing)+",rsk_"+key(canarySealing))
	c.says(1, "rekey", "--set", "sealing.keys="+nextKey)
	c.says(1, "rekey", "--json", "--set", "sealing.keys="+nextKey)
	c.says(1, "run", "--set", "admin.address=127.0.0.1:0", "--set", "sealing.keys="+nextKey)
}

// clientCertificate makes a key pair for TLS, and notes the key.
func (c *leaky) clientCertificate() (certificate, private string) {
	c.t.Helper()
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &pair.PublicKey, pair)
	c.must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(pair)
	c.must(err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	c.clientKey = strings.Split(string(text), "\n")[2][:40] // its first line is the same for every such key
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})), string(text)
}
