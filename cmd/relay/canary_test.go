package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/consumer"
	"github.com/relaywebhooks/relay/embedded"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

// The secrets of an operator. None of them may stand anywhere but in the
// configuration file.
const (
	canaryNATS     = "zqnatspassword"
	canaryPostgres = "zqpostgrespassword"
	canarySigning  = "zqsigningsecretofthirtytwobytes"
	canaryOwnKey   = "zqendpointsecretoftwentyfourbytes"
	canaryHeader   = "zqoperatorsauthorization"
	canaryToken    = "zqqueryofaregisteredendpoint"
	canaryAdmin    = "zqadmintokenthatislongenough"
	canaryProxy    = "zqproxypassword"
	canaryScoped   = "rat_zqtokenformetricsandready"
)

// The secrets of endpoints that are registered in the database, and the keys that
// seal them there.
const (
	canarySealing        = "zqsealingkeyofthirtytwobytes!!!!"
	canarySecondSealing  = "zqsecondsealingkeyof32bytes!!!!!"
	canaryStoredSecret   = "zqsecretofaregisteredendpoint"
	canaryStoredNext     = "zqsecretafterarotationofit"
	canaryStoredQuery    = "zqqueryinthedatabase"
	canaryStoredHeader   = "zqheaderofaregisteredendpoint"
	canaryStoredPassword = "zqbasicpassword"
	canaryStoredBearer   = "zqbearertoken"
)

// The secrets of a producer. They are in the message that it published, and so
// in the streams, as it wrote them. Beyond that each may stand where producers
// lists it.
const (
	canaryBody       = "zqbodyofaproducer"
	canaryPlain      = "zqordinaryheader"
	canaryCredential = "zqproducersauthorization"
	canaryCustom     = "zqcustomtoken"
	canaryOwn        = "zqheaderthatisnotsent"
	canaryQuery      = "zqqueryofaproducer"
	canaryUser       = "zqpasswordinaurl"
)

var operators = []string{
	canaryNATS, canaryPostgres, canarySigning, canaryOwnKey, canaryHeader, canaryToken, canaryAdmin, canaryProxy, canaryScoped,
	canarySealing, canarySecondSealing, canaryStoredSecret, canaryStoredNext, canaryStoredQuery, canaryStoredHeader, canaryStoredPassword, canaryStoredBearer,
}

// producers are the places in which a producer's secret may stand, apart from
// the streams' own copies of its message.
var producers = map[string][]string{
	canaryBody:       {placeDump}, // bodies are part of the record
	canaryPlain:      {placeDump}, // and so are headers, but for those that carry credentials
	canaryCredential: nil,
	canaryCustom:     nil,
	canaryOwn:        nil,
	canaryQuery:      nil,
	canaryUser:       nil,
}

// The places that are searched.
const (
	placeDump    = "dump of the database"
	placeLog     = "log"
	placeEvents  = "relay.events.>"
	placeAnswers = "answers about endpoints"
	placeMessage = "messages in the streams, as their producer wrote them"
	placeRelays  = "messages in the streams, what relay wrote"
)

// leaky is a relay that runs with secrets everywhere, and what it let out.
type leaky struct {
	*relaytest.Relay // for its questions; it delivers nothing
	t                *testing.T
	nats             string // the server's URL, without a user
	config, admin    string // a file, and an address
	clientKey        string // part of a private key
	log, events      *journal
	found            map[string]string // what was written, by place
}

// TestCanary lets a relay with secrets everywhere deliver, fail, park, bury and
// complain, and searches everything that it writes for them (S1).
func TestCanary(t *testing.T) {
	c := newCanary(t)
	stop := c.start("")
	c.register()
	c.work()
	c.ask()
	c.look()
	c.reseal()
	stop()
	stop = c.start("  proxy: http://relay:" + canaryProxy + "@127.0.0.1:1\n")
	c.workBehindAProxy()
	c.ask()
	stop()
	c.complain()
	c.add(placeLog, c.log.take())
	c.add(placeEvents, c.events.take())
	c.dump()
	c.streams()
	c.wasUsed()

	for _, secret := range append(operators, c.clientKey) {
		c.search(secret, nil)
	}
	for secret, places := range producers {
		c.search(secret, append(places, placeMessage))
	}
}

