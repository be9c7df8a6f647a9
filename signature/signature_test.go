package signature_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/relaywebhooks/relay/signature"
)

const (
	secret1 = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secret2 = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	public  = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
)

// vectors are those that the reference libraries (v1) and Svix (v1a) test with.
var vectors = []struct {
	name, secret, id string
	at               int64
	body, want       string
}{
	{
		"V1", secret1, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, `{"test": 2432232314}`,
		"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
	},
	{
		"V2", secret2, "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1649367553, `{"email":"test@example.com","username":"test_user"}`,
		"v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
	},
	{
		"V3", private, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, `{"test": 2432232314}`,
		"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
	},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		for _, secret := range []string{v.secret, strings.TrimPrefix(v.secret, "whsec_")} {
			got, err := signature.Sign(v.id, time.Unix(v.at, 999), []byte(v.body), secret)
			if err != nil || got != v.want {
				t.Errorf("%s: got %q, %v; want %q", v.name, got, err, v.want)
			}
		}
	}
}

func TestSeveralSecrets(t *testing.T) {
	v := vectors[0]
	got, err := signature.Sign(v.id, time.Unix(v.at, 0), []byte(v.body), private, secret1)
	if want := vectors[2].want + " " + v.want; err != nil || got != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func TestSeedAlone(t *testing.T) {
	both, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(private, "whsk_"))
	if err != nil {
		t.Fatal(err)
	}
	v := vectors[2]
	seed := "whsk_" + base64.StdEncoding.EncodeToString(both[:ed25519.SeedSize])
	if got, err := signature.Sign(v.id, time.Unix(v.at, 0), []byte(v.body), seed); err != nil || got != v.want {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestUnusableSecrets(t *testing.T) {
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{'K'}, n)) }
	bad := map[string]string{
		"empty": "", "prefix alone": "whsec_", "23 bytes": "whsec_" + b64(23), "65 bytes": "whsec_" + b64(65),
		"unpadded": "whsec_" + strings.TrimRight(b64(25), "="), "URL alphabet": "whsec_" + strings.Repeat("-_", 16),
		"line break": "whsec_" + b64(24) + "\n", "loose bits": "whsec_" + b64(24) + "KB==", "public": public,
		"private of 31 bytes": "whsk_" + b64(31), "private of 33 bytes": "whsk_" + b64(33), "mixed halves": "whsk_" + b64(64),
		"private, not base64": "whsk_KKKK!",
	}
	for name, secret := range bad {
		_, err := signature.NewSigner(secret1, secret)
		if !errors.Is(err, signature.ErrSecret) || !strings.Contains(err.Error(), "secret 2 of 2") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "KKKK") || strings.Contains(err.Error(), "1SiA")) {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
	for name, secret := range map[string]string{"private": private, "public of 31 bytes": "whpk_" + b64(31), "not base64": "whpk_!", "symmetric": "whsec_" + b64(1)} {
		if _, err := signature.NewVerifier(secret); !errors.Is(err, signature.ErrSecret) {
			t.Errorf("verifier, %s: %v", name, err)
		}
	}
	for _, n := range []int{24, 64} {
		if _, err := signature.NewSigner("whsec_" + b64(n)); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := signature.NewSigner(); !errors.Is(err, signature.ErrSecret) {
		t.Errorf("no secret: %v", err)
	}
	if _, err := signature.NewSigner(slices.Repeat([]string{secret1}, 32)...); err != nil {
		t.Errorf("32 secrets: %v", err)
	}
	if _, err := signature.NewSigner(slices.Repeat([]string{secret1}, 33)...); !errors.Is(err, signature.ErrSecret) {
		t.Errorf("33 secrets: %v", err)
	}
	if _, err := signature.NewVerifier(); !errors.Is(err, signature.ErrSecret) {
		t.Errorf("no secret: %v", err)
	}
}

// One fault does not hide another.
func TestEverySecretAtFaultIsNamed(t *testing.T) {
	_, err := signature.NewSigner("", secret1, "whsec_", private, public)
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"secret 1 of 5", "secret 3 of 5", "secret 5 of 5"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if n := strings.Count(err.Error(), " of 5"); n != 3 {
		t.Errorf("%d faults in %v", n, err)
	}
}

// A Signer that nobody gave a secret must not make an empty signature.
func TestNothingIsSignedWithNothing(t *testing.T) {
	if header, err := new(signature.Signer).Sign("msg_1", time.Now(), nil); !errors.Is(err, signature.ErrSecret) || header != "" {
		t.Errorf("signed %q, %v", header, err)
	}
	h := headers("msg_1", fmt.Sprint(time.Now().Unix()), "v1,")
	if err := new(signature.Verifier).Verify(h, nil); !errors.Is(err, signature.ErrNoMatch) {
		t.Errorf("verified with nothing: %v", err)
	}
}

func TestPublic(t *testing.T) {
	if got, err := signature.Public(private); err != nil || got != public {
		t.Errorf("got %q, %v", got, err)
	}
	for _, secret := range []string{"", secret1, public, "whsk_", "whsk_KKKK!"} {
		if _, err := signature.Public(secret); !errors.Is(err, signature.ErrSecret) || strings.Contains(err.Error(), "KKKK") {
			t.Errorf("of %q: %v", secret, err)
		}
	}
}

func TestUnusableIDs(t *testing.T) {
	for _, id := range []string{"", ".", "a.b", "msg."} {
		if _, err := signature.Sign(id, time.Now(), nil, secret1); !errors.Is(err, signature.ErrID) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// The official library believes what we sign, whatever the body, and one Signer
// serves many goroutines.
func TestOfficialLibraryVerifies(t *testing.T) {
	official, err := standardwebhooks.NewWebhook(secret1)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.NewSigner(secret2, private, secret1)
	if err != nil {
		t.Fatal(err)
	}
	bodies := [][]byte{nil, {}, []byte("{}"), []byte("{{ not json"), {0, 0xff, 0xfe, '\r', '\n', '.'}, bytes.Repeat([]byte("é"), 1<<19)}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i, body := range bodies {
				id, at := fmt.Sprintf("msg_%d_%d", n, i), time.Now()
				header, err := signer.Sign(id, at, body)
				if err != nil {
					t.Error(err)
					continue
				}
				h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {fmt.Sprint(at.Unix())}, "Webhook-Signature": {header}}
				if err := official.Verify(body, h); err != nil {
					t.Errorf("body %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkSign(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 2048)
	for name, secret := range map[string]string{"v1": secret1, "v1a": private} {
		b.Run(name, func(b *testing.B) {
			s, err := signature.NewSigner(secret)
			if err != nil {
				b.Fatal(err)
			}
			at := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, body); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("new/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := signature.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Time{}, body, secret); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	body, at := bytes.Repeat([]byte("x"), 2048), time.Now()
	for _, k := range []struct{ name, sign, verify string }{{"v1", secret1, secret1}, {"v1a", private, public}} {
		b.Run(k.name, func(b *testing.B) {
			header, err := signature.Sign("msg_1", at, body, k.sign)
			if err != nil {
				b.Fatal(err)
			}
			v, err := signature.NewVerifier(k.verify)
			if err != nil {
				b.Fatal(err)
			}
			h := http.Header{"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {fmt.Sprint(at.Unix())}, "Webhook-Signature": {header}}
			b.ReportAllocs()
			for b.Loop() {
				if err := v.Verify(h, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
