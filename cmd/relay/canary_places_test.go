package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/relaywebhooks/relay/consumer"
)

// answer is what the endpoints say: nothing that they were sent, but for one
// that is no HTTP.
func answer(w http.ResponseWriter, r *http.Request) {
	var status int
	if _, err := fmt.Sscanf(r.URL.Path, "/status/%d", &status); err == nil {
		w.WriteHeader(status)
		return
	}
	if r.URL.Path != "/echo" {
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = fmt.Fprintf(conn, "%s %s?\r\n\r\n", r.Method, r.RequestURI) // as endpoints that speak something else
	_ = conn.Close()
}

// event publishes an event with a secret in every field that may hold one.
func (c *leaky) event(id, target string) {
	c.t.Helper()
	c.Publish(map[string]any{
		"id": id, "url": target + "?token=" + canaryQuery, "payload": canaryBody,
		"headers": map[string]string{"X-Shop": canaryPlain, "Authorization": "Bearer " + canaryCredential, "X-Acme-Token": canaryCustom},
	})
}

// rests waits until events have come to an end, or to where they wait.
func (c *leaky) rests(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		if !c.Eventually(func() bool {
			rows := c.Webhooks(id)
			return len(rows) == 1 && slices.Contains([]string{"gone", "dead letters", "schedule", "lane"}, rows[0].Place)
		}) {
			c.t.Fatalf("%s: %+v", id, c.Webhooks(id))
		}
	}
}

// work has events end in every way that there is.
func (c *leaky) work() {
	c.t.Helper()
	https := strings.Replace(c.Receiver.URL, "http:", "https:", 1)
	targets := map[string]string{
		"ok": c.Receiver.URL + "/ok", "gone": c.Receiver.URL + "/status/410", "failing": c.Receiver.URL + "/status/503", "echo": c.Receiver.URL + "/echo",
		"no-server": "http://127.0.0.1:1/", "no-tls": https + "/", "metadata": "http://169.254.169.254/", "no-port": "http://127.0.0.1:22/",
	}
	for id, target := range targets {
		c.event(id, target)
	}
	c.rests(slices.Collect(maps.Keys(targets))...)
	c.event("parked", c.Receiver.URL+"/status/503")
	c.Publish(map[string]any{"id": "sick", "endpoint": "sick", "payload": canaryBody})
	c.rests("sick")
	c.Publish(map[string]any{"id": "sick-too", "endpoint": "sick", "payload": canaryBody})
	c.Publish(map[string]any{"id": "order", "endpoint": "orders", "payload": canaryBody})
	for _, name := range []string{"stored", "bearer", "mutual"} {
		c.Publish(map[string]any{"id": name, "endpoint": name, "payload": canaryBody})
	}
	c.rests("stored", "bearer", "mutual")
	c.Publish(map[string]any{"id": "unknown", "endpoint": "nobody", "payload": canaryBody})
	refused := nats.NewMsg(consumer.SubjectOutbound)
	refused.Data = []byte(canaryBody)
	refused.Header = nats.Header{
		"Relay-Id": {"refused"}, "Relay-Url": {"http://user:" + canaryUser + "@127.0.0.1/?token=" + canaryQuery},
		"Relay-Header-Authorization": {canaryCredential}, "X-Own": {canaryOwn},
	}
	c.PublishMsg(refused)
	c.rests("parked", "sick-too", "order", "unknown", "refused")
}

// workBehindAProxy has an attempt fail for the proxy, which is not there.
func (c *leaky) workBehindAProxy() {
	c.t.Helper()
	c.event("proxied", c.Receiver.URL+"/ok")
	c.rests("proxied")
	if rows := c.Attempts("proxied"); len(rows) != 1 || rows[0].Kind != "error" {
		c.t.Errorf("without its proxy relay made the attempts %+v", rows)
	}
}

// ask reads every page and has every command speak.
func (c *leaky) ask() {
	c.t.Helper()
	for _, page := range []string{
		"/healthz", "/readyz", "/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/nothing",
	} {
		req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+c.admin+page, nil)
		c.must(err)
		token := canaryAdmin
		if page == "/readyz" || page == "/metrics" {
			token = canaryScoped
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		c.must(err)
		body, err := io.ReadAll(resp.Body)
		c.must(err)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusUnauthorized {
			c.t.Errorf("%s wants another token", page)
		}
		c.add(page, fmt.Sprint(resp.Header)+string(body))
	}
	c.says(0, "config")
	c.says(0, "config", "--json")
	c.says(0, "lane", "list")
	c.says(0, "lane", "list", "--json")
	c.says(-1, "doctor")
	c.says(-1, "doctor", "--json")
	c.says(-1, "init", "--check")
	c.says(-1, "migrate", "--check")
	for _, id := range []string{"ok", "gone", "failing", "echo", "no-server", "no-tls", "metadata", "no-port", "parked", "sick", "sick-too", "order", "unknown", "refused", "stored", "bearer", "mutual"} {
		c.says(0, "explain", id)
		c.says(0, "explain", id, "--json")
	}
	c.says(0, "replay", "all")
	c.rests("gone", "unknown", "refused")
}

// says runs a command and takes down all that it writes. A status below 0 is
// any.
func (c *leaky) says(status int, args ...string) {
	c.t.Helper()
	var out bytes.Buffer
	p := &program{stdin: strings.NewReader(""), stdout: &out, stderr: &out}
	if got := p.run(append(args, "--config", c.config), nil); status >= 0 && got != status {
		c.t.Errorf("relay %s: status %d, want %d: %s", strings.Join(args, " "), got, status, out.String())
	}
	c.add("relay "+args[0], out.String())
}