// newCanary makes servers with passwords, and somebody who listens to events.
func newCanary(t *testing.T) *leaky {
	t.Helper()
	users := file(t, fmt.Sprintf("authorization { users: [{ user: relay, password: %s }, { user: producer, password: producer }] }", canaryNATS))
	server, err := embedded.StartNATS(embedded.NATSOptions{ConfigFile: users, Dir: t.TempDir(), Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	c := &leaky{
		Relay: relaytest.Observe(t, withUser(t, server.ClientURL(), "producer", "producer"), testdb.New(t), consumer.StreamOptions{}),
		t:     t, nats: server.ClientURL(), config: filepath.Join(t.TempDir(), "relay.yaml"), admin: freeAddress(t),
		log: &journal{}, events: &journal{}, found: map[string]string{},
	}
	c.Receiver.Trust(relay.Secret("whsec_"+key(canarySigning)), relay.Secret("whsec_"+key(canaryOwnKey)), relay.Secret("whsec_"+key(canaryStoredSecret)))
	c.Receiver.Always(answer)
	_, err = c.Conn.Subscribe("relay.events.>", func(m *nats.Msg) { fmt.Fprintf(c.events, "%s %s\n", m.Subject, m.Data) })
	c.must(err)
	return c
}

func (c *leaky) must(err error) {
	if err != nil {
		c.t.Helper()
		c.t.Fatal(err)
	}
}

func key(secret string) string { return base64.StdEncoding.EncodeToString([]byte(secret)) }

func withUser(t *testing.T, raw, user, password string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// start writes a configuration file that holds every kind of secret, runs relay
// with it until stop is called, and waits until it works.
func (c *leaky) start(delivery string) (stop func()) {
	c.t.Helper()
	database, err := url.Parse(c.URL)
	c.must(err)
	receiver, err := url.Parse(c.Receiver.URL)
	c.must(err)
	c.must(os.WriteFile(c.config, fmt.Appendf(nil, `
nats: {url: %q, user: relay, password: %s}
postgres: {url: %q}
delivery:
  allow: [127.0.0.0/8]
  ports: [1, 80, %s]
  connect_timeout: 1s
%spolicy: {schedule: [1h], circuit: {failures: 1, executions: 1}}
signing: {secrets: [whsec_%s]}
endpoints:
  orders:
    url: %s/orders?token=%s
    secrets: [whsec_%s]
    headers: {Authorization: Bearer %s}
  sick: {url: "%s/status/500?token=%s"}
sealing: {keys: [rsk_%s, rsk_%s]}
admin: {address: %q, token: %s, tokens: {prometheus: {hash: "sha256:%x", scopes: [metrics, ready]}}}
log: {level: debug, format: json}
`, c.nats, canaryNATS, withUser(c.t, c.URL, database.User.Username(), canaryPostgres), receiver.Port(), delivery, key(canarySigning),
		c.Receiver.URL, canaryToken, key(canaryOwnKey), canaryHeader, c.Receiver.URL, canaryToken, key(canarySealing), key(canarySecondSealing),
		c.admin, canaryAdmin, sha256.Sum256([]byte(canaryScoped))), 0o600))
	binary, err := crashBinary()
	c.must(err)
	cmd := exec.Command(binary, "run", "--config", c.config, "--set", "nats.password="+canaryNATS) // where others may see it
	cmd.Stdout, cmd.Stderr = c.log, c.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	c.t.Cleanup(func() { _ = cmd.Process.Kill() })
	said := ""
	if !c.Eventually(func() bool {
		said += c.log.take()
		return strings.Contains(said, "relay is working")
	}) {
		c.t.Fatalf("relay does not work: %s", said)
	}
	c.add(placeLog, said)
	return func() {
		c.must(cmd.Process.Signal(syscall.SIGTERM))
		select {
		case err := <-ended:
			c.must(err)
		case <-time.After(relaytest.Patience):
			c.t.Fatal("relay does not stop")
		}
	}
}

// add takes down what stands in a place.
func (c *leaky) add(place, text string) { c.found[place] += text + "\n" }

// search looks for a secret in every place. Where it may stand it must: else
// the search finds nothing at all.
func (c *leaky) search(secret string, may []string) {
	c.t.Helper()
	for _, place := range slices.Sorted(maps.Keys(c.found)) {
		at, allowed := seek(c.found[place], secret), slices.Contains(may, place)
		switch {
		case at == "" && allowed:
			c.t.Errorf("%s is not in: %s", secret, place)
		case at != "" && !allowed:
			c.t.Errorf("%s is in: %s: …%s…", secret, place, at)
		}
	}
}

// seek returns where a secret stands in a text, as it is, in hexadecimal digits
// or in base64 beside whatever else.
func seek(text, secret string) string {
	forms := []string{secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret)))}
	for shift := range 3 {
		code := base64.RawStdEncoding.EncodeToString([]byte("xx"[:shift] + secret))
		forms = append(forms, code[(shift*8+5)/6:(shift+len(secret))*8/6])
	}
	for _, form := range forms {
		if i := strings.Index(text, form); i >= 0 {
			return text[max(0, i-200):min(len(text), i+len(form)+50)]
		}
	}
	return ""
}
