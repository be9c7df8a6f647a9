package endpoint_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
	"github.com/relaywebhooks/relay/relaytest"
	"github.com/relaywebhooks/relay/relaytest/testdb"
)

const (
	oldKey relay.Secret = "rsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	newKey relay.Secret = "rsk_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
)

// withKeys starts a process that has these keys.
func withKeys(t *testing.T, url string, keys ...relay.Secret) *process {
	t.Helper()
	return startProcess(t, url, endpoint.StoreOptions{Sealer: newSealer(t, keys...), Poll: 10 * time.Millisecond})
}

func keyID(t *testing.T, key relay.Secret) string {
	t.Helper()
	return newSealer(t, key).KeyIDs()[0]
}

func rekey(t *testing.T, p *process, dry bool) endpoint.Rekeyed {
	t.Helper()
	done, err := p.store.Rekey(t.Context(), dry, func(endpoint.Rekeyed) {})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// sealedWith counts the endpoints of whose secrets some are sealed with a key.
func sealedWith(t *testing.T, p *process, key relay.Secret) (n int) {
	t.Helper()
	err := p.pool.QueryRow(t.Context(), `SELECT count(*) FROM relay.endpoint_settings WHERE deleted_at IS NULL AND settings::text LIKE '%sealed:' || $1 || ':%'`,
		keyID(t, key)).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// manyEndpoints are several pages.
const manyEndpoints = 450

func putMany(p *process) {
	p.t.Helper()
	for i := range manyEndpoints {
		p.put(fmt.Sprintf(`{"name": "e%03d", "url": "https://shop.example/%[1]d?token=%[1]d", "secrets": [%[2]q], "headers": {"X-Api-Key": "%[1]d"},
			"basic": {"user": "relay", "password": "p%[1]d"}}`, i, secret))
	}
}

func TestRekey(t *testing.T) {
	url := testdb.New(t)
	old := withKeys(t, url, oldKey)
	putMany(old)
	old.put(`{"name": "open", "url": "https://open.example/"}`)
	gone := old.put(`{"name": "gone", "url": "https://gone.example/", "bearer": "x"}`)
	if err := old.store.Delete(t.Context(), gone.State.Key, "test"); err != nil {
		t.Fatal(err)
	}
	both := withKeys(t, url, newKey, oldKey)
	before := map[string]int{keyID(t, oldKey): manyEndpoints}
	for _, dry := range []bool{true, false} {
		done := rekey(t, both, dry)
		if done.Endpoints != manyEndpoints+1 || done.Resealed != manyEndpoints || fmt.Sprint(done.Before) != fmt.Sprint(before) || len(done.Faulty) > 0 {
			t.Errorf("dry %v: %+v", dry, done)
		}
		if left := sealedWith(t, both, oldKey); dry && left != manyEndpoints || !dry && left != 0 {
			t.Errorf("dry %v: %d endpoints have the old key", dry, left)
		}
	}
	if done := rekey(t, both, false); done.Resealed != 0 || done.Endpoints != manyEndpoints+1 {
		t.Errorf("again: %+v", done)
	}
	alone := withKeys(t, url, newKey)
	if err := alone.store.Locked(); err != nil {
		t.Error(err)
	}
	for i := range manyEndpoints {
		ep := found(t, alone, fmt.Sprintf("e%03d", i), "")
		if ep.Held != "" || string(ep.Secrets[0]) != secret || ep.Header.Get("X-Api-Key") != fmt.Sprint(i) || ep.Header.Get("Authorization") == "" || !strings.HasSuffix(ep.URL, fmt.Sprint("?token=", i)) {
			t.Fatalf("endpoint %d, with the new key alone: %+v", i, ep)
		}
	}
}

func TestRekeyIsInterruptedAndRepeated(t *testing.T) {
	url := testdb.New(t)
	putMany(withKeys(t, url, oldKey))
	both := withKeys(t, url, newKey, oldKey)
	ctx, cancel := context.WithCancel(t.Context())
	first, err := both.store.Rekey(ctx, false, func(endpoint.Rekeyed) { cancel() })
	if !errors.Is(err, context.Canceled) || first.Resealed == 0 || first.Resealed == manyEndpoints {
		t.Fatalf("interrupted: %+v, %v", first, err)
	}
	if left := sealedWith(t, both, oldKey); left != manyEndpoints-first.Resealed {
		t.Errorf("%d are left, and %d were sealed", left, first.Resealed)
	}
	if rest := rekey(t, both, false); rest.Resealed != manyEndpoints-first.Resealed || sealedWith(t, both, oldKey) != 0 {
		t.Errorf("the rest: %+v after %+v", rest, first)
	}
}

// Somebody changes an endpoint after rekey has read it and before it writes: the
// change stays, and is sealed anew too.
func TestRekeyKeepsWhatChangesMeanwhile(t *testing.T) {
	url := testdb.New(t)
	old := withKeys(t, url, oldKey)
	old.put(`{"name": "orders", "url": "https://shop.example/", "bearer": "before"}`)
	old.put(`{"name": "other", "url": "https://other.example/", "bearer": "same"}`)
	changed := old.put(`{"name": "copy", "url": "https://copy.example/", "bearer": "after"}`)
	both := withKeys(t, url, newKey, oldKey)

	tx, err := both.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	// A change that is not committed holds up rekey, which has read by then.
	if _, err := tx.Exec(t.Context(), `UPDATE relay.endpoint_settings SET settings = settings || '{"rate": 7}' WHERE name = 'orders'`); err != nil {
		t.Fatal(err)
	}
	ended := make(chan endpoint.Rekeyed, 1)
	go func() {
		done, err := both.store.Rekey(context.WithoutCancel(t.Context()), false, func(endpoint.Rekeyed) {})
		if err != nil {
			t.Error(err)
		}
		ended <- done
	}()
	waits(t, both)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if done := <-ended; done.Resealed != 3 || done.Before[keyID(t, oldKey)] != 3 || done.Endpoints != 3 {
		t.Errorf("%+v", done)
	}
	if left := sealedWith(t, both, oldKey); left != 0 {
		t.Errorf("%d are left", left)
	}
	alone := withKeys(t, url, newKey)
	if ep := found(t, alone, "orders", ""); ep.Rate != 7 || ep.Header.Get("Authorization") != "Bearer before" {
		t.Errorf("the change is lost: %+v", ep)
	}
	if ep := found(t, alone, changed.Name, ""); ep.Header.Get("Authorization") != "Bearer after" {
		t.Errorf("%+v", ep)
	}
}

// waits until somebody waits for the lock of the table's changes.
func waits(t *testing.T, p *process) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(relaytest.Patience); ; <-tick.C {
		var n int
		err := p.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("nobody waits")
		}
	}
}