// complain gives relay secrets that it cannot use.
func (c *leaky) complain() {
	c.t.Helper()
	for key, value := range map[string]string{
		"nats.password":                  canaryNATS + "-wrong",
		"nats.url":                       "nats://relay:" + canaryNATS + "@127.0.0.1:port",
		"postgres.url":                   "postgres://relay:" + canaryPostgres + "@127.0.0.1:port/relay",
		"delivery.proxy":                 "http://relay:" + canaryProxy + "@127.0.0.1:port",
		"signing.secrets":                "whsec_" + canarySigning + "!",
		"endpoints.orders.secrets":       canaryOwnKey,
		"endpoints.orders.headers.Host":  canaryHeader,
		"endpoints.orders.headers.X-Bad": canaryHeader + "\n",
		"endpoints.orders.url":           "http://127.0.0.1:port/?token=" + canaryToken,
		"endpoints.sick.url":             "http://relay:" + canaryToken + "@127.0.0.1/",
		"nats.typo":                      canaryNATS,
		"sealing.keys":                   "rsk_" + canarySealing + ",rsk_" + key(canarySealing)[:20],
		"admin.tokens.new.hash":          canaryScoped,
	} {
		for _, command := range []string{"config", "doctor"} {
			c.says(-1, command, "--set", key+"="+value)
		}
	}
	for _, set := range []string{
		"sealing.keys=" + nextKey, // which opens nothing
		"postgres.url=postgres://relay:" + canaryPostgres + "@127.0.0.1:1/relay",
		"postgres.url=host=127.0.0.1 port=1 user=relay password=" + canaryPostgres,
		"postgres.url=postgres://127.0.0.1:1/relay?user=relay&password=" + canaryPostgres,
		"nats.url=nats://relay:" + canaryNATS + "@127.0.0.1:1", // an address that nobody listens on
	} {
		for _, command := range []string{"config", "doctor", "init", "migrate"} {
			c.says(-1, command, "--set", set)
		}
		c.says(-1, "explain", "ok", "--set", set)
		c.says(-1, "send", "{}", "--url", "http://127.0.0.1/", "--set", set)
	}
}

// dump has pg_dump write the whole database; where there is none, COPY.
func (c *leaky) dump() {
	c.t.Helper()
	var bin string
	if c.DB.QueryRow(c.t.Context(), "SELECT setting FROM pg_config WHERE name = 'BINDIR'").Scan(&bin) == nil {
		if path, err := exec.LookPath(filepath.Join(bin, "pg_dump")); err == nil {
			var said bytes.Buffer
			cmd := exec.Command(path, "--dbname", c.URL)
			cmd.Stderr = &said
			out, err := cmd.Output()
			if err != nil {
				c.t.Fatalf("pg_dump: %v: %s", err, said.String())
			}
			c.add(placeDump, string(out))
			return
		}
	}
	rows, err := c.DB.Query(c.t.Context(), "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'relay'")
	c.must(err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	c.must(err)
	conn, err := c.DB.Acquire(c.t.Context())
	c.must(err)
	defer conn.Release()
	for _, table := range tables {
		var out bytes.Buffer
		_, err := conn.Conn().PgConn().CopyTo(c.t.Context(), &out, "COPY "+table+" TO STDOUT")
		c.must(err)
		c.add(placeDump, out.String())
	}
}

// streams reads every message of every stream: what its producer wrote, and
// what relay added.
func (c *leaky) streams() {
	c.t.Helper()
	letters := 0
	for _, name := range []string{consumer.StreamQueue, consumer.StreamLater, consumer.StreamDead, consumer.StreamPauses} {
		stream, err := c.JS.Stream(c.t.Context(), name)
		c.must(err)
		info := stream.CachedInfo()
		c.add(placeRelays, fmt.Sprintf("%+v", *info))
		for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
			m, err := stream.GetMsg(c.t.Context(), seq)
			if err != nil {
				continue // removed
			}
			c.message(m, name == consumer.StreamPauses)
			letters++
		}
	}
	if letters < 8 {
		c.t.Errorf("only %d messages wait or are buried", letters)
	}
}

func (c *leaky) message(m *jetstream.RawStreamMsg, relays bool) {
	place := placeMessage
	if relays {
		place = placeRelays
	}
	c.add(place, string(m.Data))
	c.add(placeRelays, m.Subject)
	for name, values := range m.Header {
		if strings.HasPrefix(name, "Relay-Meta-") || strings.HasPrefix(name, "Nats-") || name == "Relay-Id" {
			c.add(placeRelays, name+": "+strings.Join(values, ","))
		} else {
			c.add(placeMessage, name+": "+strings.Join(values, ","))
		}
	}
}

// wasUsed holds that the secrets did their work: the receivers got them, and
// checked the signatures.
func (c *leaky) wasUsed() {
	c.t.Helper()
	var all strings.Builder
	for _, r := range c.Receiver.Requests() {
		fmt.Fprintln(&all, r.Path, r.Header, string(r.Body))
	}
	for _, secret := range []string{
		canaryHeader, canaryToken, canaryBody, canaryPlain, canaryCredential, canaryCustom, canaryQuery,
		canaryStoredQuery, canaryStoredHeader, key("relay:" + canaryStoredPassword), canaryStoredBearer,
	} {
		if !strings.Contains(all.String(), secret) {
			c.t.Errorf("no request held %s", secret)
		}
	}
	if !strings.Contains(c.found[placeDump], "sealed:"+keyID(c.t, "rsk_"+key(canarySecondSealing))+":") {
		c.t.Error("nothing in the database is sealed with the second key")
	}
}
