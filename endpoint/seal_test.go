package endpoint_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/relaywebhooks/relay"
	"github.com/relaywebhooks/relay/endpoint"
)

func newSealer(t *testing.T, keys ...relay.Secret) *endpoint.Sealer {
	t.Helper()
	s, err := endpoint.NewSealer(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(t *testing.T, s *endpoint.Sealer, plain, about string) string {
	t.Helper()
	sealed, err := s.Seal(plain, about)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSealedSecretsOpen(t *testing.T) {
	s := newSealer(t, endpoint.NewSealingKey())
	rapid.Check(t, func(t *rapid.T) {
		plain, about := rapid.String().Draw(t, "plain"), rapid.String().Draw(t, "about")
		sealed, err := s.Seal(plain, about)
		if err != nil {
			t.Fatal(err)
		}
		if len(plain) > 3 && strings.Contains(sealed, plain) {
			t.Fatalf("%q holds what was sealed", sealed)
		}
		if opened, err := s.Open(sealed, about); err != nil || opened != plain {
			t.Fatalf("opened %q, %v; want %q", opened, err, plain)
		}
		if again, _ := s.Seal(plain, about); again == sealed {
			t.Fatal("one secret sealed twice gives one text: a nonce was used twice")
		}
	})
}

// S5: who can write to the table must not be able to move a secret to an endpoint of
// their own, nor an Authorization header into a header that is shown.
func TestSealedSecretOpensInItsPlaceOnly(t *testing.T) {
	s := newSealer(t, endpoint.NewSealingKey())
	sealed := seal(t, s, secret, "uvx5nwb6pa2uf6wt24djyzgcge secrets")
	for _, about := range []string{
		"bf6vmnqgc6ahfpaczqwg7tayfq secrets", "uvx5nwb6pa2uf6wt24djyzgcge headers", "uvx5nwb6pa2uf6wt24djyzgcge", "",
	} {
		opened, err := s.Open(sealed, about)
		if err == nil {
			t.Errorf("it opened for %q: %q", about, opened)
		} else if !strings.Contains(err.Error(), s.KeyIDs()[0]) {
			t.Errorf("the error does not name the key: %v", err)
		}
	}
}

func TestChangedSealedTextDoesNotOpen(t *testing.T) {
	s := newSealer(t, endpoint.NewSealingKey(), endpoint.NewSealingKey())
	for _, plain := range []string{secret, secret + "x", secret + "xy"} { // which end at different bits of base64's letters
		opensOnlyUnchanged(t, s, seal(t, s, plain, "about"))
	}
	sealed := seal(t, s, secret, "about")
	// What one key sealed must not open in the name of the other.
	ids := s.KeyIDs()
	if _, err := s.Open(strings.Replace(sealed, ids[0], ids[1], 1), "about"); err == nil {
		t.Error("it opened under the id of another key")
	}
}

func opensOnlyUnchanged(t *testing.T, s *endpoint.Sealer, sealed string) {
	t.Helper()
	for i := range len(sealed) {
		for _, c := range []byte{sealed[i] ^ 1, sealed[i] + 1, 'A', 'f', '\n', 0xff} {
			if changed := sealed[:i] + string([]byte{c}) + sealed[i+1:]; changed != sealed {
				if opened, err := s.Open(changed, "about"); err == nil {
					t.Fatalf("byte %d changed to %q: opened %q", i, c, opened)
				}
			}
		}
		if _, err := s.Open(sealed[:i], "about"); err == nil {
			t.Fatalf("it opened cut off after %d bytes", i)
		}
		if _, err := s.Open(sealed[:i]+"\n"+sealed[i:], "about"); err == nil {
			t.Fatalf("it opened with a line end at %d", i)
		}
	}
}

func TestSealingKeysAreReplaced(t *testing.T) {
	before, after := endpoint.NewSealingKey(), endpoint.NewSealingKey()
	old, both, only := newSealer(t, before), newSealer(t, after, before), newSealer(t, after)
	sealed := seal(t, old, secret, "about")
	if old.Stale(sealed) || !both.Stale(sealed) || !only.Stale(sealed) {
		t.Error("what the old key sealed is stale for all but the old key")
	}
	opened, err := both.Open(sealed, "about")
	if err != nil || opened != secret {
		t.Fatalf("with both keys: %q, %v", opened, err)
	}
	resealed := seal(t, both, opened, "about")
	if both.Stale(resealed) {
		t.Error("what the first key sealed is stale")
	}
	if opened, err = only.Open(resealed, "about"); err != nil || opened != secret {
		t.Errorf("without the old key: %q, %v", opened, err)
	}
	_, err = only.Open(sealed, "about")
	unknown, ok := errors.AsType[*endpoint.UnknownKeyError](err)
	if !ok || unknown.ID != old.KeyIDs()[0] {
		t.Fatalf("sealed with a key that is gone: %v", err)
	}
	if want := "sealed with key " + unknown.ID + ", which is not in sealing.keys"; err.Error() != want {
		t.Errorf("the error is %q, want %q", err, want)
	}
}

// A relay that runs is given other keys: what was sealed before opens for as long
// as its key is among them, and faulty keys change nothing.
func TestSealersKeysAreReplacedWhileItWorks(t *testing.T) {
	before, after := endpoint.NewSealingKey(), endpoint.NewSealingKey()
	s := newSealer(t, before)
	sealed := seal(t, s, secret, "about")
	for _, keys := range [][]relay.Secret{{after, before}, {after, "rsk_short", before}} {
		if err := s.Replace(keys...); (err == nil) != (len(keys) == 2) {
			t.Fatal(err)
		}
		if opened, err := s.Open(sealed, "about"); err != nil || opened != secret || !s.Stale(sealed) || len(s.KeyIDs()) != 2 {
			t.Errorf("opened %q, %v; keys %v", opened, err, s.KeyIDs())
		}
	}
	if err := s.Replace(after); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(sealed, "about"); err == nil {
		t.Error("it opens with a key that was taken away")
	}
}

func TestWithoutSealingKeys(t *testing.T) {
	none := newSealer(t)
	if _, err := none.Seal(secret, "about"); !errors.Is(err, endpoint.ErrNoSealingKey) ||
		!strings.Contains(err.Error(), "relay secret --sealing") || !strings.Contains(err.Error(), "sealing.keys") {
		t.Errorf("Seal: %v", err)
	}
	sealed := seal(t, newSealer(t, endpoint.NewSealingKey()), secret, "about")
	if _, err := none.Open(sealed, "about"); err == nil || !strings.Contains(err.Error(), "not in sealing.keys") {
		t.Errorf("Open: %v", err)
	}
	if none.Stale(sealed) {
		t.Error("something is to be sealed anew, with nothing")
	}
}

func TestPlainTextIsNotTakenForSealed(t *testing.T) {
	s := newSealer(t, endpoint.NewSealingKey())
	for _, plain := range []string{
		"", secret, "sealed:", "sealed:" + secret, "sealed:zzzzzzzz:AAAA", "sealed:ABCDEF01:AAAA", "Sealed:abcdef01:AAAA",
		"sealed:abcdef01", "sealed:abcdef0:AAAA", "sealed:" + s.KeyIDs()[0] + ":", "sealed:" + s.KeyIDs()[0] + ":AAAA",
	} {
		_, err := s.Open(plain, "about")
		if err == nil {
			t.Errorf("%q opened", plain)
		} else if strings.Contains(err.Error(), "MfKQ9r8G") {
			t.Errorf("%q: the error shows it: %v", plain, err)
		}
		if plain != "sealed:"+s.KeyIDs()[0]+":" && plain != "sealed:"+s.KeyIDs()[0]+":AAAA" && !s.Stale(plain) {
			t.Errorf("%q needs no sealing", plain)
		}
	}
}

func TestNewSealerNamesEveryFault(t *testing.T) {
	good := endpoint.NewSealingKey()
	_, err := endpoint.NewSealer(good, "", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "rsk_c2hvcnQ=", good+"\n", good[:20], good)
	if err == nil {
		t.Fatal("no fault was found")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 6 {
		t.Errorf("%d faults, want 6: %v", len(lines), err)
	}
	for i, line := range lines {
		if want := fmt.Sprintf("endpoint: sealing key %d of 7: ", i+2); !strings.HasPrefix(line, want) {
			t.Errorf("fault %d is %q, want %q", i+1, line, want)
		}
	}
	for _, part := range []string{string(good[4:12]), "MfKQ9r8G", "c2hvcnQ"} {
		if strings.Contains(err.Error(), part) {
			t.Errorf("the error shows a key: %v", err)
		}
	}
}

func TestSealerPrintsNoKey(t *testing.T) {
	key := endpoint.NewSealingKey()
	s := newSealer(t, key)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		printed := fmt.Sprintf(verb, s) + fmt.Sprintf(verb, key)
		// A cipher that prints itself prints its round keys: thousands of digits.
		if strings.Contains(printed, string(key)) || len(printed) > 500 {
			t.Errorf("printed as %s: %s", verb, printed)
		}
	}
}

func TestSealerIsSafeForConcurrentUse(t *testing.T) {
	s := newSealer(t, endpoint.NewSealingKey())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 100 {
				about := fmt.Sprint(i)
				sealed, err := s.Seal(secret, about)
				if err != nil {
					t.Error(err)
				} else if opened, err := s.Open(sealed, about); err != nil || opened != secret {
					t.Errorf("opened %q, %v", opened, err)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzOpen: the text comes out of a database that others may write to. Nothing
// opens but what was sealed, as it was written and where it belongs.
func FuzzOpen(f *testing.F) {
	const key = "rsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	s, err := endpoint.NewSealer(key, "rsk_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=")
	if err != nil {
		f.Fatal(err)
	}
	plains := []string{"", "x", secret}
	for _, plain := range plains {
		sealed, err := s.Seal(plain, "about")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sealed, "about")
		f.Add(sealed+"=", "about")
		f.Add(sealed, "other")
	}
	for _, id := range s.KeyIDs() {
		f.Add("sealed:"+id+":", "about")
		f.Add("sealed:"+id+":AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "about")
	}
	f.Add("sealed:00000000:AAAA", "about")
	f.Add(secret, "")
	f.Fuzz(func(t *testing.T, sealed, about string) {
		opened, err := s.Open(sealed, about)
		if err != nil {
			if len(err.Error()) > 200 {
				t.Fatalf("an error of %d bytes: %v", len(err.Error()), err)
			}
			return
		}
		encoded := sealed[strings.LastIndexByte(sealed, ':')+1:]
		raw, err := base64.RawURLEncoding.DecodeString(encoded)
		if about != "about" || !slices.Contains(plains, opened) || err != nil || base64.RawURLEncoding.EncodeToString(raw) != encoded {
			t.Fatalf("%q opened for %q: %q", sealed, about, opened)
		}
	})
}