// What does not open stays, is named, and keeps the old key from being taken for
// needless. It does not keep the rest from being sealed.
func TestRekeyNamesWhatItCannotOpen(t *testing.T) {
	url := testdb.New(t)
	lost := endpoint.NewSealingKey()
	withKeys(t, url, lost).put(`{"name": "lost", "tenant": "acme", "url": "https://shop.example/", "bearer": "canary"}`)
	old := withKeys(t, url, oldKey)
	old.put(`{"name": "plain", "url": "https://plain.example/", "bearer": "x"}`)
	old.put(`{"name": "copied", "url": "https://copied.example/", "bearer": "x"}`)
	old.put(`{"name": "strange", "url": "https://strange.example/", "bearer": "x"}`)
	old.put(`{"name": "good", "url": "https://good.example/", "bearer": "x"}`)
	old.exec(`UPDATE relay.endpoint_settings SET settings = settings || '{"bearer": "canary"}' WHERE name = 'plain'`)
	old.exec(`UPDATE relay.endpoint_settings c SET settings = g.settings FROM relay.endpoint_settings g WHERE c.name = 'copied' AND g.name = 'good'`)
	old.exec(`UPDATE relay.endpoint_settings SET settings = settings || '{"colour": "red"}' WHERE name = 'strange'`)
	both := withKeys(t, url, newKey, oldKey)
	done := rekey(t, both, false)
	said := strings.Join(done.Faulty, "\n")
	for _, want := range []string{
		`"lost" of tenant "acme": bearer: sealed with key ` + keyID(t, lost) + ", which is not in sealing.keys", `"plain": bearer: is not sealed`,
		`"copied": bearer: does not open with its key ` + keyID(t, oldKey), `"strange": colour: `,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q", want)
		}
	}
	if len(done.Faulty) != 4 || done.Resealed != 1 || strings.Contains(said, "canary") {
		t.Errorf("%+v", done)
	}
	if _, err := withKeys(t, url).store.Rekey(t.Context(), false, nil); !errors.Is(err, endpoint.ErrNoSealingKey) {
		t.Errorf("without a key: %v", err)
	}
}

// A process without the key knows what it cannot open, until it is given the key.
func TestLockedEndpointsAreNamed(t *testing.T) {
	url := testdb.New(t)
	old := withKeys(t, url, oldKey)
	old.put(`{"name": "orders", "url": "https://shop.example/", "bearer": "canary", "tenant": "acme"}`)
	for i := range 7 {
		old.put(fmt.Sprintf(`{"name": "e%d", "url": "https://shop.example/%[1]d", "secrets": [%[2]q]}`, i, secret))
	}
	sealer := newSealer(t, newKey)
	other := startProcess(t, url, endpoint.StoreOptions{Sealer: sealer, Poll: 10 * time.Millisecond})
	err := other.store.Locked()
	if err == nil {
		t.Fatal("nothing is locked")
	}
	for _, want := range []string{keyID(t, oldKey), `"e0", "e1", "e2", "e3", "e4", 3 more`, "sealing.keys", "SECURITY.md"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "canary") || old.store.Locked() != nil {
		t.Errorf("%v; with the key: %v", err, old.store.Locked())
	}
	if err := sealer.Replace(newKey, oldKey); err != nil {
		t.Fatal(err)
	}
	if err := other.store.Load(t.Context()); err != nil || other.store.Locked() != nil {
		t.Errorf("with the key again: %v, %v", err, other.store.Locked())
	}
	if ep := found(t, other, "e0", ""); ep.Held != "" || len(ep.Secrets) != 1 {
		t.Errorf("with the key again: %+v", ep)
	}

	// Of what was sealed with another key it hears while it works, and that it is gone.
	third := withKeys(t, url, endpoint.NewSealingKey())
	entry := third.put(`{"name": "third", "url": "https://third.example/", "bearer": "x"}`)
	other.soon("third", "", func(ep relay.Endpoint, _ error) bool { return strings.HasPrefix(ep.Held, "faulty: ") })
	if err := other.store.Locked(); err == nil || !strings.Contains(err.Error(), `"third"`) {
		t.Errorf("%v", err)
	}
	if err := other.store.Delete(t.Context(), entry.State.Key, "test"); err != nil || other.store.Locked() != nil {
		t.Errorf("after it was deleted: %v, %v", err, other.store.Locked())
	}
}
