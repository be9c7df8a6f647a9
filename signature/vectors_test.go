package signature_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/relaywebhooks/relay/signature"
)

// written is what the official JavaScript library signed and believed, as
// testdata/javascript/generate.mjs wrote it down; "make interop" runs the library
// itself.
type written struct {
	Library string `json:"library"`
	Signed  []struct {
		Secret    string `json:"secret"`
		ID        string `json:"id"`
		Timestamp int64  `json:"timestamp"`
		Body      string `json:"body"`
		Signature string `json:"signature"`
	} `json:"signed"`
	Verified []struct {
		Name      string `json:"name"`
		Secret    string `json:"secret"`
		ID        string `json:"id"`
		Timestamp string `json:"timestamp"`
		Signature string `json:"signature"`
		Body      string `json:"body"`
		Believed  bool   `json:"believed"`
	} `json:"verified"`
}

func readWritten(t *testing.T) (w written) {
	t.Helper()
	text, err := os.ReadFile("testdata/javascript.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	if w.Library != "standardwebhooks 1.1.1" || len(w.Signed) != 56 || len(w.Verified) != 27 {
		t.Fatalf("%d signed and %d verified by %s", len(w.Signed), len(w.Verified), w.Library)
	}
	return w
}

// A signature of relay's is, byte for byte, that of the official JavaScript
// library.
func TestSignaturesAreThoseOfTheJavaScriptLibrary(t *testing.T) {
	for _, v := range readWritten(t).Signed {
		got, err := signature.Sign(v.ID, time.Unix(v.Timestamp, 0), []byte(v.Body), v.Secret)
		if err != nil || got != v.Signature {
			t.Errorf("%s: got %q, %v; want %q", v.ID, got, err, v.Signature)
		}
	}
}

// What one believes, the other does, to the second. The file was written at the
// moment at which the bubble's clock begins.
func TestVerifyBelievesWhatTheJavaScriptLibraryBelieves(t *testing.T) {
	for _, v := range readWritten(t).Verified {
		synctest.Test(t, func(t *testing.T) {
			err := signature.Verify(headers(v.ID, v.Timestamp, v.Signature), []byte(v.Body), v.Secret)
			if (err == nil) != v.Believed {
				t.Errorf("%s: %v; the library says %v", v.Name, fmt.Sprint(err), v.Believed)
			}
		})
	}
}
