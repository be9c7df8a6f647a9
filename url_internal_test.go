package relay

import (
	"fmt"
	"testing"
)

func TestFewURLsAreKnown(t *testing.T) {
	for i := range 5 * mostURLs {
		if _, err := readURL(fmt.Sprintf("https://example.com/%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	knownURLs.Range(func(any, any) bool { n++; return true })
	if _, known := knownURL(fmt.Sprintf("https://example.com/%d", 5*mostURLs-1)); n > mostURLs || !known {
		t.Errorf("%d are known; the last one: %v", n, known)
	}
}

// What is remembered of a URL is what reading it anew would say.
func FuzzReadURL(f *testing.F) {
	for _, raw := range []string{
		"", "?", "https://Example.com:443", "https://example.com?", "https://example.com/?", "https://example.com/a?b?c", "https://h/é?x=é",
		"https://h?a b", "https://h?a#b", "https://h#a?b", "//h?x", "https://u:p@h/?x", "https://h/%zz?x", "https://h/?%zz", "https://[::1]/?\x7f",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		want, wrong := checkURL(raw)
		for range 2 { // the second time it is known
			got, err := readURL(raw)
			if fmt.Sprint(err) != fmt.Sprint(wrong) || err == nil && got != want {
				t.Fatalf("%q: %+v, %v, want %+v, %v", raw, got, err, want, wrong)
			}
		}
	})
}
