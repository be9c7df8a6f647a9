package signature_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay/signature"
)

func headers(id, stamp, list string) http.Header {
	h := http.Header{}
	h.Set(signature.HeaderID, id)
	h.Set(signature.HeaderTimestamp, stamp)
	h.Set(signature.HeaderSignature, list)
	return h
}

func mustVerifier(t testing.TB, secrets ...string) *signature.Verifier {
	t.Helper()
	v, err := signature.NewVerifier(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVectorsVerify(t *testing.T) {
	for _, c := range vectors {
		v := mustVerifier(t, secret2, public, secret1)
		v.Tolerance = -1
		h := headers(c.id, fmt.Sprint(c.at), c.want)
		if err := v.Verify(h, []byte(c.body)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := v.Verify(h, []byte(c.body+" ")); !errors.Is(err, signature.ErrNoMatch) {
			t.Errorf("%s, another body: %v", c.name, err)
		}
	}
}

// verifyCases are those that the suites of the reference libraries share.
var verifyCases = []struct {
	name string
	off  time.Duration // of the timestamp from now
	edit func(h http.Header)
	want error
}{
	{"good", 0, func(http.Header) {}, nil},
	{"no id", 0, func(h http.Header) { h.Del("webhook-id") }, signature.ErrMissingHeader},
	{"no timestamp", 0, func(h http.Header) { h.Del("webhook-timestamp") }, signature.ErrMissingHeader},
	{"no signature", 0, func(h http.Header) { h.Del("webhook-signature") }, signature.ErrMissingHeader},
	{"id with a dot", 0, func(h http.Header) { h.Set("webhook-id", "msg.1") }, signature.ErrID},
	{"another id", 0, func(h http.Header) { h.Set("webhook-id", "msg_2") }, signature.ErrNoMatch},
	{"timestamp in words", 0, func(h http.Header) { h.Set("webhook-timestamp", "hello") }, signature.ErrTimestamp},
	{"timestamp with a fraction", 0, func(h http.Header) { h.Set("webhook-timestamp", "1.5") }, signature.ErrTimestamp},
	{"timestamp too long", 0, func(h http.Header) { h.Set("webhook-timestamp", strings.Repeat("9", 40)) }, signature.ErrTimestamp},
	{"timestamp at the end of time", 0, func(h http.Header) { h.Set("webhook-timestamp", "9223372036854775807") }, signature.ErrTimestamp},
	{"timestamp before 1970", 0, func(h http.Header) { h.Set("webhook-timestamp", "-1") }, signature.ErrTimestamp},
	{"timestamp in the year 9999", 0, func(h http.Header) { h.Set("webhook-timestamp", "253402300799") }, signature.ErrTooNew},
	{"timestamp zero", 0, func(h http.Header) { h.Set("webhook-timestamp", "0") }, signature.ErrTooOld},
	{"wrong signature", 0, func(h http.Header) { h.Set("webhook-signature", vectors[0].want) }, signature.ErrNoMatch},
	{"version alone", 0, func(h http.Header) { h.Set("webhook-signature", "v1,") }, signature.ErrNoMatch},
	{"no comma", 0, func(h http.Header) { h.Set("webhook-signature", "v1") }, signature.ErrNoMatch},
	{"truncated", 0, func(h http.Header) { s := h.Get("webhook-signature"); h.Set("webhook-signature", s[:len(s)-8]) }, signature.ErrNoMatch},
	{"another version", 0, func(h http.Header) { h.Set("webhook-signature", "v1a"+h.Get("webhook-signature")[2:]) }, signature.ErrNoMatch},
	{"oldest", -5 * time.Minute, func(http.Header) {}, nil},
	{"too old", -5*time.Minute - time.Second, func(http.Header) {}, signature.ErrTooOld},
	{"newest", 5 * time.Minute, func(http.Header) {}, nil},
	{"too new", 5*time.Minute + time.Second, func(http.Header) {}, signature.ErrTooNew},
	{"among others", 0, func(h http.Header) {
		h.Set("webhook-signature", vectors[0].want+" v2,"+h.Get("webhook-signature")[3:]+"  "+h.Get("webhook-signature")+" "+vectors[1].want)
	}, nil},
	{"behind too many others", 0, func(h http.Header) {
		h.Set("webhook-signature", strings.Repeat(vectors[0].want+" ", 32)+h.Get("webhook-signature"))
	}, signature.ErrNoMatch},
}

// The clock is synctest's, so the edges of the tolerance are exact.
func TestVerify(t *testing.T) {
	const id, body = "msg_1", `{"test": 2432232314}`
	sign := func(at time.Time, secret string) string {
		s, err := signature.Sign(id, at, []byte(body), secret)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, k := range []struct{ sign, verify string }{{secret1, secret1}, {secret1, secret1[6:]}, {private, public}} {
		for _, c := range verifyCases {
			if strings.HasPrefix(k.sign, "whsk_") && c.name == "another version" {
				continue
			}
			t.Run(k.verify[:5]+"/"+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					at := time.Now().Add(c.off)
					h := headers(id, fmt.Sprint(at.Unix()), sign(at, k.sign))
					if k.sign == private && c.name == "among others" {
						h.Set("webhook-signature", vectors[2].want+" "+h.Get("webhook-signature"))
					} else {
						c.edit(h)
					}
					if err := mustVerifier(t, k.verify).Verify(h, []byte(body)); !errors.Is(err, c.want) {
						t.Fatalf("got %v, want %v", err, c.want)
					}
				})
			})
		}
	}
}

func TestVerifyAtOnce(t *testing.T) {
	at := time.Now()
	list, err := signature.Sign("msg_1", at, []byte("{}"), private, secret2)
	if err != nil {
		t.Fatal(err)
	}
	h := headers("msg_1", fmt.Sprint(at.Unix()), list)
	for _, secrets := range [][]string{{secret2}, {public}, {secret1, secret2}} {
		if err := signature.Verify(h, []byte("{}"), secrets...); err != nil {
			t.Error(err)
		}
	}
	if err := signature.Verify(h, []byte("{}"), secret1); !errors.Is(err, signature.ErrNoMatch) {
		t.Errorf("another secret: %v", err)
	}
	if err := signature.Verify(h, []byte("{}")); !errors.Is(err, signature.ErrSecret) {
		t.Errorf("no secret: %v", err)
	}
}

// Go reads loose bits and line breaks where the other libraries compare texts.
func TestASignatureIsWrittenInOneWayOnly(t *testing.T) {
	v := vectors[0]
	verifier := mustVerifier(t, secret1)
	verifier.Tolerance = -1
	for _, list := range []string{
		strings.TrimSuffix(v.want, "E=") + "F=", strings.TrimSuffix(v.want, "="), v.want[:9] + "\n" + v.want[9:], "v1,AAAA\t" + v.want,
		strings.ToUpper(v.want[:1]) + v.want[1:],
	} {
		if err := verifier.Verify(headers(v.id, fmt.Sprint(v.at), list), []byte(v.body)); !errors.Is(err, signature.ErrNoMatch) {
			t.Errorf("%q: %v", list, err)
		}
	}
}

func TestTolerance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now()
		list, err := signature.Sign("msg_1", at, nil, secret1)
		if err != nil {
			t.Fatal(err)
		}
		h, v := headers("msg_1", fmt.Sprint(at.Unix()), list), mustVerifier(t, secret1)
		v.Tolerance = time.Hour
		time.Sleep(time.Hour)
		if err := v.Verify(h, nil); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if err := v.Verify(h, nil); !errors.Is(err, signature.ErrTooOld) {
			t.Error(err)
		}
	})
}

func TestRequest(t *testing.T) {
	body, at := []byte("{\x00\xff}"), time.Now()
	list, err := signature.Sign("msg_1", at, body, secret1)
	if err != nil {
		t.Fatal(err)
	}
	request := func(b io.Reader) *http.Request {
		r := httptest.NewRequest(http.MethodPost, "/", b)
		r.Header = headers("msg_1", fmt.Sprint(at.Unix()), list)
		return r
	}
	v := mustVerifier(t, secret1)
	v.MaxBody = int64(len(body))

	r := request(bytes.NewReader(body))
	got, err := v.Request(r)
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("got %q, %v", got, err)
	}
	if again, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(again, body) {
		t.Errorf("read again: %q, %v", again, err)
	}
	if _, err := v.Request(request(strings.NewReader("other"))); !errors.Is(err, signature.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := v.Request(request(strings.NewReader("o"))); !errors.Is(err, signature.ErrNoMatch) {
		t.Errorf("another body: %v", err)
	}
	if _, err := v.Request(request(iotest.ErrReader(io.ErrUnexpectedEOF))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("unreadable: %v", err)
	}
}
