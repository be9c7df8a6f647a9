package relay_test

import (
	"testing"

	"github.com/relaywebhooks/relay"
)

func BenchmarkCheckURL(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := relay.CheckURL("https://example.com/hooks/orders?shop=17"); err != nil {
			b.Fatal(err)
		}
	}
}
