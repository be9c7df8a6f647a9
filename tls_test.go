package relay_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/relaywebhooks/relay"
)

// pair makes a certificate and its key, in PEM.
func pair(t testing.TB) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(-time.Hour)} // expired, which is no fault
	der, err := x509.CreateCertificate(rand.Reader, c, c, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func TestCheckTLS(t *testing.T) {
	certificate, key := pair(t)
	other, otherKey := pair(t)
	block := func(kind, bytes string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(bytes)})
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, []byte("a comment\n")) }
	public, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		tls  *relay.TLS
		want string // all faults; "" for none
	}{
		{"nil", nil, ""},
		{"nothing", &relay.TLS{}, ""},
		{"authorities", &relay.TLS{Authorities: join(certificate, other)}, ""},
		{"a pair", &relay.TLS{Certificate: certificate, Key: relay.Secret(key)}, ""},
		{"a pair with a chain", &relay.TLS{Certificate: join(certificate, other), Key: relay.Secret(key)}, ""},
		{"everything", &relay.TLS{Authorities: other, Certificate: certificate, Key: relay.Secret(key)}, ""},
		{"a key with its parameters", &relay.TLS{Certificate: certificate, Key: relay.Secret(join(block("EC PARAMETERS", "x"), key))}, ""},

		{"no authorities", &relay.TLS{Authorities: []byte{}}, "ca: is not PEM, which begins with -----BEGIN"},
		{"authorities that are a path", &relay.TLS{Authorities: []byte("/etc/ssl/ca.pem")}, "ca: is not PEM, which begins with -----BEGIN"},
		{"authorities in DER", &relay.TLS{Authorities: []byte("\x30\x82\x01\x00")}, "ca: is not PEM, which begins with -----BEGIN"},
		{"authorities cut off", &relay.TLS{Authorities: certificate[:len(certificate)-20]}, "ca: 1 of its 1 parts cannot be read as PEM"},
		{"the second authority cut off", &relay.TLS{Authorities: join(certificate, other[:len(other)-20])}, "ca: 1 of its 2 parts cannot be read as PEM"},
		{"an authority that is none", &relay.TLS{Authorities: join(certificate, block("CERTIFICATE", "x"))}, "ca: part 2 is a certificate that cannot be read"},
		{"an authority that is a public key", &relay.TLS{Authorities: block("PUBLIC KEY", string(public))}, "ca: part 1 is no certificate"},
		{"authorities with a key", &relay.TLS{Authorities: join(certificate, key)}, "ca: holds a private key, which belongs into the setting key alone: it is kept secret there"},
		{"authorities without end", &relay.TLS{Authorities: bytes.Repeat([]byte("x"), relay.MaxPEM+1)}, "ca: 262145 bytes, more than 262144"},

		{"a certificate without a key", &relay.TLS{Certificate: certificate}, "key: is missing, and certificate is of no use without it"},
		{"a key without a certificate", &relay.TLS{Key: relay.Secret(key)}, "certificate: is missing, and key is of no use without it"},
		{"another's key", &relay.TLS{Certificate: certificate, Key: relay.Secret(otherKey)}, "key: is not the one that belongs to the first certificate of the chain"},
		{"the chain the wrong way round", &relay.TLS{Certificate: join(other, certificate), Key: relay.Secret(key)}, "key: is not the one that belongs to the first certificate of the chain"},
		{"certificate and key in one", &relay.TLS{Certificate: join(certificate, key), Key: relay.Secret(key)}, "certificate: holds a private key, which belongs into the setting key alone: it is kept secret there"},
		{"a key that is a certificate", &relay.TLS{Certificate: certificate, Key: relay.Secret(other)}, "key: holds no private key that relay can read"},
		{"a key that cannot be read", &relay.TLS{Certificate: certificate, Key: relay.Secret(block("PRIVATE KEY", "canary"))}, "key: holds no private key that relay can read"},
		{"a key with a passphrase", &relay.TLS{Certificate: certificate, Key: relay.Secret(block("ENCRYPTED PRIVATE KEY", "canary"))}, "key: is encrypted, and relay has no passphrase for it"},
		{"a key with a passphrase, as OpenSSL once wrote it", &relay.TLS{Certificate: certificate, Key: "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n"}, "key: is encrypted, and relay has no passphrase for it"},
		{"a key without PEM", &relay.TLS{Certificate: certificate, Key: "canary"}, "key: is not PEM, which begins with -----BEGIN"},

		{"three faults", &relay.TLS{Authorities: []byte("x"), Certificate: []byte("y"), Key: "z"}, "ca: is not PEM, which begins with -----BEGIN\ncertificate: is not PEM, which begins with -----BEGIN\nkey: is not PEM, which begins with -----BEGIN"},
	} {
		got := ""
		if err := relay.CheckTLS(c.tls); err != nil {
			got = err.Error()
		}
		if got != c.want || strings.Contains(got, "canary") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Whatever stands in the three texts: there is no panic, and no fault repeats the
// key.
func FuzzCheckTLS(f *testing.F) {
	certificate, key := pair(f)
	f.Add(certificate, certificate, string(key))
	f.Add([]byte("-----BEGIN X-----\n-----END X-----\n"), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), "-----BEGIN PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END PRIVATE KEY-----")
	f.Fuzz(func(t *testing.T, ca, certificate []byte, key string) {
		err := relay.CheckTLS(&relay.TLS{Authorities: ca, Certificate: certificate, Key: relay.Secret(key)})
		if err == nil {
			if ca != nil && !x509.NewCertPool().AppendCertsFromPEM(ca) {
				t.Error("there is no fault, and no authority either")
			}
			return
		}
		if len(err.Error()) > 500 || len(key) > 60 && strings.Contains(err.Error(), key) {
			t.Errorf("%q", err)
		}
	})
}
