package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/audit"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/signature"
)

const nextKey = "rsk_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="

// keyID is what relay calls a sealing key.
func keyID(t *testing.T, key string) string {
	t.Helper()
	s, err := endpoint.NewSealer(relay.Secret(key))
	if err != nil {
		t.Fatal(err)
	}
	return s.KeyIDs()[0]
}

// registers puts an endpoint in a database, sealed with the first of some keys.
func registers(t *testing.T, r *relaytest.Relay, settings string, keys ...string) {
	t.Helper()
	pool, err := audit.Pool(t.Context(), r.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	l := mustLoad(t, sources{set: []string{"sealing.keys=" + strings.Join(keys, ",")}})
	store, _, err := l.otherStore(pool)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), []byte(settings), "test"); err != nil {
		t.Fatal(err)
	}
}

// S6: rather than send unsigned, relay does not start; and the doctor says the same.
func TestRelayDoesNotStartWithoutItsSealingKey(t *testing.T) {
	r := relaytest.Start(t)
	r.Stop()
	registers(t, r, fmt.Sprintf(`{"name": "orders", "url": "https://shop.example/", "secrets": [%q]}`, oldSecret), sealingKey)
	for keys, refused := range map[string]bool{
		"": true, nextKey: true, sealingKey: false, nextKey + "," + sealingKey: false,
	} {
		set := []string{"nats.url=" + r.NATS.ClientURL(), "postgres.url=" + r.URL, "admin.address=127.0.0.1:0"}
		if keys != "" {
			set = append(set, "sealing.keys="+keys)
		}
		l := mustLoad(t, sources{set: set})
		s := &servers{log: zerolog.Nop()}
		if err := s.open(t.Context(), l.Config); err != nil {
			t.Fatal(err)
		}
		_, err := newApp(t.Context(), l, s)
		s.close()
		if refused != (err != nil) {
			t.Errorf("with the keys %q: %v", keys, err)
		}
		args := []string{"doctor"}
		for _, one := range set {
			args = append(args, "--set", one)
		}
		out, _ := command(t, args...)
		if found := strings.Contains(out, "fail  sealing"); found != refused {
			t.Errorf("with the keys %q the doctor says\n%s", keys, out)
		}
		if strings.HasPrefix(keys, nextKey+",") != strings.Contains(out, "warn  sealing") {
			t.Errorf("with the keys %q the doctor says\n%s", keys, out)
		}
		for _, want := range []string{`"orders"`, keyID(t, sealingKey), "sealing.keys"} {
			if refused && (!strings.Contains(fmt.Sprint(err), want) || !strings.Contains(out, want)) {
				t.Errorf("with the keys %q: no %q in %v, nor in\n%s", keys, want, err, out)
			}
		}
	}
}

// The steps of SECURITY.md, with events all the time: no request is unsigned or
// signed with anything else than the endpoint's secret.
func TestASealingKeyIsReplacedUnderLoad(t *testing.T) {
	config := file(t, "admin: {address: '127.0.0.1:0'}\n")
	r, log := startApp(t, config)
	keys := func(list ...string) string {
		t.Helper()
		text := fmt.Sprintf("admin: {address: '127.0.0.1:0'}\npolicy: {schedule: [10ms], circuit: {failures: 10}}\nsigning: {secrets: [%s]}\nsealing: {keys: [%s]}\n",
			newSecret, strings.Join(list, ", "))
		return reload(t, r, log, config, text)
	}
	use := func(list ...string) {
		t.Helper()
		if said := keys(list...); !strings.Contains(said, "configuration reloaded") {
			t.Fatal(said)
		}
	}
	r.Receiver.Trust(oldSecret, newSecret)
	use(sealingKey)
	registers(t, r, fmt.Sprintf(`{"name": "shop", "url": "%s/shop", "secrets": [%q], "headers": {"X-Api-Key": "k"}}`, r.Receiver.URL, oldSecret), sealingKey)
	load := startTraffic(t, r)
	load.flow(t, 50)
	if said := keys(nextKey); !strings.Contains(said, "not reloaded") || !strings.Contains(said, keyID(t, sealingKey)) {
		t.Errorf("the only key was taken away: %s", said)
	}
	load.flow(t, 20)
	use(sealingKey, nextKey)
	load.flow(t, 20)
	use(nextKey, sealingKey)
	load.flow(t, 20)
	at := []string{"rekey", "--set", "postgres.url=" + r.URL, "--set", "sealing.keys=" + nextKey + "," + sealingKey}
	if out, status := command(t, append(at, "--check")...); status != 1 || !strings.Contains(out, "1 of 1 registered endpoints are to be sealed anew") {
		t.Errorf("check: %d %s", status, out)
	}
	must(t, []string{
		"1 of 1 registered endpoints were sealed anew with key " + keyID(t, nextKey), "1 had secrets sealed with key " + keyID(t, sealingKey),
		"Nothing is sealed with key " + keyID(t, sealingKey) + " any more",
	}, at...)
	must(t, []string{"0 of 1 registered endpoints are to be sealed anew"}, append(at, "--check")...)
	load.flow(t, 50)
	use(nextKey)
	load.flow(t, 50)
	for _, id := range load.stop(t) {
		r.RequireDelivered(id)
	}
	for _, q := range r.Receiver.Requests() {
		secret := newSecret // of what is not registered
		if q.Path == "/shop" {
			secret = oldSecret
		}
		if err := signature.Verify(q.Header, q.Body, secret); err != nil {
			t.Errorf("%s to %s: %v", q.Header.Get("webhook-id"), q.Path, err)
		}
	}
}

// relay dev has a key without being given one, and so have the commands that look
// at its database. The next relay dev has it too.
func TestDevSealsWithAKeyOfItsOwn(t *testing.T) {
	dir, err := os.MkdirTemp("", "relay-dev-") //nolint:usetesting // its parents are open to the user who runs Postgres
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	set := []string{"nats.port=0", "nats.data=" + t.TempDir(), "postgres.data=" + dir, "admin.address=127.0.0.1:0"}
	var keys []relay.Secret
	for range 2 {
		l, err := loadDev(sources{set: set})
		if err != nil {
			t.Fatal(err)
		}
		s := &servers{log: zerolog.Nop()}
		if err := s.openDev(t.Context(), &l); err != nil {
			s.close()
			t.Fatal(err)
		}
		keys = append(keys, l.Sealing.Keys...)
		keys = append(keys, mustLoad(t, sources{set: set}).withDevDatabase().Sealing.Keys...)
		s.close()
	}
	if _, err := endpoint.NewSealer(keys[0]); err != nil || len(keys) != 4 || slices.ContainsFunc(keys, func(k relay.Secret) bool { return k != keys[0] }) {
		t.Errorf("%d keys, which are not one and the same; %v", len(keys), err)
	}
}

// Only whoever runs it can read that key.
func TestDevKeepsItsSealingKey(t *testing.T) {
	dir := t.TempDir()
	first, err := keepDevKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := endpoint.NewSealer(first); err != nil {
		t.Error(err)
	}
	if again, err := keepDevKey(dir); err != nil || again != first {
		t.Errorf("another key, %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, devKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := keepDevKey(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a key was kept nowhere")
	}
}
